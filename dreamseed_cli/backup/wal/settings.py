"""The settings PostgreSQL needs, so that its WAL is archived in time and recovery gets it back."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import Final

from dreamseed_cli.backup.rpo import archive_timeout_s
from dreamseed_cli.backup.wal.fetch import ABSENT_EXIT, STOP_EXIT

UPLOAD_S: Final = 60.0
"""From a segment's end until it is durable, at worst: the archiver's own wait between tries is a minute."""


def settings_for(push: Sequence[str], target_s: float, upload_s: float = UPLOAD_S) -> dict[str, str]:
    """`postgresql.conf` entries for an RPO of `target_s` seconds.

    push: the command that archives, without the file (`dreamseed wal push`). UsageError if the target is too
    small for `upload_s`. archive_mode and wal_level take a restart, the others a reload.
    """
    return {
        "wal_level": "replica",
        "archive_mode": "on",
        "archive_command": f"{_command(push)} %p",
        "archive_timeout": str(archive_timeout_s(target_s, upload_s)),
    }


def restore_command(fetch: Sequence[str]) -> str:
    """The command that gives recovery its WAL; fetch: without the file's name and place.

    1 only for a file proven absent, 126 for every other failure, even of the command's own start.
    """
    cases = f"0) ;; {ABSENT_EXIT}) exit 1 ;; *) exit {STOP_EXIT} ;;"
    return f"{_command(fetch)} %f %p; case $? in {cases} esac"


def _command(argv: Sequence[str]) -> str:
    """For the shell, and with `%` written as PostgreSQL wants it."""
    return shlex.join(argv).replace("%", "%%")
