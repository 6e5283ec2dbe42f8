"""Finding and ending what a killed supervisor left, and nothing else. Real processes throughout."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from dreamseed_cli.core.paths import StateDir
from dreamseed_cli.core.processes import ProcessIdentity
from dreamseed_cli.supervisor.family import living_family
from dreamseed_cli.supervisor.orphans import end_orphans, find_orphans, remove_stale_sockets
from dreamseed_cli.supervisor.state import ChildRecord, write_children

# A leader with a helper, as vLLM has its EngineCore; both ignore SIGTERM if told to.
_FAMILY = """
import signal, subprocess, sys, time
stubborn = len(sys.argv) > 1
code = "import signal, time; print('up', flush=True);"
code += "signal.signal(signal.SIGTERM, signal.SIG_IGN);" if stubborn else ""
if stubborn:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
helper = subprocess.Popen([sys.executable, "-c", code + "print('ready', flush=True); time.sleep(60)"],
                          stdout=subprocess.PIPE)
helper.stdout.readline(); helper.stdout.readline()
print(helper.pid, flush=True)
time.sleep(60)
"""


class Family:
    """A leader in a session of its own, and its helper."""

    def __init__(self, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", _FAMILY, *arguments], stdout=subprocess.PIPE, start_new_session=True
        )
        assert self.process.stdout
        helper = ProcessIdentity.of(int(self.process.stdout.readline()))
        leader = ProcessIdentity.of(self.process.pid)
        assert helper
        assert leader
        self.leader, self.helper = leader, helper

    def kill_leader(self) -> None:
        self.process.kill()
        self.process.wait()

    def record(self, *, members: tuple[ProcessIdentity, ...] = ()) -> ChildRecord:
        return ChildRecord("r0", "engine", "unix:/x", self.leader, members or (self.leader,))

    def close(self) -> None:
        for member in (self.leader, self.helper):
            if member.alive():
                os.kill(member.pid, signal.SIGKILL)
        self.process.wait()
        assert self.process.stdout
        self.process.stdout.close()


@pytest.fixture
def state(tmp_path: Path) -> StateDir:
    """A state folder, made."""
    folder = StateDir(tmp_path / "s")
    folder.create()
    return folder


@pytest.fixture
def family() -> Iterator[Family]:
    """A leader with one helper."""
    made = Family()
    yield made
    made.close()


@pytest.fixture
def stubborn() -> Iterator[Family]:
    """The same, both ignoring SIGTERM."""
    made = Family("stubborn")
    yield made
    made.close()


def test_a_recorded_child_and_its_helper_are_found_and_ended(state: StateDir, family: Family) -> None:
    """The helper was never recorded: it is the proven leader's descendant."""
    write_children(state, [family.record()])
    (orphan,) = find_orphans(state)
    assert set(orphan.members) == {family.leader, family.helper}
    end_orphans([orphan])
    assert not family.leader.alive()
    assert not family.helper.alive()
    assert find_orphans(state) == []


def test_a_recorded_helper_is_found_without_its_leader(state: StateDir, family: Family) -> None:
    """vLLM's EngineCore outlives a killed server: its own record proves it."""
    write_children(state, [family.record(members=(family.leader, family.helper))])
    family.kill_leader()
    (orphan,) = find_orphans(state)
    assert orphan.members == (family.helper,)
    end_orphans([orphan])
    assert not family.helper.alive()


def test_what_ignores_sigterm_is_killed(state: StateDir, stubborn: Family) -> None:
    """The wait for an orderly end is bounded."""
    write_children(state, [stubborn.record()])
    end_orphans(find_orphans(state), grace_s=0.2)
    assert not stubborn.leader.alive()
    assert not stubborn.helper.alive()


def test_a_service_is_asked_with_its_own_signal(state: StateDir, tmp_path: Path) -> None:
    """PostgreSQL's leader ends its helpers itself if it gets SIGINT, and waits for clients on SIGTERM."""
    code = (
        "import pathlib, signal, sys, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "signal.signal(signal.SIGINT, lambda *_: (pathlib.Path(sys.argv[1]).touch(), sys.exit(0)))\n"
        "print('up', flush=True)\n"
        "time.sleep(60)\n"
    )
    marker = tmp_path / "ended-in-order"
    with subprocess.Popen([sys.executable, "-c", code, str(marker)], stdout=subprocess.PIPE) as server:
        assert server.stdout
        server.stdout.readline()
        leader = ProcessIdentity.of(server.pid)
        assert leader
        record = ChildRecord("postgres", "service", "x", leader, (leader,), stop_signal=signal.SIGINT)
        write_children(state, [record])
        end_orphans(find_orphans(state))
        assert server.wait() == 0
    assert marker.exists()


def test_a_recycled_pid_is_never_touched(state: StateDir, family: Family) -> None:
    """The recorded pid belongs to another process by now: its start time differs, so it is left alone."""
    stranger = ProcessIdentity(family.leader.pid, family.leader.started - 100.0)
    write_children(state, [ChildRecord("r0", "engine", "unix:/x", stranger, (stranger,))])
    assert find_orphans(state) == []
    assert living_family(stranger) == ()
    end_orphans(find_orphans(state))
    assert family.leader.alive()
    assert family.helper.alive()


def test_an_unrecorded_sibling_in_the_session_belongs_to_the_family() -> None:
    """With one proven member alive, the session they share proves the others, their leader being dead."""
    program = (
        "import subprocess as s\n"
        "print(*(s.Popen(['sleep', '60'], stdout=s.DEVNULL).pid for _ in range(2)), flush=True)\n"
    )
    leader = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, start_new_session=True)
    with leader:
        assert leader.stdout
        pids = [int(pid) for pid in leader.stdout.readline().split()]
    recorded, unrecorded = (ProcessIdentity.of(pid) for pid in pids)
    assert recorded
    assert unrecorded
    dead = ProcessIdentity(leader.pid, recorded.started)
    try:
        assert living_family(dead) == ()
        assert set(living_family(dead, [recorded])) == {recorded, unrecorded}
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGKILL)


def test_stale_sockets_are_removed_and_nothing_else(state: StateDir) -> None:
    """Only sockets are ours to remove in the run folder."""
    state.socket("r0").write_text("")
    (state.socket_dir / "keep.txt").write_text("")
    remove_stale_sockets(state)
    assert [path.name for path in state.socket_dir.iterdir()] == ["keep.txt"]
