"""A process is its pid and its start time."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from dreamseed_cli.core.processes import ProcessIdentity, end_all, signal_all

_STUBBORN = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("up", flush=True)
time.sleep(60)
"""
_PARENT = """
import subprocess, time
print(subprocess.Popen(["sleep", "60"]).pid, flush=True)
time.sleep(60)
"""


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    """A process that does nothing for a minute."""
    with subprocess.Popen(["sleep", "60"]) as process:
        yield process
        process.kill()


def test_a_process_is_alive_until_it_is_reaped_or_a_zombie(sleeper: subprocess.Popen[bytes]) -> None:
    """A zombie is dead: it serves nobody."""
    identity = ProcessIdentity.of(sleeper.pid)
    assert identity is not None
    assert identity.alive()
    sleeper.kill()
    os.waitid(os.P_PID, sleeper.pid, os.WEXITED | os.WNOWAIT)  # dead, not yet reaped
    assert not identity.alive()


def test_a_recycled_pid_is_somebody_else(sleeper: subprocess.Popen[bytes]) -> None:
    """Same pid, other start time: not ours, and never signalled."""
    identity = ProcessIdentity.of(sleeper.pid)
    assert identity is not None
    stranger = ProcessIdentity(identity.pid, identity.started - 100)
    assert not stranger.alive()
    signal_all([stranger], signal.SIGKILL)
    assert end_all([stranger], grace_s=1) == []
    assert identity.alive()


def test_no_process_has_no_identity() -> None:
    """A pid beyond the kernel's range belongs to nobody."""
    assert ProcessIdentity.of(2**22 + 1) is None


def test_ending_kills_who_ignores_the_request() -> None:
    """SIGTERM first, SIGKILL after the grace."""
    with subprocess.Popen([sys.executable, "-c", _STUBBORN], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        identity = ProcessIdentity.of(process.pid)
        assert identity is not None
        assert end_all([identity], grace_s=0.2) == []
        assert process.wait() == -signal.SIGKILL


def test_a_family_holds_the_descendants() -> None:
    """A child of our child is ours too."""
    with subprocess.Popen([sys.executable, "-c", _PARENT], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        grandchild = int(process.stdout.readline())
        identity = ProcessIdentity.of(process.pid)
        assert identity is not None
        family = identity.family()
        assert {member.pid for member in family} == {process.pid, grandchild}
        assert end_all(family, grace_s=5) == []
    assert identity.family() == []


def test_a_stopped_process_is_paused_until_it_goes_on(sleeper: subprocess.Popen[bytes]) -> None:
    """It is alive and does nothing; a dead one is not paused."""
    identity = ProcessIdentity.of(sleeper.pid)
    assert identity is not None
    assert not identity.paused()
    sleeper.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, sleeper.pid, os.WSTOPPED)
    assert identity.paused()
    sleeper.send_signal(signal.SIGCONT)
    os.waitid(os.P_PID, sleeper.pid, os.WCONTINUED)
    assert not identity.paused()
    sleeper.kill()
    sleeper.wait()
    assert not identity.paused()


def test_a_process_can_be_asked_with_the_signal_it_expects(sleeper: subprocess.Popen[bytes]) -> None:
    """PostgreSQL's orderly end is SIGINT."""
    identity = ProcessIdentity.of(sleeper.pid)
    assert identity is not None
    assert end_all([identity], grace_s=5.0, ask=signal.SIGINT) == []
    assert sleeper.wait() == -signal.SIGINT
