"""What PostgreSQL itself says of its archiver: what pushes note may be another user's, or was never noted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from dreamseed_cli.backup.logical.server import connect, server_errors, value
from dreamseed_cli.backup.progress import time_text

_MAY_LIST: Final = "SELECT has_function_privilege('pg_ls_archive_statusdir()', 'EXECUTE')"
_WAITING: Final = (
    "SELECT count(*), coalesce(extract(epoch FROM now() - min(modification)), 0)::float8"
    " FROM pg_ls_archive_statusdir() WHERE right(name, 6) = '.ready'"
)
_FAILING: Final = (
    "SELECT coalesce(last_failed_wal, ''),"
    " extract(epoch FROM now() - coalesce(last_archived_time, stats_reset, now()))::float8"
    " FROM pg_stat_archiver WHERE last_failed_time > coalesce(last_archived_time, '-infinity')"
)


@dataclass(frozen=True, slots=True)
class Archiver:
    """files: that wait; None: the role may not list them. waited_s: seconds that the oldest has waited, or,
    where they cannot be listed and the last try failed, since one was archived; by the server's clock.
    failing: the file whose archiving failed, if none was archived since; empty if it works.
    """

    files: int | None
    waited_s: float
    failing: str = ""

    def stuck(self, target_s: float) -> str | None:
        """What is wrong, for people, if WAL waits for longer than an RPO allows; else None."""
        if self.waited_s <= target_s:
            return None
        waiting = "WAL waits" if self.files is None else f"{self.files} WAL files wait"
        why = f"archive_command fails with {self.failing}" if self.failing else "archive_command does not end"
        said = f"{waiting} to be archived, the oldest for {time_text(self.waited_s)}: {why}"
        return f"{said} (see PostgreSQL's log); what waits fills its disk"


@server_errors
def read_archiver(dsn: str) -> Archiver | None:
    """How it goes with the server's WAL; None: it archives none. ServerUnreachable, ServerFailed."""
    with connect(dsn) as connection:
        if value(connection, "SHOW archive_mode") == "off":
            return None
        failing, since_s = connection.execute(_FAILING).fetchone() or ("", 0.0)
        if not value(connection, _MAY_LIST):
            return Archiver(None, since_s, failing)
        files, waited_s = connection.execute(_WAITING).fetchone() or (0, 0.0)
    return Archiver(files, waited_s, failing)
