"""What became of the last runs on this host: for the schedule, for alarms, and for Prometheus."""

from __future__ import annotations

import fcntl
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Annotated, Final

from pydantic import AwareDatetime, Field, ValidationError

from dreamseed_cli.backup.names import Kind
from dreamseed_cli.backup.rpo import LiveRpo
from dreamseed_cli.core.files import write_atomically
from dreamseed_cli.profile.part import Part

_RATES: Final = "restores.json"


class Look(Part):
    """What the last look at the store found, so that a run after it does not hide it.

    rpo_s: seconds of work that would have been lost at that moment; None: everything.
    """

    at: AwareDatetime
    rpo_s: Annotated[float, Field(ge=0)] | None
    target_s: Annotated[float, Field(gt=0)]
    wal_gaps: Annotated[int, Field(ge=0)]

    @classmethod
    def of(cls, rpo: LiveRpo, now: datetime) -> Look:
        return cls(at=now, rpo_s=rpo.rpo_s, target_s=rpo.target_s, wal_gaps=len(rpo.gaps))


class Untold(Part):
    """A message that a hook failed to take. way: which (notify.Hooks.ways). at: when it was found."""

    kind: str
    text: str
    at: AwareDatetime
    way: str


class RunRecord(Part):
    """began and ended: of the last good run. failed, error: of the last failed one.

    look: the last that came to its end; None: nobody has looked yet. blind_since: the first look that failed
    since then; None: none did. alarms: what somebody was told of and has not been told the end of yet.
    untold: what is to be told again, oldest first. since: when the schedule was installed.
    """

    began: AwareDatetime | None = None
    ended: AwareDatetime | None = None
    backup_id: str = ""
    duration_s: Annotated[float, Field(ge=0)] = 0.0
    plain_bytes: Annotated[int, Field(ge=0)] = 0
    stored_bytes: Annotated[int, Field(ge=0)] = 0
    problems: tuple[str, ...] = ()
    failed: AwareDatetime | None = None
    error: str = ""
    failures_in_a_row: Annotated[int, Field(ge=0)] = 0
    look: Look | None = None
    blind_since: AwareDatetime | None = None
    alarms: tuple[str, ...] = ()
    untold: tuple[Untold, ...] = ()
    since: AwareDatetime | None = None

    @property
    def last_failed(self) -> bool:
        return self.failures_in_a_row > 0


class Rates(Part):
    """Plain bytes a second of the last restore of each kind on this host, measured over all of it."""

    logical: Annotated[float, Field(gt=0)] | None = None
    physical: Annotated[float, Field(gt=0)] | None = None

    def of(self, kind: Kind) -> float | None:
        """Of this kind."""
        return self.physical if kind is Kind.PHYSICAL else self.logical


def read_rates(home: Path) -> Rates:
    """What was measured, or nothing."""
    try:
        return Rates.model_validate_json((home / _RATES).read_bytes())
    except (OSError, ValidationError):
        return Rates()


def write_rate(home: Path, kind: Kind, bytes_per_s: float) -> None:
    """Keep the newest. OSError."""
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    rates = read_rates(home).model_copy(update={kind.value: bytes_per_s})
    write_atomically(home / _RATES, rates.model_dump_json().encode() + b"\n")


def read_record(file: Path) -> RunRecord:
    """The record, or an empty one: a lost record makes a backup run once more, which harms nothing. file: one
    for each store (Settings.runs), so that a backup into one is not taken for that of another's schedule.
    """
    try:
        return RunRecord.model_validate_json(file.read_bytes())
    except (OSError, ValidationError):
        return RunRecord()


def write_record(file: Path, record: RunRecord) -> None:
    """Whole or not at all."""
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_atomically(file, record.model_dump_json(indent=2).encode() + b"\n")


def change_record(file: Path, change: Callable[[RunRecord], RunRecord]) -> RunRecord:
    """Read, change and keep it while nobody else does: a look beside a run must not undo what that has kept.

    The new one. The lock is held for this alone, and so it is waited for.
    """
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with file.with_suffix(".lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        record = change(read_record(file))
        write_record(file, record)
    return record
