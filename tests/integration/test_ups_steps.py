"""The shutdown's steps over real parts: PostgreSQL with an archive, NUT's own look at the flag, commands."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from real_services import RunningPostgres
from short_state import short_state
from ups_daemons import DEBIAN, start

from dreamseed_cli.core.errors import FailedError
from dreamseed_cli.core.paths import StateDir
from dreamseed_cli.profile.load import load_profile
from dreamseed_cli.profile.schema import Postgres, Profile
from dreamseed_cli.profile.ups import Ups
from dreamseed_cli.supervisor.power_control import Inside
from dreamseed_cli.supervisor.service_plan import embedded_postgres
from dreamseed_cli.ups import steps as steps_module
from dreamseed_cli.ups.command import run_command
from dreamseed_cli.ups.database import checkpoint, push_wal, shut_down_cleanly
from dreamseed_cli.ups.journal import StepState
from dreamseed_cli.ups.sequence import Outcome
from dreamseed_cli.ups.steps import Steps

EMBEDDED = Postgres()


@pytest.fixture
def state() -> Iterator[StateDir]:
    """A state folder with a short path."""
    with short_state() as made:
        yield made


@pytest.fixture
def archiving(state: StateDir) -> Iterator[RunningPostgres]:
    """The folder's PostgreSQL, running, with an archive beside it."""
    server = embedded_postgres(state)
    subprocess.run([*server.initdb(), "--no-sync"], check=True, capture_output=True)
    (state.root / "archive").mkdir(mode=0o777)
    (state.root / "archive").chmod(0o777)
    with (server.data / "postgresql.conf").open("a") as conf:
        conf.write(f"archive_mode = on\narchive_command = 'cp %p {state.root}/archive/%f'\n")
    running = RunningPostgres(server, state.root / "postgres.log")
    try:
        running.start()
        with psycopg.connect(server.dsn("postgres"), autocommit=True) as connection:
            connection.execute("CREATE DATABASE dreamseed")
        yield running
    finally:
        running.stop()


def _steps(state: StateDir, rules: Ups, *, host: bool) -> Steps:
    profile = load_profile("emulated-rtx5090x3").model_copy(update={"ups": rules})
    return Steps(state, profile, host=host)


async def _do(steps: Steps, name: str, within_s: float = 5.0) -> Outcome:
    return await next(step for step in steps.all() if step.name == name).run(within_s)


def test_the_last_wal_is_in_the_archive_and_the_checkpoint_proven(
    state: StateDir, archiving: RunningPostgres
) -> None:
    """Before the shutdown, and after it."""
    pushed = push_wal(state, EMBEDDED, 20.0)
    assert pushed.state is StepState.DONE, pushed
    assert (state.root / "archive" / pushed.detail.split()[0]).exists()
    archiving.stop()
    assert shut_down_cleanly(state) == Outcome(StepState.DONE, "pg_controldata: shut down")


