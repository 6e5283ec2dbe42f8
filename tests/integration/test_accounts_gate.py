"""Every rule of the gate, on the real PostgreSQL."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack

import psycopg
import pytest

from dreamseed_cli.database.connection import connected
from dreamseed_cli.database.migrate import migrate
from dreamseed_cli.gateway.accounts import admin
from dreamseed_cli.gateway.accounts.directory import Directory
from dreamseed_cli.gateway.accounts.gate import Gate
from dreamseed_cli.gateway.accounts.keys import new_key
from dreamseed_cli.gateway.accounts.limits import UserLimits
from dreamseed_cli.gateway.accounts.memory import Memory
from dreamseed_cli.gateway.accounts.store import AccountStore
from dreamseed_cli.gateway.accounts.types import Grant, Tier
from dreamseed_cli.gateway.call import PriorityClass
from dreamseed_cli.gateway.metrics import GatewayMetrics
from dreamseed_cli.gateway.refusals import CannotVerify, NotPermitted, OverLimit, Unauthenticated
from dreamseed_cli.gateway.security.credentials import Credentials
from dreamseed_cli.profile.schema import Accounts, Limits

BATCH, STANDARD, PREMIUM = PriorityClass
TRUSTED = Credentials(trusted=True)
NOBODY = Credentials(trusted=False)


NOWHERE = "host=/nonexistent dbname=x"
# The rules are the same on a machine that is busy with other tests.
_PATIENCE_S = 5.0


def _key(text: str, *, trusted: bool = False) -> Credentials:
    return Credentials(trusted=trusted, api_key=text)


class House:
    """A migrated database with the users paid, free, background and gone (disabled), and gates on it."""

    def __init__(self, dsn: str, stack: AsyncExitStack) -> None:
        self.dsn = dsn
        self._stack = stack
        self.metrics = GatewayMetrics()
        self.now = time.monotonic()
        with connected(dsn) as connection:
            for tier in Tier:
                admin.add_user(connection, tier.value, tier)
            admin.add_user(connection, "gone", Tier.PAID)
            self.keys = {
                user: admin.create_key(connection, user)[0].text for user in (*map(str, Tier), "gone")
            }
            admin.set_disabled(connection, "gone", disabled=True)

    async def gate(self, *, dsn: str | None = None, **settings: object) -> Gate:
        """A gate with a store and memory of its own; its clock is `now`."""
        accounts = Accounts.model_validate(settings)
        store = AccountStore(dsn) if dsn else AccountStore(self.dsn, timeout_s=_PATIENCE_S)
        await store.open()
        self._stack.push_async_callback(store.close)
        memory = Memory(cache_s=accounts.cache_s, stale_s=accounts.stale_s)
        directory = Directory(store, memory, clock=self.clock)
        self._stack.push_async_callback(directory.close)
        return Gate(accounts, directory, UserLimits.of(accounts), self.metrics, clock=self.clock)

    def clock(self) -> float:
        return self.now


@pytest.fixture
async def house(postgres_dsn: str) -> AsyncIterator[House]:
    """Torn down with every store it opened."""
    migrate(postgres_dsn)
    async with AsyncExitStack() as stack:
        yield House(postgres_dsn, stack)


@pytest.mark.parametrize("user", ["paid", "free", "background"])
async def test_a_key_gives_its_users_tier(house: House, user: str) -> None:
    """Without a user_id, or with the key's own."""
    gate = await house.gate()
    expected = Grant(user, Tier(user), Tier(user).highest, clamped=user != "paid")
    for named in ("", user):
        assert await gate.admit(_key(house.keys[user]), named, PREMIUM) == expected


async def test_a_lower_priority_is_granted_as_asked(house: House) -> None:
    """A paid user's batch work stays batch work."""
    gate = await house.gate()
    for asked in PriorityClass:
        assert await gate.admit(_key(house.keys["paid"]), "", asked) == Grant(
            "paid", Tier.PAID, asked, clamped=False
        )


@pytest.mark.parametrize("trusted", [False, True])
async def test_a_key_does_not_speak_for_another_user(house: House, trusted: bool) -> None:
    """Not through a trusted caller either, who passed it on."""
    gate = await house.gate()
    with pytest.raises(NotPermitted, match="another user"):
        await gate.admit(_key(house.keys["free"], trusted=trusted), "paid", STANDARD)


async def test_what_is_no_key_is_refused_without_asking(house: House) -> None:
    """Garbage, an empty key, a typo: even while PostgreSQL is away."""
    gate = await house.gate(dsn=NOWHERE)
    for text in ("", "ds_", "sk-123", house.keys["paid"][:-1] + "!", "käy"):
        with pytest.raises(Unauthenticated):
            await gate.admit(_key(text), "", STANDARD)


