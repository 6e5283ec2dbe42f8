"""PostgreSQL stopped, killed, restarted, locked: requests go on, and the gateway finds back by itself."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path

import psycopg
import pytest
import real_services
from gateway_harness import until

from dreamseed_cli.core.dependency import DependencyDown
from dreamseed_cli.database.connection import connected
from dreamseed_cli.database.migrate import migrate
from dreamseed_cli.gateway.accounts import admin
from dreamseed_cli.gateway.accounts.directory import Directory
from dreamseed_cli.gateway.accounts.gate import Gate
from dreamseed_cli.gateway.accounts.keys import new_key
from dreamseed_cli.gateway.accounts.limits import UserLimits
from dreamseed_cli.gateway.accounts.memory import Memory
from dreamseed_cli.gateway.accounts.store import AccountStore
from dreamseed_cli.gateway.accounts.types import Account, Tier
from dreamseed_cli.gateway.call import PriorityClass
from dreamseed_cli.gateway.metrics import GatewayMetrics
from dreamseed_cli.gateway.refusals import CannotVerify
from dreamseed_cli.gateway.security.credentials import Credentials
from dreamseed_cli.profile.schema import Accounts

TRUSTED = Credentials(trusted=True)
PAID = Account("paid", Tier.PAID)


@pytest.fixture(scope="module")
def server() -> Iterator[real_services.RunningPostgres]:
    """One to break."""
    with tempfile.TemporaryDirectory(prefix="ds-pg-") as folder, real_services.postgres(Path(folder)) as own:
        yield own


@pytest.fixture
def dsn(server: real_services.RunningPostgres) -> str:
    """A database with one paid user, `paid`."""
    name = server.new_database()
    migrate(name)
    with connected(name) as connection:
        admin.add_user(connection, "paid", Tier.PAID)
    return name


@pytest.fixture
async def store(dsn: str) -> AsyncIterator[AccountStore]:
    """Open on that database."""
    own = AccountStore(dsn)
    await own.open()
    await until(lambda: _answers(own))
    yield own
    await own.close()


async def _answers(store: AccountStore) -> bool:
    return await _finds(store, PAID)


async def _finds(store: AccountStore, expected: Account) -> bool:
    """Whether it answers, on a machine that may be busy; if it does, the answer must be right."""
    with suppress(DependencyDown):
        assert await store.by_ids([expected.user_id]) == {expected.user_id: expected}
        return True
    return False


async def _bounded(store: AccountStore) -> str:
    """A lookup's failure; the bound is far above 20 ms, and far below what psycopg would wait."""
    async with asyncio.timeout(20):
        with pytest.raises(DependencyDown) as refused:
            await store.by_ids(["paid"])
    return str(refused.value)


def _break(server: real_services.RunningPostgres, how: str) -> None:
    {"paused": server.pause, "killed": server.kill, "stopped": server.stop}[how]()


def _mend(server: real_services.RunningPostgres, how: str) -> None:
    if how == "paused":
        server.resume()
    else:
        server.start()


@pytest.mark.parametrize("how", ["paused", "killed", "stopped"])
async def test_lookups_are_bounded_and_come_back(
    server: real_services.RunningPostgres, store: AccountStore, how: str
) -> None:
    """Every call fails soon, many at once too; after the server is back, they are answered."""
    _break(server, how)
    try:
        first = await asyncio.gather(*(_bounded(store) for _ in range(8)))
        for _ in range(4):
            causes = await asyncio.gather(*(_bounded(store) for _ in range(8)))
        assert not store.available
        assert "left alone" in causes[0]
        # What a request waits for at most; of a server that is gone the system itself says so, sooner.
        assert how != "paused" or "within 20 ms" in first[0]
    finally:
        await asyncio.to_thread(_mend, server, how)
    await until(lambda: _answers(store))
    assert store.available


async def test_an_answer_too_late_is_never_anothers(
    server: real_services.RunningPostgres, store: AccountStore, dsn: str
) -> None:
    """What was given up on while the server was stopped does not come out of the pool later."""
    with connected(dsn) as connection:
        admin.add_user(connection, "other", Tier.FREE)
    server.pause()
    try:
        await _bounded(store)
    finally:
        server.resume()
    await until(lambda: _answers(store))
    for _ in range(20):
        await until(lambda: _finds(store, Account("other", Tier.FREE)))
        await until(lambda: _finds(store, PAID))


async def test_a_restart_while_nobody_asks_is_not_noticed(
    server: real_services.RunningPostgres, store: AccountStore
) -> None:
    """The pool's dead connections are stepped over within the same call, or at the latest in the next."""
    await asyncio.gather(*(_answers(store) for _ in range(8)))
    server.stop()
    await asyncio.to_thread(server.start)
    await until(lambda: _answers(store))
    assert store.available


