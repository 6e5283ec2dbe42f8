"""Processes and proof of who they are: a process is its pid *and* its start time, since pids come back."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

_POLL_S = 0.02


@dataclass(frozen=True, slots=True)
class ProcessIdentity:
    """pid and start time (seconds since boot, as the kernel counts): within one boot no two share both.

    Not psutil's time since the epoch: that one moves when the clock is set, and a process would then
    no longer be itself. Whoever stores an identity stores the `boot_id` with it.
    """

    pid: int
    started: float

    @classmethod
    def of(cls, pid: int) -> ProcessIdentity | None:
        """The identity of the process that has `pid` now; None if there is none."""
        started = _started(pid)
        return None if started is None else cls(pid, started)

    def alive(self) -> bool:
        """Whether this very process still runs (a zombie does not)."""
        return self.process() is not None

    def process(self) -> psutil.Process | None:
        """The living process itself; None once it is gone or only a zombie."""
        try:
            process = psutil.Process(self.pid)
            if _started(self.pid) != self.started:
                return None
            return None if process.status() == psutil.STATUS_ZOMBIE else process
        except psutil.NoSuchProcess:
            return None

    def paused(self) -> bool:
        """Whether it is stopped by a signal, as with SIGSTOP."""
        process = self.process()
        try:
            return process is not None and process.status() == psutil.STATUS_STOPPED
        except psutil.NoSuchProcess:
            return False

    def family(self) -> list[ProcessIdentity]:
        """The process and all its living descendants; empty when it is gone."""
        process = self.process()
        if process is None:
            return []
        members = [self]
        try:
            children = process.children(recursive=True)
        except psutil.NoSuchProcess:
            return members
        for child in children:
            identity = ProcessIdentity.of(child.pid)
            if identity is not None:
                members.append(identity)
        return members


def boot_id() -> str:
    """The name of this boot of this machine: identities from another one prove nothing."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def session_members(leader_pid: int) -> list[ProcessIdentity]:
    """The living processes of the session that `leader_pid` opened, its orphaned grandchildren included."""
    members = []
    for pid in psutil.pids():
        try:
            inside = os.getsid(pid) == leader_pid
        except OSError:
            continue
        identity = ProcessIdentity.of(pid) if inside else None
        if identity is not None and identity.alive():
            members.append(identity)
    return members


def signal_all(members: Iterable[ProcessIdentity], signum: signal.Signals) -> None:
    """Send a signal to those of `members` that still run, and to nobody else."""
    for member in members:
        if member.alive():
            try:
                os.kill(member.pid, signum)
            except ProcessLookupError:
                continue


def end_all(
    members: Sequence[ProcessIdentity],
    *,
    grace_s: float,
    kill_wait_s: float = 5.0,
    ask: signal.Signals = signal.SIGTERM,
) -> list[ProcessIdentity]:
    """The signal `ask`, wait up to `grace_s`, SIGKILL the rest; returns those that outlived even that.

    Blocks: in an event loop call it in a thread.
    """
    signal_all(members, ask)
    left = _wait_gone(members, grace_s)
    signal_all(left, signal.SIGKILL)
    return _wait_gone(left, kill_wait_s)


def _started(pid: int) -> float | None:
    """Field 22 of /proc/PID/stat (proc(5)) in seconds; the name before it may hold anything."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return None
    return int(stat.rpartition(b")")[2].split()[19]) / os.sysconf("SC_CLK_TCK")


def _wait_gone(members: Sequence[ProcessIdentity], timeout_s: float) -> list[ProcessIdentity]:
    """Those that still run after at most `timeout_s`.

    Looks instead of waiting for an exit status: that is for whoever started them to collect.
    """
    deadline = time.monotonic() + timeout_s
    left = [member for member in members if member.alive()]
    while left and time.monotonic() < deadline:
        time.sleep(_POLL_S)
        left = [member for member in left if member.alive()]
    return left
