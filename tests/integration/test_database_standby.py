"""A real primary and its streaming standby: reads go on, writes after a person's word, and back."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import grpc
import psycopg
import pytest
from gateway_harness import (
    RunningGateway,
    emulated_engine,
    gateway_process,
    settings,
    socket_folder,
    target,
)
from psycopg_pool import AsyncConnectionPool
from real_services import RunningPostgres, postgres

from dreamseed_cli.app import main
from dreamseed_cli.backup.producer import libpq_environment
from dreamseed_cli.core.dependency import Dependency, DependencyDown
from dreamseed_cli.core.errors import FailedError, MissingError
from dreamseed_cli.database.connection import connected
from dreamseed_cli.database.migrate import migrate
from dreamseed_cli.database.standby import failback as failback_module
from dreamseed_cli.database.standby import pair as pair_module
from dreamseed_cli.database.standby.failback import failback
from dreamseed_cli.database.standby.keep import Turn, keep
from dreamseed_cli.database.standby.pair import Fence, Pair, SplitBrain
from dreamseed_cli.database.standby.promote import promote
from dreamseed_cli.database.standby.seen import Role, Seen, look
from dreamseed_cli.database.standby.service_file import ServiceFile
from dreamseed_cli.database.standby.watch import Mode
from dreamseed_cli.drill.watching import watching
from dreamseed_cli.gateway.accounts import admin
from dreamseed_cli.gateway.accounts.types import Tier
from dreamseed_cli.gateway.events.connection import PostgresAway
from dreamseed_cli.gateway.events.store import RequestStore
from dreamseed_cli.gateway.front.store import FrontStore, StoredLease
from dreamseed_cli.gateway.proto import GENERATE
from dreamseed_cli.gateway.proto.llm_pb2 import GenerateRequest
from dreamseed_cli.gateway.settings import ServiceAddresses
from dreamseed_cli.profile.standby import Standby
from dreamseed_cli.services.postgres import DATABASE, EmbeddedPostgres, program

_BOUND_S = 120.0
_QUICK = Standby(probe_s=0.2, down_s=1.0, back_s=3600.0)
_T = TypeVar("_T")
_PROFILE = """
name = "box"
description = "a test's"
[engine]
kind = "remote"
urls = ["http://127.0.0.1:1"]
model = "m"
[services.postgres]
mode = "external"
[services.postgres.standby]
service_file = "{file}"
probe_s = 0.2
down_s = 1.0
"""


@dataclass
class Two:
    """The first server and its standby, each with a folder and an address that stay."""

    first: RunningPostgres
    second: RunningPostgres
    file: ServiceFile

    @property
    def pair(self) -> Pair:
        return Pair(self.first.server.dsn(), self.second.server.dsn())


@pytest.fixture
def two() -> Iterator[Two]:
    """Streaming, with our schema and one question in it."""
    with tempfile.TemporaryDirectory(prefix="ds-sb-") as name, postgres(Path(name)) as first:
        root = Path(name)
        with psycopg.connect(first.server.dsn("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {DATABASE}")
        migrate(first.server.dsn())
        with psycopg.connect(first.server.dsn(), autocommit=True) as connection:
            connection.execute("INSERT INTO questions (id, content) VALUES ('q1', '{}')")
        (root / "2").mkdir()
        second = RunningPostgres(EmbeddedPostgres(root / "pg2", root / "2"), root / "log2")
        _follow(first, second)
        try:
            yield Two(first, second, ServiceFile(root / "service", "dreamseed"))
        finally:
            second.stop()


async def test_there_and_back(two: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients know one name all the time. Nothing that was acknowledged is lost."""
    monkeypatch.setenv("PGSERVICEFILE", str(two.file.path))
    turns: list[Turn] = []
    async with _clients(two, turns) as (front, requests):
        two.first.kill()
        assert two.file.mode() is Mode.PRIMARY
        await _mode(two.file, Mode.REPLICA)
        assert await _until(lambda: front.question("q1")) is not None
        for _ in range(7):  # more than open a breaker
            with pytest.raises(DependencyDown, match="takes no writes"):
                await front.take(_lease(), holder="a", cap=Decimal(10))
        assert await front.question("q1") is not None
        with pytest.raises(PostgresAway, match="postmaster exit"):
            await requests.insert([_record(2)])
        with pytest.raises(PostgresAway, match="read-only"):  # it waits in the journal, it is not refused
            await requests.insert([_record(2)])

        await _refuses_to_promote(two)
        assert two.file.mode() is Mode.REPLICA
        done = await asyncio.to_thread(promote, two.pair, Fence(vouched=True), two.file, datetime.now(UTC))
        assert done.changed
        await _until(lambda: requests.insert([_record(2)]))
        assert (await front.take(_lease(), holder="a", cap=Decimal(10))).granted == 1

        with pytest.raises(MissingError, match="never as it was"):
            await asyncio.to_thread(failback, two.pair, Fence(), two.file, datetime.now(UTC))
        shutil.rmtree(two.first.server.data)
        await asyncio.to_thread(_follow, two.second, two.first)
        await _until(lambda: requests.insert([_record(3)]))
        back = await asyncio.to_thread(failback, two.pair, Fence(), two.file, datetime.now(UTC))
        assert back.server.timeline == 3
        await _mode(two.file, Mode.PRIMARY)
        await _until(lambda: requests.insert([_record(4)]))
        assert await _until(lambda: front.question("q1")) is not None
    with psycopg.connect(two.first.server.dsn()) as connection:
        found = connection.execute("SELECT event_id FROM requests ORDER BY 1").fetchall()
    assert [text for (text,) in found] == [_id(number) for number in range(1, 5)]
    assert [turn.mode for turn in turns] == [Mode.PRIMARY, Mode.REPLICA, Mode.PROMOTED, Mode.PRIMARY]
    assert "the primary is away" in str(turns[1])