async def test_a_well_formed_key_that_nobody_made_is_refused(house: House) -> None:
    """With the right checksum."""
    gate = await house.gate()
    with pytest.raises(Unauthenticated):
        await gate.admit(_key(new_key().text), "", STANDARD)


async def test_a_refusal_does_not_repeat_the_key(house: House) -> None:
    """Nor do its causes."""
    gate = await house.gate(dsn=NOWHERE)
    text = new_key().text
    with pytest.raises(CannotVerify) as refused:
        await gate.admit(_key(text), "", STANDARD)
    error: BaseException | None = refused.value
    while error is not None:
        assert text[3:12] not in f"{error!r}{error}"
        error = error.__cause__


async def test_an_expired_key_ends_on_time(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the clock, not when memory is refreshed: also while PostgreSQL is away."""
    with connected(house.dsn) as connection:
        made, _ = admin.create_key(connection, "paid", expires_days=1)
    gate = await house.gate(cache_s=3600.0)
    assert (await gate.admit(_key(made.text), "", PREMIUM)).priority is PREMIUM
    tomorrow = time.time() + 86_400.0
    monkeypatch.setattr(time, "time", lambda: tomorrow)
    with pytest.raises(Unauthenticated):
        await gate.admit(_key(made.text), "", PREMIUM)


async def test_a_disabled_user_is_not_let_in(house: House) -> None:
    """With a key or named by a trusted caller."""
    gate = await house.gate()
    with pytest.raises(NotPermitted, match="disabled"):
        await gate.admit(_key(house.keys["gone"]), "", STANDARD)
    with pytest.raises(NotPermitted, match="disabled"):
        await gate.admit(TRUSTED, "gone", STANDARD)


async def test_a_refusal_says_whose_request_it_was(house: House) -> None:
    """So that its event has its user: over the limit, above the tier, disabled, in another's name."""
    gate = await house.gate(above_tier="refuse", limits_background=Limits(requests_per_minute=1))
    await gate.admit(TRUSTED, "background", BATCH)
    for credentials, named, asked, kind, user in (
        (_key(house.keys["background"]), "", BATCH, OverLimit, "background"),
        (TRUSTED, "free", PREMIUM, NotPermitted, "free"),
        (TRUSTED, "gone", BATCH, NotPermitted, "gone"),
        (_key(house.keys["free"]), "paid", BATCH, NotPermitted, "free"),
        (_key(new_key().text), "paid", BATCH, Unauthenticated, ""),
    ):
        with pytest.raises(kind) as refused:
            await gate.admit(credentials, named, asked)
        assert refused.value.user_id == user


def _revoke(connection: psycopg.Connection) -> None:
    for key in admin.list_keys(connection, "paid"):
        admin.revoke_key(connection, key.id)


def _disable(connection: psycopg.Connection) -> None:
    admin.set_disabled(connection, "paid", disabled=True)


def _delete(connection: psycopg.Connection) -> None:
    connection.execute("DELETE FROM users WHERE id = 'paid'")


@pytest.mark.parametrize("change", [_revoke, _disable, _delete])
async def test_a_change_holds_within_cache_s(
    house: House, change: Callable[[psycopg.Connection], None]
) -> None:
    """Not before, to keep PostgreSQL in peace, and not a moment later, used or not."""
    gate = await house.gate(cache_s=60.0)
    await gate.admit(_key(house.keys["paid"]), "", PREMIUM)
    with connected(house.dsn) as connection:
        change(connection)
    house.now += 44.0
    assert (await gate.admit(_key(house.keys["paid"]), "", PREMIUM)).user_id == "paid"
    house.now += 16.1
    with pytest.raises((Unauthenticated, NotPermitted)):
        await gate.admit(_key(house.keys["paid"]), "", PREMIUM)


async def test_a_new_tier_holds_within_cache_s(house: House) -> None:
    """Up or down."""
    gate = await house.gate(cache_s=60.0)
    assert (await gate.admit(TRUSTED, "free", PREMIUM)).priority is STANDARD
    with connected(house.dsn) as connection:
        admin.set_tier(connection, "free", Tier.PAID)
    house.now += 60.1
    assert (await gate.admit(TRUSTED, "free", PREMIUM)).priority is PREMIUM


async def test_a_trusted_caller_names_its_user(house: House) -> None:
    """Registered: at its tier. Anybody else, and nobody: at the profile's."""
    gate = await house.gate()
    assert await gate.admit(TRUSTED, "paid", PREMIUM) == Grant("paid", Tier.PAID, PREMIUM, clamped=False)
    for name in ("stranger", "", "nul\0in it", "\N{HANGUL SYLLABLE GA}" * 256):
        assert await gate.admit(TRUSTED, name, PREMIUM) == Grant(name, Tier.FREE, STANDARD, clamped=True)


async def test_names_that_postgresql_cannot_hold_do_not_count_against_it(house: House) -> None:
    """Or any caller could open the breaker for all."""
    gate = await house.gate()
    for number in range(20):
        await gate.admit(TRUSTED, f"\0{number}", BATCH)
    assert (await gate.admit(TRUSTED, "paid", PREMIUM)).priority is PREMIUM


async def test_a_profile_may_answer_registered_users_only(house: House) -> None:
    """Then strangers and anonymous calls are refused, and who cannot be looked up may try again."""
    gate = await house.gate(unknown_user_tier="refuse")
    assert (await gate.admit(TRUSTED, "free", STANDARD)).user_id == "free"
    for name in ("stranger", ""):
        with pytest.raises(NotPermitted, match="registered"):
            await gate.admit(TRUSTED, name, STANDARD)
    alone = await house.gate(dsn=NOWHERE, unknown_user_tier="refuse")
    with pytest.raises(CannotVerify):
        await alone.admit(TRUSTED, "free", STANDARD)


async def test_a_profile_may_refuse_what_is_above_the_tier(house: House) -> None:
    """Instead of lowering it."""
    gate = await house.gate(above_tier="refuse")
    with pytest.raises(NotPermitted, match="STANDARD at most"):
        await gate.admit(TRUSTED, "free", PREMIUM)
    assert (await gate.admit(TRUSTED, "free", STANDARD)).priority is STANDARD


async def test_who_shows_nothing_is_not_let_in(house: House) -> None:
    """Whatever user it names."""
    gate = await house.gate()
    for name in ("", "paid"):
        with pytest.raises(Unauthenticated):
            await gate.admit(NOBODY, name, BATCH)


async def test_without_postgresql_trusted_callers_get_what_they_ask_for(house: House) -> None:
    """`services.postgres` off: no tiers. Keys are unknown, everybody else stays out."""
    accounts = Accounts()
    gate = Gate(accounts, None, UserLimits.of(accounts), house.metrics)
    for name in ("", "anybody"):
        for asked in PriorityClass:
            grant = await gate.admit(TRUSTED, name, asked)
            assert (grant.priority, grant.clamped) == (asked, False)
    with pytest.raises(Unauthenticated):
        await gate.admit(_key(house.keys["paid"]), "", STANDARD)
    with pytest.raises(Unauthenticated):
        await gate.admit(NOBODY, "", STANDARD)


async def test_named_users_are_limited_by_their_tier(house: House) -> None:
    """The free tier's 60 requests a minute hold for strangers too; anonymous and paid calls go on."""
    gate = await house.gate()
    for name in ("free", "stranger"):
        for _ in range(60):
            await gate.admit(TRUSTED, name, STANDARD)
        with pytest.raises(OverLimit, match="60 requests a minute") as refused:
            await gate.admit(TRUSTED, name, STANDARD)
        assert 0 < refused.value.retry_after_s <= 1.0
    for name in ("paid", ""):
        for _ in range(100):
            await gate.admit(TRUSTED, name, STANDARD)
    house.now += 1.0
    await gate.admit(TRUSTED, "free", STANDARD)


async def test_tokens_are_held_until_a_request_ends(house: House) -> None:
    """Then what it used counts."""
    gate = await house.gate(limits_paid=Limits(tokens_per_minute=1000))
    grant = await gate.admit(TRUSTED, "paid", PREMIUM, tokens=800)
    with pytest.raises(OverLimit, match="1000 tokens a minute"):
        await gate.admit(TRUSTED, "paid", PREMIUM, tokens=800)
    gate.settle(grant, 100)
    grant = await gate.admit(TRUSTED, "paid", PREMIUM, tokens=800)
    gate.settle(grant, 800)
    with pytest.raises(OverLimit):
        await gate.admit(TRUSTED, "paid", PREMIUM, tokens=800)


async def test_a_request_that_is_not_permitted_costs_nothing(house: House) -> None:
    """The allowance is for what is let in."""
    gate = await house.gate(above_tier="refuse", limits_free=Limits(requests_per_minute=1))
    with pytest.raises(NotPermitted):
        await gate.admit(TRUSTED, "free", PREMIUM)
    await gate.admit(TRUSTED, "free", STANDARD)


async def test_grants_are_counted(house: House) -> None:
    """By tier, how it was known, and whether the wish was lowered."""
    gate = await house.gate()
    for _ in range(3):
        await gate.admit(TRUSTED, "free", PREMIUM)
    await gate.admit(TRUSTED, "stranger", STANDARD)
    sample = house.metrics.registry.get_sample_value
    name = "dreamseed_grants_total"
    assert sample(name, {"tier": "free", "known": "registered", "clamped": "true"}) == 3
    assert sample(name, {"tier": "free", "known": "unregistered", "clamped": "false"}) == 1