async def test_what_is_only_in_memory_is_written_while_the_mains_may_still_return(
    state: StateDir, archiving: RunningPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The shutdown's own checkpoint has little left to write. A server that is away keeps nothing waiting."""

    async def nothing(_: Steps) -> Inside:
        return Inside()

    def at(connection: psycopg.Connection) -> str:
        (lsn,) = connection.execute("SELECT redo_lsn::text FROM pg_control_checkpoint()").fetchone() or ("",)
        return str(lsn)

    monkeypatch.setattr(Steps, "running", lambda _: True)
    monkeypatch.setattr(Steps, "inside", nothing)
    steps = _steps(state, Ups(), host=False)
    with psycopg.connect(archiving.server.dsn(), autocommit=True) as connection:
        connection.execute("CREATE TABLE t AS SELECT generate_series(1, 1000)")
        before = at(connection)
        assert await _do(steps, "flush", 20.0) == Outcome(StepState.DONE, "checkpoint")
        assert at(connection) != before
    archiving.stop()
    assert (await _do(steps, "flush")).detail.startswith("no checkpoint: ")
    assert checkpoint(state, Postgres(mode="off"), 5.0) == "no PostgreSQL"


def test_an_archive_that_takes_nothing_is_not_waited_for(state: StateDir, archiving: RunningPostgres) -> None:
    """The WAL stays on disk; and a server that was killed has no checkpoint to show."""
    (state.root / "archive").rename(state.root / "gone")
    with psycopg.connect(archiving.server.dsn(), autocommit=True) as connection:
        connection.execute("CREATE TABLE t AS SELECT generate_series(1, 1000)")
    assert push_wal(state, EMBEDDED, 1.0).state is StepState.FORCED
    archiving.kill()
    assert push_wal(state, EMBEDDED, 1.0).state is StepState.FAILED
    killed = shut_down_cleanly(state)
    assert (killed.state, killed.detail) == (StepState.FAILED, "pg_controldata: in production")


def test_without_an_archive_there_is_nothing_to_push(
    state: StateDir, postgres_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor without PostgreSQL, nor a cluster whose checkpoint could be looked at."""
    monkeypatch.setenv("MY_DATABASE", postgres_dsn)
    external = Postgres(mode="external", dsn_env="MY_DATABASE")
    assert push_wal(state, external, 5.0).detail == "WAL is not archived (archive_mode is off)"
    assert push_wal(state, Postgres(mode="off"), 5.0).state is StepState.SKIPPED
    assert shut_down_cleanly(state).state is StepState.SKIPPED


async def test_nuts_own_shutdown_hook_understands_the_flag(
    state: StateDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`upsmon -K` is what it asks before it has the driver switch the UPS off."""
    flag, conf = tmp_path / "killpower", tmp_path / "upsmon.conf"
    conf.write_text(f"MONITOR test@localhost 1 a b primary\nSHUTDOWNCMD true\nPOWERDOWNFLAG {flag}\n")
    words = steps_module.POWER_FLAGS["nut"][1]
    monkeypatch.setattr(steps_module, "POWER_FLAGS", {"nut": (flag, words)})

    def asked() -> int:
        argv: list[Path | str] = [DEBIAN / "lib/nut/upsmon", "-K"]
        return start(argv, tmp_path / "log", {"NUT_CONFPATH": str(tmp_path)}).wait(60)

    assert asked() != 0
    told = await _do(_steps(state, Ups(source="nut"), host=True), "cycle")
    assert told.detail == str(flag)
    assert asked() == 0


async def test_ups_and_host_are_told_by_commands_of_yours(state: StateDir, tmp_path: Path) -> None:
    """In a dry run they are only said."""
    rules = Ups(cycle=("touch", str(tmp_path / "cycled")), host_shutdown=("touch", str(tmp_path / "down")))
    for name, file in (("cycle", tmp_path / "cycled"), ("host", tmp_path / "down")):
        said = await _do(_steps(state, rules, host=False), name)
        assert (said.state, said.detail) == (StepState.SKIPPED, f"dry run: touch {file}")
        assert not file.exists()
        await _do(_steps(state, rules, host=True), name)
        assert file.exists()
    assert (await _do(_steps(state, Ups(), host=True), "cycle")).detail == "no UPS"


async def test_services_of_yours_are_stopped_by_commands_of_yours(state: StateDir, tmp_path: Path) -> None:
    """At their step; without one they end with the host."""
    rules = Ups(stop_external={"postgres": ("touch", str(tmp_path / "pg")), "kafka": ("false",)})
    base = load_profile("emulated-rtx5090x3")
    services = base.services.model_copy(update={"postgres": Postgres(mode="external")})
    profile = base.model_copy(update={"ups": rules, "services": services})
    steps = Steps(state, profile, host=False)
    assert (await _do(steps, "postgres")).state is StepState.DONE
    assert (tmp_path / "pg").exists()
    with pytest.raises(FailedError, match="exit code 1"):
        await _do(steps, "redis")
    without = Profile.model_validate({**profile.model_dump(), "ups": Ups().model_dump()})
    assert (await _do(Steps(state, without, host=False), "postgres")).state is StepState.SKIPPED


async def test_without_a_stack_every_step_says_so(state: StateDir) -> None:
    """And the box may go down."""
    steps = _steps(state, Ups(), host=False)
    for name in ("refuse", "streams", "flush", "gateway", "engines", "relay", "postgres", "redis"):
        assert (await _do(steps, name)).state is StepState.SKIPPED, name
    assert (await _do(steps, "rest")).detail.startswith("Nothing was running")


async def test_a_command_that_hangs_is_killed_with_its_helpers() -> None:
    """And one that cannot be started is named."""
    with pytest.raises(FailedError, match=r"did not end within 0\.2 s"):
        await run_command(("sh", "-c", "sleep 60 & wait"), 0.2)
    with pytest.raises(FailedError, match="cannot be started"):
        await run_command((os.devnull,), 1.0)
    assert await run_command((sys.executable, "-c", "print('a  b')"), 20.0) == "a b"
