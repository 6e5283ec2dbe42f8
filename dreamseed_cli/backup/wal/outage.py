"""While the archive cannot be reached, WAL stays in `pg_wal`: how much, how fast, and for how long yet.

Nothing is ever dropped. What a full disk would mean (PostgreSQL stops) is told two days ahead, at the rate at
which WAL has been piling up.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from dreamseed_cli.backup.progress import size_text, time_text
from dreamseed_cli.backup.rpo import LiveRpo
from dreamseed_cli.backup.wal.index import write_json
from dreamseed_cli.core.counting import counted
from dreamseed_cli.core.errors import DreamseedError

ALERT_S: Final = 2 * 86_400.0
"""Seconds before the disk is full at which that is an alert: an outage of two days must be survivable."""
SHORT_OF_SPACE: Final = 0.1
"""Of the disk: with less free, any backlog is an alert, whatever its rate."""
_STATUS: Final = "archive_status"
_READY: Final = ".ready"
_STATE: Final = "wal-state.json"
_LEAST_SPAN_S: Final = 60.0
"""Files that became ready within less tell no rate."""


class Alert(StrEnum):
    """How bad it is."""

    OK = "ok"
    FAILING = "failing"
    """The last push failed."""
    DISK = "disk"
    """And at this rate the disk is full within two days."""


@dataclass(frozen=True, slots=True)
class Ready:
    """A file that waits to be archived. since: seconds since the epoch. size: bytes."""

    name: str
    since: float
    size: int


@dataclass(frozen=True, slots=True)
class Backlog:
    """All that waits. growth_bytes_s: how fast it grew, measured from the files' times; None: too few."""

    files: int
    bytes: int
    free_bytes: int
    disk_bytes: int
    growth_bytes_s: float | None

    @property
    def full_in_s(self) -> float | None:
        """Seconds until the disk is full at this rate; None if there is no rate."""
        return None if not self.growth_bytes_s else self.free_bytes / self.growth_bytes_s

    @property
    def is_pressing(self) -> bool:
        """Whether the disk would fill within two days, or has little left already."""
        soon = self.full_in_s is not None and self.full_in_s < ALERT_S
        return self.files > 0 and (soon or self.free_bytes < self.disk_bytes * SHORT_OF_SPACE)


@dataclass(frozen=True, slots=True)
class ArchiveState:
    """How the last push went, for `status`, the metrics and the alarm.

    failing_since: of the first failure in an unbroken row; None while pushes succeed.
    """

    at: datetime
    failing_since: datetime | None
    failures: int
    kind: str
    error: str
    backlog: Backlog

    @property
    def text(self) -> str:
        """What is wrong, for people; empty while pushes succeed."""
        if self.failing_since is None:
            return ""
        backlog, full = self.backlog, self.backlog.full_in_s
        when = "" if full is None else f"; at this rate the disk is full in {time_text(full)}"
        return (
            f"WAL cannot be archived since {self.failing_since:%Y-%m-%d %H:%M} UTC "
            f"({counted(self.failures, 'try', 'tries')}): "
            f"{size_text(backlog.bytes)} wait, {size_text(backlog.free_bytes)} are free{when}. {self.error}"
        )

    @property
    def alert(self) -> Alert:
        if self.failing_since is None:
            return Alert.OK
        return Alert.DISK if self.backlog.is_pressing else Alert.FAILING


def ready_files(pg_wal: Path) -> list[Ready]:
    """What waits, in the order in which PostgreSQL hands it out: histories first, then by name."""
    found = []
    for mark in sorted((pg_wal / _STATUS).glob(f"*{_READY}")):
        name = mark.name.removesuffix(_READY)
        try:
            status = (pg_wal / name).stat()
        except FileNotFoundError:
            continue  # archived and gone since the folder was read
        found.append(Ready(name, status.st_mtime, status.st_size))
    return sorted(found, key=lambda ready: (not ready.name.endswith(".history"), ready.name))


def growth_bytes_s(ready: Sequence[Ready]) -> float | None:
    """Bytes a second that became ready, from the oldest file to the newest."""
    times = [file.since for file in ready]
    if not times or max(times) - min(times) < _LEAST_SPAN_S:
        return None
    return sum(file.size for file in ready) / (max(times) - min(times))


def measure_backlog(pg_wal: Path) -> Backlog:
    """Look at `pg_wal` and its disk."""
    ready = ready_files(pg_wal)
    disk = shutil.disk_usage(pg_wal)
    return Backlog(len(ready), sum(file.size for file in ready), disk.free, disk.total, growth_bytes_s(ready))


def read_state(folder: Path) -> ArchiveState | None:
    """How the last push went; None if there was none, or its file is damaged (the next push mends it)."""
    try:
        data: dict[str, Any] = json.loads((folder / _STATE).read_bytes())
        since = data["failing_since"]
        return ArchiveState(
            at=datetime.fromisoformat(data["at"]),
            failing_since=None if since is None else datetime.fromisoformat(since),
            failures=int(data["failures"]),
            kind=str(data["kind"]),
            error=str(data["error"]),
            backlog=Backlog(**data["backlog"]),
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def note_success(folder: Path, backlog: Backlog, now: datetime) -> ArchiveState:
    """Pushes succeed (again)."""
    return _write(folder, ArchiveState(now, None, 0, "", "", backlog))


def note_failure(folder: Path, error: Exception, backlog: Backlog, now: datetime) -> ArchiveState:
    """One more failure: since when, how often, and how long the disk lasts."""
    kind, text = "unexpected", f"{type(error).__name__}: {error}"
    if isinstance(error, DreamseedError):
        kind, text = error.kind, str(error)
    before = read_state(folder)
    since = before.failing_since if before and before.failing_since else now
    failures = (before.failures if before else 0) + 1
    return _write(folder, ArchiveState(now, since, failures, kind, text, backlog))


def as_of(state: ArchiveState, rpo: LiveRpo, now: datetime) -> ArchiveState:
    """The state as it is worth now. Pure.

    One that is older than the RPO's target tells nothing good where WAL moved on and is not archived: pushes
    do not come to their end (they hang, or cannot even begin), or run as another user.
    """
    old = (now - state.at).total_seconds() > rpo.target_s
    if state.failing_since is not None or not old or not (rpo.over_target and rpo.behind_bytes):
        return state
    error = "No push came to its end since then, and WAL moved on: see PostgreSQL's log."
    return replace(state, failing_since=state.at, kind="silent", error=error)


def _write(folder: Path, state: ArchiveState) -> ArchiveState:
    data = asdict(state)
    data["at"] = state.at.isoformat()
    data["failing_since"] = None if state.failing_since is None else state.failing_since.isoformat()
    data["alert"] = state.alert.value
    data["full_in_s"] = state.backlog.full_in_s
    write_json(folder / _STATE, data)
    return state
