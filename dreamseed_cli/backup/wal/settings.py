"""The settings PostgreSQL needs, so that its WAL is archived in time and recovery gets it back."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from dreamseed_cli.backup.rpo import archive_timeout_s
from dreamseed_cli.backup.store.base import Limits
from dreamseed_cli.backup.wal.fetch import ABSENT_EXIT, STOP_EXIT

UPLOAD_S: Final = 60.0
"""From a segment's end until it is durable, at worst: the archiver's own wait between tries is a minute."""

_CALLS: Final = 3
"""Of a push to the store: is it there, the put with its read-back, and is another server's there too."""
_SILENCES: Final = 4
"""How many fit into one call: the first is noticed while there is time for other tries."""
_LEAST_SILENCE_S: Final = 3.0
"""A store that works may well say nothing for so long."""
_MOST_DOUBLINGS: Final = 10


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


def push_limits(target_s: float, failures: int = 0, upload_s: float = UPLOAD_S) -> Limits:
    """How long the store may take for a push under an RPO of `target_s` seconds: the time that `settings_for`
    leaves for a retry, so that behind one archive_timeout a push that hangs and one that succeeds still fit.

    failures: of the pushes before it, in a row. Each doubles the time of a call, up to the usual one: a line
    too slow for a segment in that time would never archive any. A silence is no slow line, and stays bounded.
    """
    usual = Limits()
    call_s = (target_s - upload_s) / 3 / _CALLS
    silence_s = min(max(call_s / _SILENCES, _LEAST_SILENCE_S), usual.call_s)
    most_s = max(call_s, 2 * silence_s) * 2.0 ** min(failures, _MOST_DOUBLINGS)
    return replace(
        usual,
        connect_s=min(usual.connect_s, silence_s),
        call_s=silence_s,
        total_s=min(most_s, usual.total_s),
    )


def restore_command(fetch: Sequence[str]) -> str:
    """The command that gives recovery its WAL; fetch: without the file's name and place.

    1 only for a file proven absent, 126 for every other failure, even of the command's own start.
    """
    cases = f"0) ;; {ABSENT_EXIT}) exit 1 ;; *) exit {STOP_EXIT} ;;"
    return f"{_command(fetch)} %f %p; case $? in {cases} esac"


def _command(argv: Sequence[str]) -> str:
    """For the shell, and with `%` written as PostgreSQL wants it."""
    return shlex.join(argv).replace("%", "%%")
