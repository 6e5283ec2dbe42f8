"""The embedded PostgreSQL under its keeper: made once, started over every kind of leftover."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import psycopg
import pytest
from gateway_harness import until

from dreamseed_cli.core.errors import FailedError
from dreamseed_cli.database.migrate import migrate, schema_state
from dreamseed_cli.services.keeping import NoAnswer
from dreamseed_cli.services.leftovers import living_in
from dreamseed_cli.services.postgres import EmbeddedPostgres
from dreamseed_cli.services.postgres_keeper import PostgresKeeper


@pytest.fixture
def server() -> Iterator[EmbeddedPostgres]:
    """A server that nobody has made yet, in a folder with a space; nothing of it is left running."""
    with tempfile.TemporaryDirectory(prefix="ds pg-") as folder:
        made = EmbeddedPostgres(Path(folder) / "data", Path(folder))
        yield made
        for left in living_in(made.data, "postgres"):
            os.kill(left.pid, signal.SIGKILL)


@pytest.fixture
def keeper(server: EmbeddedPostgres) -> PostgresKeeper:
    """Its keeper, with the real migrations."""
    return PostgresKeeper(server, migrate=migrate)


async def _run(argv: tuple[str, ...]) -> None:
    process = await asyncio.create_subprocess_exec(*argv, stdout=asyncio.subprocess.DEVNULL)
    if await process.wait() != 0:
        raise FailedError("the step failed")


@asynccontextmanager
async def _running(server: EmbeddedPostgres) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        *server.server(), stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGINT)
        await process.wait()


async def _usable(keeper: PostgresKeeper) -> bool:
    try:
        return await keeper.probe() is None
    except NoAnswer:
        return False


async def test_from_nothing_to_a_database_with_its_schema(
    server: EmbeddedPostgres, keeper: PostgresKeeper
) -> None:
    """The cluster, the database, the schema; a second start finds them and what was written."""
    await keeper.prepare(_run)
    async with _running(server):
        await until(lambda: _usable(keeper))
        assert schema_state(server.dsn()).up_to_date
        with psycopg.connect(server.dsn()) as connection:
            connection.execute("INSERT INTO users (id, tier) VALUES ('u', 'paid')")
            assert connection.execute("SHOW data_checksums").fetchone() == ("on",)
    with pytest.raises(NoAnswer):
        await keeper.probe()
    again = PostgresKeeper(server, migrate=migrate)
    await again.prepare(_run)
    async with _running(server):
        await until(lambda: _usable(again))
        with psycopg.connect(server.dsn()) as connection:
            assert connection.execute("SELECT id FROM users").fetchall() == [("u",)]


async def test_a_killed_initdb_leaves_nothing_half_done(
    server: EmbeddedPostgres, keeper: PostgresKeeper
) -> None:
    """Its folder has another name, and is gone after the next run."""

    async def killed(argv: tuple[str, ...]) -> None:
        process = await asyncio.create_subprocess_exec(*argv, stdout=asyncio.subprocess.DEVNULL)
        await until(lambda: any(server.data.parent.glob(".data-making-*/PG_VERSION")))
        process.kill()
        await process.wait()
        # A supervisor that was killed as well removes nothing.
        half_done = server.data.parent / ".data-making-killed"
        half_done.mkdir()
        (half_done / "PG_VERSION").write_text("18\n")
        raise FailedError("killed")

    with pytest.raises(FailedError):
        await keeper.prepare(killed)
    assert not server.data.exists()
    await keeper.prepare(_run)
    assert not list(server.data.parent.glob(".data-making-*"))
    async with _running(server):
        await until(lambda: _usable(keeper))


async def test_a_stale_pid_that_is_anybodys_by_now(server: EmbeddedPostgres, keeper: PostgresKeeper) -> None:
    """After a power cut the pid in the lock files may belong to a stranger: PostgreSQL alone would refuse."""
    await keeper.prepare(_run)
    with _stranger() as stranger:
        for lock in (server.data / "postmaster.pid", server.socket_lock):
            lock.write_text(f"{stranger.pid}\n{server.data}\n1\n5432\n{server.socket_dir}\n\n0 0\nready\n")
            lock.chmod(0o600)
        async with _running(server) as refused:
            assert await refused.wait() != 0
        await keeper.prepare(_run)
        async with _running(server):
            await until(lambda: _usable(keeper))
        assert stranger.poll() is None


async def test_backends_that_outlive_their_server(server: EmbeddedPostgres, keeper: PostgresKeeper) -> None:
    """kill -9 of the server while a query runs: its backend holds the shared memory, and is ended."""
    await keeper.prepare(_run)
    async with _running(server) as process:
        await until(lambda: _usable(keeper))
        connection = psycopg.connect(server.dsn(), autocommit=True)
        busy = asyncio.create_task(asyncio.to_thread(_keep_busy, connection))
        await until(lambda: _query_runs(server))
        process.kill()
        await process.wait()
        assert living_in(server.data, "postgres")
        await keeper.prepare(_run)
        assert not living_in(server.data, "postgres")
        await busy
    async with _running(server):
        await until(lambda: _usable(keeper))


async def test_an_unrecorded_server_is_ended_in_order(
    server: EmbeddedPostgres, keeper: PostgresKeeper
) -> None:
    """Killed between its start and its record, a supervisor leaves one that nobody knows of."""
    await keeper.prepare(_run)
    async with _running(server) as process:
        await until(lambda: _usable(keeper))
        ended = asyncio.create_task(process.wait())
        await keeper.prepare(_run)
        assert await ended == 0
        assert not (server.data / "postmaster.pid").exists()


async def test_a_paused_server_gives_no_answer(server: EmbeddedPostgres, keeper: PostgresKeeper) -> None:
    """Within a bound; once it goes on, it answers."""
    await keeper.prepare(_run)
    async with _running(server) as process:
        await until(lambda: _usable(keeper))
        process.send_signal(signal.SIGSTOP)
        async with asyncio.timeout(60):
            with pytest.raises(NoAnswer):
                await keeper.probe()
        process.send_signal(signal.SIGCONT)
        await until(lambda: _usable(keeper))


async def test_a_schema_that_cannot_be_made_is_the_obstacle(server: EmbeddedPostgres) -> None:
    """It runs, is of no use, and says why: the words of the migration."""

    def refuse(_: str) -> None:
        raise FailedError("the database has version 9999, this program knows up to 0003")

    keeper = PostgresKeeper(server, migrate=refuse)
    await keeper.prepare(_run)
    async with _running(server):

        async def obstacle() -> bool:
            try:
                return "9999" in (await keeper.probe() or "")
            except NoAnswer:
                return False

        await until(obstacle)


@contextmanager
def _stranger() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "60"]) as process:
        yield process
        process.kill()


def _keep_busy(connection: psycopg.Connection) -> None:
    with connection:
        try:
            connection.execute("SELECT count(*) FROM generate_series(1, 1000000000000)")
        except psycopg.OperationalError:
            return


def _query_runs(server: EmbeddedPostgres) -> bool:
    with psycopg.connect(server.dsn()) as connection:
        query = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE %s AND state = 'active' AND pid <> %s"
        found = connection.execute(query, ["%generate_series%", connection.info.backend_pid]).fetchone()
    return found == (1,)
