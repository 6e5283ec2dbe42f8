"""What became of the last runs on this host: for the schedule, for alarms, and for Prometheus."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import AwareDatetime, Field, ValidationError

from dreamseed_cli.core.files import write_atomically
from dreamseed_cli.profile.part import Part


class RunRecord(Part):
    """began and ended: of the last good run. failed, error: of the last failed one.

    alarms: what somebody was told of and has not been told the end of yet. since: when the schedule was
    installed.
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
    alarms: tuple[str, ...] = ()
    since: AwareDatetime | None = None

    @property
    def last_failed(self) -> bool:
        return self.failures_in_a_row > 0


def read_record(home: Path) -> RunRecord:
    """The record, or an empty one: a lost record makes a backup run once more, which harms nothing."""
    try:
        return RunRecord.model_validate_json(_file(home).read_bytes())
    except (OSError, ValidationError):
        return RunRecord()


def write_record(home: Path, record: RunRecord) -> None:
    """Whole or not at all."""
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_atomically(_file(home), record.model_dump_json(indent=2).encode() + b"\n")


def _file(home: Path) -> Path:
    return home / "runs.json"
