"""Who may be adopted: proof by pid, start time, session and fingerprint. Real processes where it matters."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from dreamseed_cli.core.paths import StateDir
from dreamseed_cli.core.processes import ProcessIdentity
from dreamseed_cli.engine.types import Command
from dreamseed_cli.profile.load import load_profile
from dreamseed_cli.supervisor.adoption import (
    AdoptedChild,
    Sighting,
    adopt_or_start,
    adoptable,
    look_at,
    records_of,
)
from dreamseed_cli.supervisor.child import UNKNOWN_EXIT, ChildSpec, StartedChild, Stopped, how_it_ended
from dreamseed_cli.supervisor.fingerprint import fingerprint
from dreamseed_cli.supervisor.orphans import find_orphans
from dreamseed_cli.supervisor.session import _engine_ports
from dreamseed_cli.supervisor.stack import plan_stack
from dreamseed_cli.supervisor.state import ChildRecord, write_children
from dreamseed_cli.supervisor.takeover import take_over

_SLEEP = (sys.executable, "-c", "import time; print('up', flush=True); time.sleep(60)")
_HEALTHY = Sighting(alive=True)


@pytest.fixture
def state(tmp_path: Path) -> StateDir:
    """A state folder, made."""
    folder = StateDir(tmp_path / "s")
    folder.create()
    return folder


def _spec(state: StateDir, name: str = "r0", config: str = "c") -> ChildSpec:
    endpoint = f"unix:{state.socket(name)}"
    return ChildSpec(name, "engine", Command(_SLEEP), endpoint, state.log(name), 5.0, config=config)


@pytest.fixture
def stranger() -> Iterator[subprocess.Popen[bytes]]:
    """A process in a session of its own that no supervisor of ours has as its child."""
    with subprocess.Popen(_SLEEP, stdout=subprocess.PIPE, start_new_session=True) as process:
        assert process.stdout
        process.stdout.readline()
        yield process
        process.kill()


def _record(spec: ChildSpec, process: subprocess.Popen[bytes]) -> ChildRecord:
    leader = ProcessIdentity.of(process.pid)
    assert leader
    return ChildRecord(
        spec.name, spec.role, spec.endpoint, leader, (leader,), fingerprint=spec.fingerprint(), log_start=0
    )


def _of(command: Command, config: str = "", version: str = "1", **environment: str) -> str:
    return fingerprint(command, config, environment=environment, version=version)


def test_the_fingerprint_tells_what_was_started() -> None:
    """Arguments, own variables, configuration, version, steering variables; not the terminal's."""
    command = Command(("a", "b"), {"X": "1"})
    same = _of(command, "c")
    assert same == _of(Command(("a", "b"), {"X": "1"}), "c", TERM="xterm", INVOCATION_ID="9")
    others = {
        _of(Command(("a b",), {"X": "1"}), "c"),
        _of(Command(("a", "b"), {"X": "2"}), "c"),
        _of(command, "d"),
        _of(command, "c", version="2"),
        _of(command, "c", VLLM_USE_V1="0"),
    }
    assert len(others) == 5
    assert same not in others


def test_a_secret_that_was_renewed_is_another_start() -> None:
    """The configuration names the variable; its value counts, and does not stand in the fingerprint."""
    command, config = Command(("a",)), '{"services": {"postgres_dsn_env": "DB", "redis_password_env": null}}'
    first = _of(command, config, DB="secret-1")
    assert first == _of(command, config, DB="secret-1", OTHER="x")
    assert first != _of(command, config, DB="secret-2")
    assert "secret" not in first


def test_what_is_the_same_may_be_adopted(state: StateDir) -> None:
    """The record of a spec stands for it; each obstacle has its own words."""
    spec = _spec(state)
    leader = ProcessIdentity(1, 1.0)
    record = ChildRecord("r0", "engine", spec.endpoint, leader, (leader,), fingerprint=spec.fingerprint())
    assert adoptable(record, spec, _HEALTHY) is None
    cases = {
        "other settings": adoptable(replace(record, fingerprint=""), spec, _HEALTHY),
        "another version": adoptable(record, replace(spec, config="d"), _HEALTHY),
        "it is r0, not r1": adoptable(record, replace(spec, name="r1"), _HEALTHY),
        "services": adoptable(replace(record, role="service"), replace(spec, role="service"), _HEALTHY),
        "has ended": adoptable(record, spec, Sighting(alive=False)),
        "session": adoptable(record, spec, Sighting(alive=True, leads=False)),
        "stopped": adoptable(record, spec, Sighting(alive=True, paused=True)),
        "pidfd": adoptable(record, spec, Sighting(alive=True, watchable=False)),
    }
    for words, reason in cases.items():
        assert reason is not None
        assert words in reason


