"""`dreamseed chaos`: what it refuses, and how it tells what happened."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from dreamseed_cli.app import main
from dreamseed_cli.chaos import rehearsal as rehearsal_module
from dreamseed_cli.core.paths import StateDir
from dreamseed_cli.core.processes import ProcessIdentity, boot_id
from dreamseed_cli.core.result import Provenance
from dreamseed_cli.supervisor.snapshot import GatewaySnapshot, ReplicaSnapshot, StackSnapshot
from dreamseed_cli.supervisor.state import (
    ChildRecord,
    Role,
    SupervisorRecord,
    write_children,
    write_supervisor,
)

_SLEEP = (sys.executable, "-c", "import time; time.sleep(100)")
_LIKE_EMULATED = (*_SLEEP, "dreamseed_cli.engine.emulated")
_READY = ReplicaSnapshot("r0", "ready", "answered", "", 1000.0, "unix:/none/r0.sock", pid=1, simulated=True)
_STACK = StackSnapshot(
    profile="emulated",
    why="test",
    served_name="emu",
    provenance=Provenance.SIMULATED,
    pid=1,
    started_at=1000.0,
    taken_at=2000.0,
    activity="serving",
    gateway=GatewaySnapshot("serving", "127.0.0.1:1", 2),
    replicas=(_READY, replace(_READY, name="r1")),
)
Start = Callable[..., ChildRecord]


@pytest.fixture
def state(tmp_path: Path) -> StateDir:
    """The folder of a stack that this test supervises."""
    folder = StateDir(tmp_path / "state")
    folder.create()
    identity = ProcessIdentity.of(os.getpid())
    assert identity
    write_supervisor(folder, SupervisorRecord(identity, boot_id(), 1.0, "emulated", "1"))
    (folder.root / "engine.json").write_text("{}")
    return folder


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts children of the stack."""
    with ExitStack() as running:

        def start_one(
            name: str, argv: tuple[str, ...] = _LIKE_EMULATED, role: Role = "engine"
        ) -> ChildRecord:
            process = subprocess.Popen(argv)
            running.callback(process.wait)
            running.callback(process.kill)
            identity = ProcessIdentity.of(process.pid)
            assert identity
            return ChildRecord(name, role, "unix:/none/x.sock", identity, (identity,))

        yield start_one


@pytest.fixture
def stack(monkeypatch: pytest.MonkeyPatch) -> Callable[[StackSnapshot], None]:
    """Has the supervisor say that this is the stack."""

    def say(snapshot: StackSnapshot) -> None:
        monkeypatch.setattr(rehearsal_module, "fetch_snapshot", lambda _: snapshot)

    say(_STACK)
    return say


def _run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["chaos", *arguments])
    return int(ended.value.code or 0)


def test_the_list_names_every_fault(capsys: pytest.CaptureFixture[str]) -> None:
    """Without anything running."""
    assert _run("--list", "--json") == 0
    names = [fault["name"] for fault in json.loads(capsys.readouterr().out)["data"]["faults"]]
    assert names == [
        *("crash", "hang", "freeze", "slow", "garbage", "refuse"),
        *("gateway-crash", "supervisor-crash", "heal"),
    ]
    assert _run("--list") == 0
    assert "SIGKILL of the engine's" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [(), ("earthquake",)])
def test_an_unknown_fault_names_the_known_ones(
    arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2."""
    assert _run(*arguments) == 2
    said = capsys.readouterr().err
    assert "crash, hang, freeze, slow" in said
    assert "--list" in said


def test_the_supervisor_is_for_the_operator_to_kill(capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 2, and how it is done."""
    assert _run("supervisor-crash") == 2
    assert "kill -9" in capsys.readouterr().err


def test_where_nothing_runs_nothing_is_broken(capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 3."""
    assert _run("crash") == 3
    assert "dreamseed serve" in capsys.readouterr().err


@pytest.mark.parametrize("fault", ["crash", "hang", "freeze", "gateway-crash", "heal"])
@pytest.mark.usefixtures("stack")
def test_engines_that_are_not_emulated_are_never_touched(
    fault: str, state: StateDir, start: Start, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever the snapshot and the files of an earlier run say: the process itself is asked."""
    real, gateway = start("r0", _SLEEP), start("gateway", _SLEEP, "gateway")
    write_children(state, [gateway, real, start("r1")])
    assert _run(fault) == 2
    assert "not emulated" in capsys.readouterr().err
    for child in (real, gateway):
        assert child.leader.alive()
        assert not child.leader.paused()


def test_emulated_engines_that_are_not_this_stacks_are_not_touched(
    state: StateDir, stack: Callable[[StackSnapshot], None], start: Start
) -> None:
    """A remote one may well be emulated; and one that passes for measured is not to be broken."""
    write_children(state, [start("gateway", _SLEEP, "gateway")])
    assert _run("crash") == 2
    engine = start("r0")
    write_children(state, [engine])
    stack(replace(_STACK, provenance=Provenance.MEASURED))
    assert _run("crash") == 2
    stack(_STACK)
    (state.root / "engine.json").unlink()
    assert _run("crash") == 2
    assert engine.leader.alive()


@pytest.mark.usefixtures("stack")
def test_a_replica_that_is_not_there(
    state: StateDir, start: Start, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2: unknown, elsewhere (r1 is no child), or none at all (the gateway)."""
    write_children(state, [start("r0"), start("gateway", _SLEEP, "gateway")])
    for arguments, said in (
        (("crash", "--replica", "r9"), "no replica 'r9'. Choose one of: r0"),
        (("crash", "--replica", "r1"), "r1 runs elsewhere"),
        (("gateway-crash", "--replica", "r0"), "the gateway is no replica"),
    ):
        assert _run(*arguments) == 2
        assert said in capsys.readouterr().err


@pytest.mark.usefixtures("stack")
def test_a_process_that_only_has_the_pid_is_not_touched(state: StateDir, start: Start) -> None:
    """Exit code 3: the recorded one is gone, this is another."""
    other = start("r0")
    identity = ProcessIdentity(other.leader.pid, other.leader.started - 1.0)
    write_children(state, [replace(other, leader=identity, members=(identity,))])
    assert _run("crash") == 3
    assert other.leader.alive()


def test_what_is_not_well_cannot_be_broken(
    state: StateDir, stack: Callable[[StackSnapshot], None], start: Start, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 3: nobody could tell the one fault from the other."""
    write_children(state, [start("r0"), start("gateway", _SLEEP, "gateway")])
    stack(
        replace(
            _STACK,
            replicas=(replace(_READY, state="hung"),),
            gateway=replace(_STACK.gateway, state="starting"),
        )
    )
    assert _run("crash") == 3
    assert "r0 is hung" in capsys.readouterr().err
    assert _run("gateway-crash") == 3
    assert "the gateway is starting" in capsys.readouterr().err


@pytest.mark.usefixtures("stack")
def test_an_engine_that_takes_no_order(
    state: StateDir, start: Start, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 4, with its socket."""
    write_children(state, [start("r0")])
    assert _run("hang") == 4
    assert "/none/x.sock" in capsys.readouterr().err