async def test_the_front_writes_again_after_the_primarys_return(
    two: Two, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The replica lives on, and its connections with it: each is left once it refuses a write."""
    monkeypatch.setenv("PGSERVICEFILE", str(two.file.path))
    two.file.point(Mode.REPLICA, two.pair.replica, datetime.now(UTC))
    async with _front() as front:
        assert await front.question("q1") is not None
        two.file.point(Mode.PRIMARY, two.pair.primary, datetime.now(UTC))
        with pytest.raises(DependencyDown, match="takes no writes"):
            await front.take(_lease(), holder="a", cap=Decimal(10))
        assert (await front.take(_lease(), holder="a", cap=Decimal(10))).granted == 1


async def test_a_hung_primary_is_left_like_a_dead_one(two: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes connections and answers nothing. Reads go on at the replica, nobody promotes over one that may
    still live, and when it wakes up, clients do not turn back before it has been well for long.
    """
    monkeypatch.setenv("PGSERVICEFILE", str(two.file.path))
    turns: list[Turn] = []
    async with _clients(two, turns) as (front, requests):
        two.first.pause()
        hangs = asyncio.create_task(requests.insert([_record(2)]))
        await _mode(two.file, Mode.REPLICA)
        assert await _until(lambda: front.question("q1")) is not None
        with pytest.raises(PostgresAway):
            await hangs
        with pytest.raises(PostgresAway, match="read-only"):
            await requests.insert([_record(2)])
        await _refuses_to_promote(two)

        two.first.resume()
        await asyncio.to_thread(_caught_up, two.first, two.second)
        assert two.file.mode() is Mode.REPLICA
    assert [turn.mode for turn in turns] == [Mode.PRIMARY, Mode.REPLICA]


def test_the_gateway_goes_on(two: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real one, which knows the service's name alone: a key that it never saw is found on the replica,
    the call is answered, and its event waits until somebody promotes.
    """
    monkeypatch.setenv("PGSERVICEFILE", str(two.file.path))
    monkeypatch.setenv("DREAMSEED_DATABASE_URL", two.file.dsn())
    with connected(two.first.server.dsn()) as connection:
        admin.add_user(connection, "ann", Tier.PAID)
        known, unseen = (admin.create_key(connection, "ann")[0].text for _ in range(2))
    with (
        watching(two.pair, two.file, _QUICK, lambda _: None),
        socket_folder() as folder,
        emulated_engine(folder, "e0") as engine,
    ):
        asyncio.run(_mode(two.file, Mode.PRIMARY))
        services = ServiceAddresses(
            postgres_dsn_env="DREAMSEED_DATABASE_URL", journal=str(folder / "journal")
        )
        wanted = settings(folder, target("r0", engine.socket)).model_copy(update={"services": services})
        with gateway_process(folder, wanted) as gateway:
            _ask(gateway, known, "before")
            _stored(gateway, two.first, "before")
            _caught_up(two.first, two.second)

            two.first.kill()
            asyncio.run(_mode(two.file, Mode.REPLICA))
            _ask(gateway, unseen, "meanwhile")
            assert gateway.stats()["journal_bytes"] > 0
            assert _finished(two.second) == {"before"}

            promote(two.pair, Fence(vouched=True), two.file, datetime.now(UTC))
            _stored(gateway, two.second, "before", "meanwhile")


def test_the_commands(
    two: Two, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`db watch` as a process beside them; promote refuses, then does it once; failback returns."""
    profile = tmp_path / "box.toml"
    profile.write_text(_PROFILE.format(file=two.file.path))
    monkeypatch.setenv("DREAMSEED_PRIMARY_URL", two.pair.primary)
    monkeypatch.setenv("DREAMSEED_REPLICA_URL", two.pair.replica)
    argv = [sys.executable, "-m", "dreamseed_cli", "db", "watch", "--profile", str(profile), "--json"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as watch:
        asyncio.run(_mode(two.file, Mode.PRIMARY))
        assert _run(capsys, "failback", profile)[0] == 2  # nobody was promoted
        two.first.kill()
        asyncio.run(_mode(two.file, Mode.REPLICA))
        assert _run(capsys, "promote", profile)[0] == 2
        code, done = _run(capsys, "promote", profile, "--old-primary-is-dead")
        assert (code, done["changed"], done["timeline"]) == (0, True, 2)
        assert _run(capsys, "promote", profile)[1]["changed"] is False
        shutil.rmtree(two.first.server.data)
        _follow(two.second, two.first)
        code, done = _run(capsys, "failback", profile)
        assert (code, done["timeline"]) == (0, 3)
        asyncio.run(_mode(two.file, Mode.PRIMARY))
        watch.terminate()
        out, said = watch.communicate(timeout=_BOUND_S)
    assert watch.returncode == 0, said
    assert json.loads(out)["data"]["mode"] == "primary"
    assert "clients go to the read-only replica" in said


def test_a_failback_killed_at_any_point_is_run_again(two: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the promotion was asked for, after it, and with only the service file left. As kill -9 does it:
    nothing is undone.
    """
    _there(two)
    pair_module.let_write(two.pair.replica, allowed=False)

    def ends_early(dsn: str) -> NoReturn:
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute("SELECT pg_promote(false)")
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(failback_module, "promote_server", ends_early)
        with pytest.raises(FailedError, match="run dreamseed db failback again"):
            failback(two.pair, Fence(), two.file, datetime.now(UTC))
    pair_module.until(lambda: look(two.pair.primary).role is Role.PRIMARY, _BOUND_S, "the promotion")
    assert look(two.pair.replica).role is Role.FENCED
    assert two.file.mode() is Mode.PROMOTED
    with pytest.raises(SplitBrain, match="a failback broke off"):
        promote(two.pair, Fence(vouched=True), two.file, datetime.now(UTC))
    for _ in range(2):  # the second finds all done
        assert failback(two.pair, Fence(), two.file, datetime.now(UTC)).server.timeline == 3
        assert two.file.mode() is Mode.PRIMARY
    assert look(two.pair.replica).role is Role.FENCED


def test_a_primary_that_only_we_cannot_reach_is_alive(two: Two) -> None:
    """The replica streams from it: a person's word counts less."""
    first = two.pair.primary
    pair = Pair(first, two.pair.replica, lambda dsn: Seen(Role.AWAY) if dsn == first else look(dsn))
    with pytest.raises(SplitBrain, match="the replica receives from the old primary"):
        promote(pair, Fence(vouched=True), two.file, datetime.now(UTC))
    assert look(pair.replica).role is Role.STANDBY


def test_a_session_that_cannot_be_ended_keeps_a_failback_from_happening(two: Two) -> None:
    """It may still write. Nothing changes; once it has ended, the way is free."""
    _there(two)
    with psycopg.connect(two.pair.replica) as writer:
        pid = writer.info.backend_pid
        os.kill(pid, signal.SIGSTOP)
        try:
            with pytest.raises(FailedError, match="the last of 1 sessions did not end"):
                failback(two.pair, Fence(), two.file, datetime.now(UTC))
            assert look(two.pair.replica).role is Role.PRIMARY
            assert look(two.pair.primary).role is Role.STANDBY
        finally:
            os.kill(pid, signal.SIGCONT)
    assert failback(two.pair, Fence(), two.file, datetime.now(UTC)).server.timeline == 3


async def test_two_that_take_writes_are_told_and_no_client_moves(two: Two) -> None:
    """Somebody promoted by hand while the first was well."""
    with psycopg.connect(two.second.server.dsn(), autocommit=True) as connection:
        connection.execute("SELECT pg_promote()")
    turns: list[Turn] = []
    async with _watching(two, turns):
        await _until_told(turns)
    assert turns[-1].split
    assert two.file.mode() is Mode.PRIMARY
    assert "BOTH TAKE WRITES: stop the replica now" in str(turns[-1])
    with pytest.raises(SplitBrain, match="both servers answer"):
        promote(two.pair, Fence(vouched=True), two.file, datetime.now(UTC))


def _there(two: Two) -> None:
    """The first died, the second was promoted, and the first follows it."""
    two.first.kill()
    promote(two.pair, Fence(vouched=True), two.file, datetime.now(UTC))
    shutil.rmtree(two.first.server.data)
    _follow(two.second, two.first)


def _ask(gateway: RunningGateway, key: str, request_id: str) -> None:
    """One call with an API key; again while the gateway cannot look the key up."""
    message = GenerateRequest(prompt="Go on", max_tokens=3, request_id=request_id).SerializeToString()
    deadline = time.monotonic() + _BOUND_S
    with grpc.insecure_channel(gateway.address) as channel:
        generate: Any = channel.unary_unary(GENERATE)
        while True:
            try:
                generate(message, timeout=20, metadata=(("authorization", f"Bearer {key}"),))
            except grpc.RpcError as error:
                if error.code() is not grpc.StatusCode.UNAVAILABLE or time.monotonic() > deadline:
                    raise
                time.sleep(0.1)
            else:
                return


def _stored(gateway: RunningGateway, server: RunningPostgres, *request_ids: str) -> None:
    """Wait until these, and no others, were finished by what the server has, and nothing waits for it."""
    deadline = time.monotonic() + _BOUND_S
    while _finished(server) != set(request_ids) or gateway.stats()["journal_bytes"]:
        assert time.monotonic() < deadline, gateway.log.read_text()
        time.sleep(0.1)


def _finished(server: RunningPostgres) -> set[str]:
    with psycopg.connect(server.server.dsn()) as connection:
        rows = connection.execute("SELECT request_id FROM requests WHERE outcome = 'finished'").fetchall()
    return {str(request_id) for (request_id,) in rows}


def _run(capsys: pytest.CaptureFixture[str], verb: str, profile: Path, *options: str) -> tuple[int, Any]:
    """Exit code and data of `dreamseed db VERB`."""
    with pytest.raises(SystemExit) as ended:
        main(["db", verb, "--profile", str(profile), *options, "--json"])
    return int(ended.value.code or 0), json.loads(capsys.readouterr().out)["data"]


@asynccontextmanager
async def _watching(two: Two, turns: list[Turn]) -> AsyncIterator[None]:
    stopping = asyncio.Event()
    task = asyncio.create_task(keep(two.pair, two.file, _QUICK, stopping, turns.append))
    await _mode(two.file, *Mode)
    try:
        yield
    finally:
        stopping.set()
        await task


@asynccontextmanager
async def _clients(two: Two, turns: list[Turn]) -> AsyncIterator[tuple[FrontStore, RequestStore]]:
    """The gateway's two stores, watched: one has read, the other has written, and the standby has it all."""
    async with _watching(two, turns), _front() as front:
        requests = RequestStore(two.file.dsn(), keep_events=False)
        try:
            await _until(lambda: front.question("q1"))
            await _until(lambda: requests.insert([_record(1)]))
            await asyncio.to_thread(_caught_up, two.first, two.second)
            yield front, requests
        finally:
            await requests.close()


async def _refuses_to_promote(two: Two) -> None:
    """While nobody vouches for the first one's end."""
    with pytest.raises(SplitBrain, match="proves nothing"):
        await asyncio.to_thread(promote, two.pair, Fence(), two.file, datetime.now(UTC))


@asynccontextmanager
async def _front() -> AsyncIterator[FrontStore]:
    """As the gateway makes it."""
    options = {"autocommit": True, "connect_timeout": 2}
    pool: AsyncConnectionPool[psycopg.AsyncConnection[tuple[object, ...]]] = AsyncConnectionPool(
        "service=dreamseed",
        min_size=0,
        max_size=2,
        open=False,
        timeout=2.0,
        reconnect_timeout=1.0,
        kwargs=options,
    )
    await pool.open()
    try:
        yield FrontStore(pool, Dependency("postgres-front", timeout_s=5.0), keep_events=True)
    finally:
        await pool.close()


async def _until(ask: Callable[[], Awaitable[_T]]) -> _T:
    """Ask until it is answered: connections to a dead server break once."""
    deadline = time.monotonic() + _BOUND_S
    while True:
        try:
            return await ask()
        except (DependencyDown, PostgresAway):
            assert time.monotonic() < deadline
            await asyncio.sleep(0.1)


async def _until_told(turns: list[Turn]) -> None:
    deadline = time.monotonic() + _BOUND_S
    while not turns:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)


async def _mode(file: ServiceFile, *wanted: Mode) -> None:
    deadline = time.monotonic() + _BOUND_S
    while file.mode() not in wanted:
        assert time.monotonic() < deadline, file.mode()
        await asyncio.sleep(0.05)


def _follow(leader: RunningPostgres, follower: RunningPostgres) -> None:
    """Make it a standby from nothing, and start it."""
    argv = [str(program("pg_basebackup")), f"--pgdata={follower.server.data}", "--write-recovery-conf"]
    environment = {**os.environ, **libpq_environment(leader.server.dsn())}
    subprocess.run([*argv, "--checkpoint=fast"], check=True, capture_output=True, env=environment)
    follower.process = None
    follower.start()
    _caught_up(leader, follower)


def _caught_up(leader: RunningPostgres, follower: RunningPostgres) -> None:
    """Wait until it streams, and has replayed what there is."""
    with psycopg.connect(leader.server.dsn(), autocommit=True) as connection:
        row = connection.execute("SELECT pg_current_wal_flush_lsn()::text").fetchone()
    assert row is not None
    deadline = time.monotonic() + _BOUND_S
    with psycopg.connect(follower.server.dsn(), autocommit=True) as connection:
        query = "SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn AND EXISTS (SELECT FROM pg_stat_wal_receiver)"
        while connection.execute(query, (row[0],)).fetchone() != (True,):
            assert time.monotonic() < deadline
            time.sleep(0.05)


def _lease() -> StoredLease:
    return StoredLease(uuid.uuid4(), dt.date(2025, 11, 1), Decimal(1))


def _id(number: int) -> str:
    return f"event-{number}"


def _record(number: int) -> bytes:
    return (
        f'{{"event_id": "{_id(number)}", "request_id": "r", "user_id": "u", "outcome": "finished",'
        ' "reason": "", "priority": "STANDARD", "workload": "w", "model": "m", "replica": "r0",'
        ' "cache_hit": false, "prompt_tokens": 1, "completion_tokens": 1, "finish_reason": "stop",'
        ' "arrived_at": 1.0, "duration_s": 1.0, "queue_s": 0.0, "ttft_s": 0.1, "simulated": true}'
    ).encode()
