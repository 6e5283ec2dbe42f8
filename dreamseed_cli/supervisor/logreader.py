"""Reading the logs of a stack's processes: their last lines, and what they write from now on."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from dreamseed_cli.core.errors import MissingError
from dreamseed_cli.core.paths import StateDir
from dreamseed_cli.supervisor.logfile import clean_line, last_lines, says_something

_POLL_S = 0.2
_LONGEST_LINE = 64 * 1024
_ORDER = ("supervisor", "gateway")


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line and the process that wrote it."""

    name: str
    line: str


def log_names(state: StateDir) -> list[str]:
    """The processes that have a log: supervisor, gateway, then the replicas in their order."""
    names = [path.stem for path in state.log_dir.glob("*.log")]
    return sorted(names, key=lambda name: (name not in _ORDER, len(name), name))


def choose_logs(state: StateDir, name: str | None) -> list[str]:
    """The logs to read: one by its name, else all. MissingError if there is none."""
    names = log_names(state)
    if name is None and names:
        return names
    if name in names:
        return [name]
    wanted = f"no log of '{name}'" if name else "no log"
    there = f"There are: {', '.join(names)}." if names else "Start the stack with: dreamseed serve."
    raise MissingError(f"there is {wanted}", place=str(state.log_dir), remedy=there)


def read_logs(state: StateDir, name: str | None, count: int) -> list[LogLine]:
    """The last `count` lines of each chosen log."""
    return [
        LogLine(each, line)
        for each in choose_logs(state, name)
        for line in last_lines(state.log(each), count)
    ]


def follow_logs(state: StateDir, name: str | None, count: int) -> Iterator[LogLine]:
    """The last `count` lines of each chosen log, then every further one as it comes, without end.

    Not a line is lost or told twice between the two. Logs that appear later join in, unless one was named.
    """
    followers = {each: _Follower(state.log(each)) for each in choose_logs(state, name)}
    for each, follower in followers.items():
        yield from (LogLine(each, line) for line in follower.skip(count))
    while True:
        for each in log_names(state) if name is None else ():
            followers.setdefault(each, _Follower(state.log(each)))
        for each, follower in followers.items():
            yield from (LogLine(each, line) for line in follower.lines())
        time.sleep(_POLL_S)


@dataclass(slots=True)
class _Follower:
    """A place in a log that may be emptied under us (see `logfile.bound_log`)."""

    path: Path
    position: int = 0
    rest: bytes = field(default=b"")

    def skip(self, count: int) -> list[str]:
        """Go to the end of its last whole line; the last `count` lines before it."""
        with self.path.open("rb") as stream:
            size = stream.seek(0, os.SEEK_END)
            start = max(0, size - _LONGEST_LINE)
            stream.seek(start)
            self.position = start + stream.read(size - start).rfind(b"\n") + 1
        return last_lines(self.path, count, until_byte=self.position)

    def lines(self) -> list[str]:
        """The whole lines since the last call."""
        with self.path.open("rb") as stream:
            if stream.seek(0, os.SEEK_END) < self.position:
                self.position = 0
            stream.seek(self.position)
            new = stream.read()
        self.position += len(new)
        *whole, self.rest = (self.rest + new).split(b"\n")
        lines = [clean_line(line.decode("utf-8", errors="replace")) for line in whole]
        return [line for line in lines if not line or says_something(line)]
