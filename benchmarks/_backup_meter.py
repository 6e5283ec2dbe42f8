"""What commands cost: time, CPU and memory of a whole tree of processes, and of the machine meanwhile."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

MIB: Final = 2**20
_SAMPLE_S: Final = 0.03
_WORDS: Final = 400

Argv = Sequence[str | Path]


class CommandFailed(RuntimeError):
    """A command ended with another exit code than 0, or not in time."""


@dataclass(frozen=True)
class Cost:
    """What it took. cpu_s: of all processes of the machine, servers included. own_cpu_s: of the command and
    what it started. peak_mib: the most that those had resident at once, sampled; shared memory
    counts once.
    """

    wall_s: float
    cpu_s: float
    own_cpu_s: float
    peak_mib: float
    output: str


def metered(
    commands: Sequence[Argv], log: Path, *, env: Mapping[str, str] | None = None, limit_s: float = 120.0
) -> Cost:
    """Run commands one after the other. CommandFailed with the last words of the first that fails.

    log: a file for what the last one prints. What others wrote is on the disk before it begins: these must
    not pay for that.
    """
    os.sync()
    began, busy = time.monotonic(), _busy_s()
    runs = [_run(command, log, {**os.environ, **(env or {})}, limit_s) for command in commands]
    return Cost(
        wall_s=time.monotonic() - began,
        cpu_s=_busy_s() - busy,
        own_cpu_s=sum(own for own, _ in runs),
        peak_mib=max(peak for _, peak in runs),
        output=log.read_text(errors="replace"),
    )


def _run(argv: Argv, log: Path, env: Mapping[str, str], limit_s: float) -> tuple[float, float]:
    """CPU seconds and peak MiB of one command."""
    errors = log.with_suffix(".err")
    with log.open("wb") as output, errors.open("wb") as said:
        process = subprocess.Popen(
            [str(word) for word in argv],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=said,
            env=env,
            start_new_session=True,
        )
        late = threading.Timer(limit_s, _kill, (process.pid,))
        late.start()
        try:
            with _watched(process.pid) as watch:
                _, status, usage = os.wait4(process.pid, 0)
        finally:
            late.cancel()
            _kill(process.pid)  # what it may have left behind, or itself when we are told to end
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        words = " ".join((errors.read_text(errors="replace") + log.read_text(errors="replace")).split())
        raise CommandFailed(f"{argv[0]}: exit code {process.returncode}: {words[-_WORDS:]}")
    return usage.ru_utime + usage.ru_stime, watch.peak_bytes / MIB


def _kill(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)


@dataclass
class _Watch:
    pid: int
    peak_bytes: int = 0

    def look(self) -> None:
        found = [_resident(pid) for pid in _family(self.pid)]
        own = sum(one.own for one in found)
        shared = max((one.shared for one in found), default=0)
        # The kernel's own peak is of one process only, and misses nothing.
        self.peak_bytes = max(self.peak_bytes, own + shared, *(one.peak for one in found))


@dataclass(frozen=True)
class _Resident:
    """Bytes of one process. shared: memory that a server's processes have in common, such as PostgreSQL's
    buffers; a family has it once. peak: of own and shared, at most so far.
    """

    own: int = 0
    shared: int = 0
    peak: int = 0


def _family(pid: int) -> Iterator[int]:
    """A process and all below it. From their own folders in /proc: psutil would read every process's."""
    yield pid
    children: list[str] = []
    with suppress(OSError):  # it, or one of its threads, has ended
        for thread in Path(f"/proc/{pid}/task").iterdir():
            children += (thread / "children").read_text().split()
    for child in children:
        yield from _family(int(child))


def _resident(pid: int) -> _Resident:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return _Resident()
    kib = {line.split(":")[0]: int(line.split()[1]) for line in lines if line.startswith(("VmHWM", "Rss"))}
    own = kib.get("RssAnon", 0) + kib.get("RssFile", 0)
    return _Resident(own * 1024, kib.get("RssShmem", 0) * 1024, kib.get("VmHWM", 0) * 1024)


@contextmanager
def _watched(pid: int) -> Iterator[_Watch]:
    watch, over = _Watch(pid), threading.Event()

    def run() -> None:
        while not over.wait(_SAMPLE_S):
            watch.look()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield watch
    finally:
        over.set()
        thread.join()


def _busy_s() -> float:
    """CPU seconds of the machine so far that were not idle."""
    times = psutil.cpu_times()
    return float(sum(times) - times.idle - times.iowait - times.guest - times.guest_nice)


def stored_bytes(folder: Path) -> int:
    """Of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
