"""What is remembered of PostgreSQL's answers, and for how long."""

from __future__ import annotations

import pytest

from dreamseed_cli.gateway.accounts.memory import Age, Memory
from dreamseed_cli.gateway.accounts.types import Account, Tier

_ACCOUNT = Account("u", Tier.PAID)


@pytest.mark.parametrize(
    ("seconds", "age"),
    [(0, Age.FRESH), (45, Age.FRESH), (46, Age.AGEING), (60, Age.AGEING), (61, Age.STALE), (1000, Age.STALE)],
)
def test_an_account_ages(seconds: float, age: Age) -> None:
    """Believed for cache_s, asked about again in its last quarter, kept for an outage until stale_s."""
    memory = Memory(cache_s=60, stale_s=1000)
    memory.learn("u", _ACCOUNT, 5.0)
    assert memory.recall("u", 5.0 + seconds) == (age, _ACCOUNT)
    assert memory.recall("u", 5.0 + 1001) is None


def test_that_nobody_is_known_is_believed_for_ten_seconds_at_most() -> None:
    """A user who is registered now gets in soon."""
    memory = Memory(cache_s=60, stale_s=1000)
    memory.learn(b"k", None, 0.0)
    assert memory.recall(b"k", 10.0) == (Age.FRESH, None)
    assert memory.recall(b"k", 10.1) is None
    hasty = Memory(cache_s=2, stale_s=1000)
    hasty.learn(b"k", None, 0.0)
    assert hasty.recall(b"k", 2.1) is None


def test_a_later_answer_replaces_an_earlier_one() -> None:
    """A key that was revoked is not believed as stale either; a user that was added is known."""
    memory = Memory(cache_s=60, stale_s=1000)
    memory.learn("u", _ACCOUNT, 0.0)
    memory.learn("u", None, 50.0)
    assert memory.recall("u", 51.0) == (Age.FRESH, None)
    assert memory.recall("u", 70.0) is None
    memory.learn("u", _ACCOUNT, 80.0)
    assert memory.recall("u", 80.0) == (Age.FRESH, _ACCOUNT)
    assert len(memory) == 1


def test_a_flood_of_inventions_displaces_no_account() -> None:
    """And takes bounded memory."""
    memory = Memory(cache_s=60, stale_s=1000, entries=10)
    memory.learn("u", _ACCOUNT, 0.0)
    for number in range(1000):
        memory.learn(str(number), None, 0.0)
    assert memory.recall("u", 1.0) == (Age.FRESH, _ACCOUNT)
    assert len(memory) == 11


def test_the_account_that_was_not_used_for_longest_is_forgotten_first() -> None:
    """Being used counts, not being learned."""
    memory = Memory(cache_s=60, stale_s=1000, entries=2)
    for name in ("a", "b"):
        memory.learn(name, Account(name, Tier.FREE), 0.0)
    memory.recall("a", 1.0)
    memory.learn("c", Account("c", Tier.FREE), 2.0)
    assert memory.recall("b", 2.0) is None
    assert memory.recall("a", 2.0) is not None


def test_a_user_named_like_a_hash_is_no_key() -> None:
    """Names and hashes never meet."""
    memory = Memory(cache_s=60, stale_s=1000)
    memory.learn(b"x" * 32, _ACCOUNT, 0.0)
    assert memory.recall("x" * 32, 0.0) is None
