"""Reading the incidents of a state folder from beside the supervisor, while it runs or long after."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dreamseed_cli.core.errors import DreamseedError, FailedError, MissingError, UsageError
from dreamseed_cli.incidents.record import KINDS, Incident
from dreamseed_cli.incidents.store import SCHEMA_VERSION, reading, schema_version, select_last, select_one


def read_incidents(
    path: Path, count: int = 20, *, subject: str | None = None, kind: str | None = None
) -> list[Incident]:
    """The last `count` incidents, oldest first.

    UsageError for an unknown kind. MissingError if nothing ever ran here, FailedError for a damaged file.
    """
    if kind is not None and kind not in KINDS:
        raise UsageError(
            f"there is no kind '{kind}'", place="--kind", remedy=f"The kinds are: {', '.join(KINDS)}."
        )
    with _file(path) as file:
        return [] if file is None else select_last(file, count, subject=subject, kind=kind)


def read_incident(path: Path, incident: str) -> Incident:
    """One incident. UsageError if there is none of that id; else as `read_incidents`."""
    with _file(path) as file:
        found = None if file is None else select_one(file, incident)
    if found is None:
        raise UsageError(
            f"there is no incident '{incident}'",
            place=str(path),
            remedy="See the ids with: dreamseed incidents. The oldest are let go in time.",
        )
    return found


@contextmanager
def _file(path: Path) -> Iterator[sqlite3.Connection | None]:
    """The file; None if a supervisor has just made it and not written to it."""
    if not path.exists():
        raise MissingError(
            "no stack has run here yet, so nothing has gone wrong",
            place=str(path.parent),
            remedy="Start one with: dreamseed serve. Or name the folder of another with --state-dir.",
        )
    try:
        with reading(path) as file:
            version = schema_version(file)
            if version not in {0, SCHEMA_VERSION}:
                raise _of_another_version(path, version)
            yield file if version else None
    except sqlite3.Error as error:
        raise FailedError(
            f"the incidents cannot be read: {error}",
            place=str(path),
            remedy="If the file is damaged, the running stack sets it aside at its next incident.",
        ) from error


def _of_another_version(path: Path, version: int) -> DreamseedError:
    return FailedError(
        f"the incidents are of another version (their schema is {version}, this one's {SCHEMA_VERSION})",
        place=str(path),
        remedy="Read them with the version that runs the stack.",
    )