def test_settings_that_a_gateway_takes_while_it_runs_do_not_count(tmp_path: Path) -> None:
    """An adopted gateway is told them; a port is another gateway."""
    state = StateDir(tmp_path)
    profile = load_profile("emulated-rtx5090x3")

    def gateway(**changes: object) -> str:
        changed = profile.model_copy(update={"gateway": profile.gateway.model_copy(update=changes)})
        return plan_stack(changed, state, valkey_ports=range(1, 7)).gateway.fingerprint()

    assert gateway() == gateway(drain_timeout_s=1.0, default_timeout_s=2.0)
    assert gateway() != gateway(port=1)
    moved = plan_stack(profile, state, valkey_ports=range(2, 8)).gateway.fingerprint()
    assert gateway() != moved


def test_the_model_counts_and_where_it_runs(tmp_path: Path) -> None:
    """Another revision in the same folder is another engine."""
    state, profile = StateDir(tmp_path), load_profile("laptop")

    def engine(revision: str) -> str:
        plan = plan_stack(profile, state, model="/m", model_revision=revision, valkey_ports=range(1, 7))
        assert plan.replicas[0].spec
        return plan.replicas[0].spec.fingerprint()

    assert engine("a") == engine("a") != engine("b")


def _code(child: AdoptedChild) -> int | None:
    return child.exit_code


async def test_an_adopted_child_is_watched_and_stopped(
    state: StateDir, stranger: subprocess.Popen[bytes]
) -> None:
    """It has the record's log and members; its end is noticed, its exit code is not ours to know."""
    spec = _spec(state)
    state.log("r0").write_text("of an earlier run\nof this run\n")
    record = replace(_record(spec, stranger), log_start=len("of an earlier run\n"))
    child = await adopt_or_start(spec, {"r0": record})
    assert isinstance(child, AdoptedChild)
    assert _code(child) is None
    assert child.last_lines(5) == ["of this run"]
    assert child.record() == record
    assert not child.refresh()
    waiting = asyncio.create_task(child.wait())
    assert await child.stop(asyncio.Event()) == Stopped()
    assert await waiting == _code(child) == UNKNOWN_EXIT
    assert stranger.wait(60) == -signal.SIGTERM
    assert "not ours to know" in how_it_ended(_code(child))
    # Once more changes nothing.
    assert await child.stop(asyncio.Event()) == Stopped()


async def test_a_kill_is_noticed(state: StateDir, stranger: subprocess.Popen[bytes]) -> None:
    """By the kernel's word, nobody polls."""
    spec = _spec(state)
    child = AdoptedChild.take(spec, _record(spec, stranger))
    assert child is not None
    os.kill(stranger.pid, signal.SIGKILL)
    async with asyncio.timeout(60.0):
        assert await child.wait() == UNKNOWN_EXIT
    assert AdoptedChild.take(spec, _record_of_the_dead(spec)) is None


def _record_of_the_dead(spec: ChildSpec) -> ChildRecord:
    with subprocess.Popen(["true"]) as process:
        process.wait()
    leader = ProcessIdentity(process.pid, 1.0)
    return ChildRecord(spec.name, spec.role, spec.endpoint, leader, (leader,))


async def test_another_fingerprint_is_ended_and_started_anew(
    state: StateDir, stranger: subprocess.Popen[bytes]
) -> None:
    """Of another profile or version: two must not run side by side."""
    record = _record(_spec(state), stranger)
    child = await adopt_or_start(_spec(state, config="other"), {"r0": record})
    assert isinstance(child, StartedChild)
    assert stranger.wait(60) == -signal.SIGTERM
    assert child.record().fingerprint != record.fingerprint
    await child.stop(asyncio.Event())


