"""When PostgreSQL is asked about a user, when memory answers, and what an outage changes."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import pytest

from dreamseed_cli.core.dependency import DependencyDown
from dreamseed_cli.gateway.accounts.directory import Directory
from dreamseed_cli.gateway.accounts.memory import Memory
from dreamseed_cli.gateway.accounts.types import Account, Tier

_Who = TypeVar("_Who", str, bytes)


@dataclass
class _Users:
    """PostgreSQL in memory. gate: answers wait for it."""

    accounts: dict[str | bytes, Account] = field(default_factory=dict)
    asked: list[str | bytes] = field(default_factory=list)
    queries: int = 0
    away: bool = False
    available: bool = True
    gate: asyncio.Event | None = None

    async def by_keys(self, hashes: Sequence[bytes]) -> dict[bytes, Account]:
        return await self._find(hashes)

    async def by_ids(self, user_ids: Sequence[str]) -> dict[str, Account]:
        return await self._find(user_ids)

    async def _find(self, whom: Sequence[_Who]) -> dict[_Who, Account]:
        self.queries += 1
        self.asked.extend(whom)
        if self.gate is not None:
            await self.gate.wait()
        if self.away:
            raise DependencyDown("away", place="postgres")
        return {who: self.accounts[who] for who in whom if who in self.accounts}


@dataclass
class _World:
    """A directory on `users`, with a clock to move."""

    now: float = 1000.0
    users: _Users = field(default_factory=lambda: _Users({"u": Account("u", Tier.PAID)}))

    def __post_init__(self) -> None:
        self.directory = Directory(self.users, Memory(cache_s=60, stale_s=3600), clock=lambda: self.now)

    async def settled(self) -> None:
        """Lookups in the background have ended."""
        for _ in range(5):
            await asyncio.sleep(0)


async def test_an_account_is_asked_about_once() -> None:
    """Then memory answers, without giving way to other tasks."""
    world = _World()
    assert await world.directory.find("u") == Account("u", Tier.PAID)
    with pytest.raises(StopIteration) as done:
        world.directory.find("u").send(None)
    assert done.value.value == Account("u", Tier.PAID)
    assert world.users.asked == ["u"]


async def test_concurrent_requests_share_one_question() -> None:
    """And one of them that leaves takes the answer from nobody."""
    world = _World()
    world.users.gate = asyncio.Event()
    waiting = [asyncio.create_task(world.directory.find("u")) for _ in range(20)]
    await world.settled()
    waiting[0].cancel()
    await world.settled()
    world.users.gate.set()
    answers = await asyncio.gather(*waiting, return_exceptions=True)
    assert isinstance(answers[0], asyncio.CancelledError)
    assert answers[1:] == [Account("u", Tier.PAID)] * 19
    assert world.users.asked == ["u"]


async def test_an_account_in_use_is_asked_about_in_the_background() -> None:
    """In the last quarter of cache_s; the request has the old answer, the next one the new."""
    world = _World()
    await world.directory.find("u")
    world.users.accounts["u"] = Account("u", Tier.FREE)
    world.now += 50
    assert await world.directory.find("u") == Account("u", Tier.PAID)
    await world.settled()
    assert await world.directory.find("u") == Account("u", Tier.FREE)


async def test_what_is_older_than_cache_s_is_never_believed_while_postgresql_answers() -> None:
    """Though nobody used it in the meantime: the bound on a revoked key."""
    world = _World()
    await world.directory.find("u")
    del world.users.accounts["u"]
    world.now += 61
    assert await world.directory.find("u") is None


async def test_the_age_counts_from_the_question_not_the_answer() -> None:
    """A slow answer may be of before a change that was made while it was on its way."""
    world = _World()
    world.users.gate = asyncio.Event()
    asked = asyncio.create_task(world.directory.find("u"))
    await world.settled()
    world.now += 30
    world.users.gate.set()
    await asked
    world.now += 31
    await world.directory.find("u")
    assert world.users.asked == ["u", "u"]


async def test_an_outage_leaves_what_was_known() -> None:
    """The first request finds out, then nobody waits and PostgreSQL is tried once a second."""
    world = _World()
    await world.directory.find("u")
    world.users.away = True
    world.now += 100
    assert await world.directory.find("u") == Account("u", Tier.PAID)
    world.users.available = False
    for _ in range(50):
        world.now += 0.1
        assert await world.directory.find("u") == Account("u", Tier.PAID)
        await world.settled()
    assert 5 <= len(world.users.asked) <= 7


async def test_after_stale_s_an_outage_leaves_nothing() -> None:
    """Nor does it for users that were never asked about."""
    world = _World()
    await world.directory.find("u")
    world.users.away = True
    world.now += 3601
    for who in ("u", "v", b"k"):
        with pytest.raises(DependencyDown):
            await world.directory.find(who)


async def test_many_users_are_one_query() -> None:
    """And those who come while it is under way are the next: a flood is one session's work."""
    world = _World()
    world.users.accounts = {f"u{n}": Account(f"u{n}", Tier.PAID) for n in range(1000)}
    world.users.gate = asyncio.Event()
    crowd = [asyncio.create_task(world.directory.find(f"u{n}")) for n in range(300)]
    await world.settled()
    crowd += [asyncio.create_task(world.directory.find(f"u{n}")) for n in range(250, 1000)]
    await world.settled()
    assert world.users.queries == 1
    world.users.gate.set()
    answers = await asyncio.gather(*crowd)
    assert [answer.user_id for answer in answers if answer] == [
        f"u{n}" for n in [*range(300), *range(250, 1000)]
    ]
    assert world.users.queries == 4
    assert len(world.users.asked) == len(set(world.users.asked)) == 1000


async def test_a_failure_is_told_to_everybody_who_waits() -> None:
    """At once, instead of asking again for each."""
    world = _World()
    world.users.away = True
    world.users.gate = asyncio.Event()
    crowd = [asyncio.create_task(world.directory.find(f"u{n}")) for n in range(300)]
    await world.settled()
    crowd += [asyncio.create_task(world.directory.find("v"))]
    await world.settled()
    world.users.gate.set()
    answers = await asyncio.gather(*crowd, return_exceptions=True)
    assert all(isinstance(answer, DependencyDown) for answer in answers)
    assert world.users.queries == 1
    world.users.away = False
    assert await world.directory.find("u") == Account("u", Tier.PAID)


async def test_closing_ends_what_is_under_way() -> None:
    """No task is left behind."""
    world = _World()
    world.users.gate = asyncio.Event()
    asked = asyncio.create_task(world.directory.find("u"))
    await world.settled()
    await world.directory.close()
    with pytest.raises(DependencyDown, match="stops"):
        await asked
    assert asyncio.all_tasks() == {asyncio.current_task()}
