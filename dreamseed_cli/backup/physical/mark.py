"""The mark of an unfinished restore: what it is of and how far it got, so that the next one can go on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

from pydantic import Field, ValidationError

from dreamseed_cli.backup.physical.verify import Verified
from dreamseed_cli.core.files import write_atomically
from dreamseed_cli.profile.part import Part

MARKER: Final = "dreamseed-restore-unfinished"
"""Stands in the folder from the first byte to the last check. A folder with it is no database yet."""
SIGNAL: Final = "recovery.signal"
"""PostgreSQL's own: the folder is in recovery, and was not opened yet."""


class Mark(Part):
    """goal, compare_at: recovery's settings; thorough: see restore.Wish. One restore goes on where another
    stopped only if it is the same in all of these: recovery cannot go back.

    size: bytes, once all is unpacked and compared. tables, rows: once their content is, too.
    """

    backup_id: str
    goal: dict[str, str]
    compare_at: dict[str, str] | None
    thorough: bool
    size: Annotated[int, Field(ge=0)] | None = None
    verified: Annotated[Verified | None, Field(strict=False)] = None
    tables: int | None = None
    rows: int = 0

    def is_same(self, other: Mark) -> bool:
        """Whether it is of the same restore."""
        names = ("backup_id", "goal", "compare_at", "thorough")
        return all(getattr(self, name) == getattr(other, name) for name in names)


def read_mark(folder: Path) -> Mark | None:
    """The mark; None if it cannot be read: then nothing is known of how far the restore got."""
    try:
        return Mark.model_validate_json((folder / MARKER).read_bytes())
    except (OSError, ValidationError):
        return None


def write_mark(folder: Path, mark: Mark) -> None:
    """Durably, whole or not at all. OSError."""
    write_atomically(folder / MARKER, mark.model_dump_json().encode() + b"\n")