async def test_a_reused_pid_is_neither_adopted_nor_touched(
    state: StateDir, stranger: subprocess.Popen[bytes]
) -> None:
    """Another start time is another process."""
    spec = _spec(state)
    record = _record(spec, stranger)
    other = replace(record.leader, started=record.leader.started - 5)
    child = await adopt_or_start(spec, {"r0": replace(record, leader=other, members=(other,))})
    assert isinstance(child, StartedChild)
    assert stranger.poll() is None
    await child.stop(asyncio.Event())


def test_what_is_seen_of_a_process(stranger: subprocess.Popen[bytes]) -> None:
    """Alive and a leader; paused; gone. One that shares our session leads none."""
    leader = ProcessIdentity.of(stranger.pid)
    assert leader
    assert look_at(leader) == _HEALTHY
    with subprocess.Popen(["sleep", "60"]) as ours:
        identity = ProcessIdentity.of(ours.pid)
        assert identity
        assert not look_at(identity).leads
        ours.kill()
    os.kill(stranger.pid, signal.SIGSTOP)
    while not leader.paused():
        pass
    assert look_at(leader).paused
    stranger.kill()
    stranger.wait()
    assert look_at(leader) == Sighting(alive=False)


def test_another_boot_leaves_nothing_to_adopt(state: StateDir, stranger: subprocess.Popen[bytes]) -> None:
    """Its pids and start times are anybody's."""
    write_children(state, [_record(_spec(state), stranger)])
    file = state.root / "children.json"
    data = msgspec.json.decode(file.read_bytes())
    file.write_bytes(msgspec.json.encode(data | {"boot_id": "another"}))
    assert find_orphans(state) == []


def test_the_take_over_keeps_what_fits_and_its_socket(
    state: StateDir, stranger: subprocess.Popen[bytes]
) -> None:
    """r0 goes on, r1 has other settings and is ended, its socket is removed; the notes say both."""
    specs = [_spec(state, "r0"), _spec(state, "r1", config="new")]
    for name in ("r0", "r1", "control"):
        state.socket(name).touch()
    with subprocess.Popen(_SLEEP, stdout=subprocess.PIPE, start_new_session=True) as second:
        assert second.stdout
        second.stdout.readline()
        write_children(state, [_record(specs[0], stranger), _record(_spec(state, "r1", "old"), second)])
        said: list[str] = []
        took = take_over(state, find_orphans(state), specs, said.append)
        assert second.wait(60) == -signal.SIGTERM
    assert stranger.poll() is None
    assert set(took.left) == {"r0"}
    assert {path.name for path in state.socket_dir.iterdir()} == {"r0.sock", "control.sock"}
    adopted, ended = took.notes
    assert f"Adopted r0 (pid {stranger.pid}) from the run that was killed" in adopted
    assert "killed run" in ended
    assert "r1: it was started with other settings" in ended
    assert "r1" in said[0]


def test_nothing_left_needs_no_note(state: StateDir) -> None:
    """Only sockets of the dead are removed."""
    state.socket("r0").touch()
    took = take_over(state, [], [_spec(state)], lambda _: None)
    assert (dict(took.left), took.notes) == ({}, ())
    assert list(state.socket_dir.iterdir()) == []


async def test_what_is_not_adopted_yet_stays_on_record(
    state: StateDir, stranger: subprocess.Popen[bytes]
) -> None:
    """A supervisor that is killed while it adopts loses sight of nobody."""
    left = {name: _record(_spec(state, name), stranger) for name in ("r0", "r1")}
    child = AdoptedChild.take(_spec(state), left["r0"])
    assert child is not None
    assert records_of([], left) == list(left.values())
    assert [record.name for record in records_of([child], left)] == ["r0", "r1"]
    os.kill(stranger.pid, signal.SIGKILL)
    await child.wait()


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (0, "exited with code 0"),
        (-9, "was killed by signal 9"),
        (None, "still runs"),
        (UNKNOWN_EXIT, "ended (its exit code is not ours to know)"),
    ],
)
def test_an_exit_in_words(code: int | None, words: str) -> None:
    """One place says it."""
    assert how_it_ended(code) == words


def test_a_container_that_lives_keeps_its_port() -> None:
    """Else its engine would never be the one that would be started now; the others get free ports."""
    leader = ProcessIdentity(1, 1.0)
    living = {"r1": ChildRecord("r1", "engine", "http://127.0.0.1:4242", leader, (leader,), "box")}
    first, second = _engine_ports(2, living)
    assert second == 4242
    assert first not in {0, 4242}
    assert _engine_ports(0, living) == []