async def test_a_server_away_at_the_start_is_found_later(
    server: real_services.RunningPostgres, dsn: str
) -> None:
    """Opening waits for nothing; no restart is needed."""
    server.stop()
    own = AccountStore(dsn)
    try:
        async with asyncio.timeout(20):
            await own.open()
        await _bounded(own)
        # Long enough for the pool's own attempts to be given up.
        gives_up = time.monotonic() + 2.5
        await until(lambda: time.monotonic() > gives_up)
        await asyncio.to_thread(server.start)
        await until(lambda: _answers(own))
    finally:
        await own.close()


async def test_a_long_outage_fills_no_queue(
    server: real_services.RunningPostgres, store: AccountStore
) -> None:
    """Those who gave up are not kept for ever, and a full queue does not keep the pool from connecting."""
    server.kill()
    try:
        for _ in range(1000):
            with suppress(psycopg.OperationalError, TimeoutError):
                async with asyncio.timeout(0.001):
                    await store._rows("SELECT %s", ["x"])
        assert store._pool.get_stats()["requests_waiting"] <= 16
        # The pool has given up all its attempts to connect: only a call makes it try again.
        await until(lambda: store._pool.get_stats()["pool_size"] == 0)
    finally:
        await asyncio.to_thread(server.start)
    await until(lambda: _answers(store))


async def test_a_locked_table_holds_up_nobody_and_no_session(dsn: str, store: AccountStore) -> None:
    """Abandoned queries end on the server, too, before the lock does."""
    with psycopg.connect(dsn) as holder:
        holder.execute("LOCK users IN ACCESS EXCLUSIVE MODE")
        for _ in range(8):
            await _bounded(store)
        await until(lambda: _sessions_in_a_query(dsn) == 0)
    await until(lambda: _answers(store))


def _sessions_in_a_query(dsn: str) -> int:
    with psycopg.connect(dsn) as connection:
        row = connection.execute(
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE application_name = 'dreamseed-accounts' AND state = 'active'"
            " AND datname = current_database()"
        ).fetchone()
    assert row is not None
    return int(row[0])


@pytest.mark.parametrize("how", ["paused", "killed"])
async def test_known_users_go_on_while_postgresql_is_away(
    server: real_services.RunningPostgres, store: AccountStore, dsn: str, how: str
) -> None:
    """At their tier, long after cache_s. Unknown names get the profile's tier, unknown keys may try again,
    and what was revoked meanwhile is noticed once it is back.
    """
    with connected(dsn) as connection:
        made, key = admin.create_key(connection, "paid")
    accounts = Accounts(cache_s=0.05, above_tier="refuse")
    directory = Directory(store, Memory(cache_s=accounts.cache_s, stale_s=accounts.stale_s))
    gate = Gate(accounts, directory, UserLimits.of(accounts), GatewayMetrics())
    credentials = Credentials(trusted=False, api_key=made.text)

    async def priority() -> PriorityClass:
        return (await gate.admit(credentials, "", PriorityClass.PREMIUM)).priority

    async def let_in() -> bool:
        with suppress(CannotVerify):
            return await priority() is PriorityClass.PREMIUM
        return False

    await until(let_in)
    with connected(dsn) as connection:
        admin.revoke_key(connection, key.id)
    _break(server, how)
    try:
        expired = time.monotonic() + 2 * accounts.cache_s
        await until(lambda: time.monotonic() > expired)
        for _ in range(100):
            assert await priority() is PriorityClass.PREMIUM
        stranger = await gate.admit(TRUSTED, "stranger", PriorityClass.PREMIUM)
        assert (stranger.tier, stranger.priority) == (Tier.FREE, PriorityClass.STANDARD)
        with pytest.raises(CannotVerify):
            await gate.admit(Credentials(trusted=False, api_key=new_key().text), "", PriorityClass.BATCH)
    finally:
        await asyncio.to_thread(_mend, server, how)

    async def refused() -> bool:
        try:
            await priority()
        except Exception as error:  # noqa: BLE001 - its kind is what is asked
            return type(error).__name__ == "Unauthenticated"
        return False

    await until(refused)
    await directory.close()


async def test_a_schema_that_is_not_there_is_like_a_server_that_is_not(
    server: real_services.RunningPostgres,
) -> None:
    """Until somebody migrates: then users are found without a restart."""
    name = server.new_database()
    own = AccountStore(name)
    await own.open()
    try:
        await until(lambda: _says(own, 'relation "users" does not exist'))
        migrate(name)
        with connected(name) as connection:
            admin.add_user(connection, "paid", Tier.PAID)
        await until(lambda: _answers(own))
    finally:
        await own.close()


async def _says(store: AccountStore, words: str) -> bool:
    return words in await _bounded(store)
