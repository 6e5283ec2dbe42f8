"""Processes and proof of who they are: a process is its pid *and* its start time, since pids come back."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import psutil


@dataclass(frozen=True, slots=True)
class ProcessIdentity:
    """pid and start time (seconds since the epoch, as the kernel tells it): no two processes share both."""

    pid: int
    started: float

    @classmethod
    def of(cls, pid: int) -> ProcessIdentity | None:
        """The identity of the process that has `pid` now; None if there is none."""
        try:
            return cls(pid, psutil.Process(pid).create_time())
        except psutil.NoSuchProcess:
            return None

    def alive(self) -> bool:
        """Whether this very process still runs (a zombie does not)."""
        return self.process() is not None

    def process(self) -> psutil.Process | None:
        """The living process itself; None once it is gone or only a zombie."""
        try:
            process = psutil.Process(self.pid)
            # The kernel counts start times in clock ticks (10 ms) since boot.
            if abs(process.create_time() - self.started) > 0.02:
                return None
            return None if process.status() == psutil.STATUS_ZOMBIE else process
        except psutil.NoSuchProcess:
            return None

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


def signal_all(members: Iterable[ProcessIdentity], signum: signal.Signals) -> None:
    """Send a signal to those of `members` that still run, and to nobody else."""
    for member in members:
        if member.alive():
            try:
                os.kill(member.pid, signum)
            except ProcessLookupError:
                continue


def end_all(
    members: Sequence[ProcessIdentity], *, grace_s: float, kill_wait_s: float = 5.0
) -> list[ProcessIdentity]:
    """SIGTERM, wait up to `grace_s`, SIGKILL the rest; returns those that outlived even that.

    Blocks: in an event loop call it in a thread.
    """
    signal_all(members, signal.SIGTERM)
    left = _wait_gone(members, grace_s)
    signal_all(left, signal.SIGKILL)
    return _wait_gone(left, kill_wait_s)


def _wait_gone(members: Sequence[ProcessIdentity], timeout_s: float) -> list[ProcessIdentity]:
    processes = [p for m in members if (p := m.process()) is not None]
    _, alive = psutil.wait_procs(processes, timeout=timeout_s)
    living = {p.pid for p in alive}
    return [m for m in members if m.pid in living and m.alive()]
