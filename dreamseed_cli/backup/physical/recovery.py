"""Recovery on a private socket: a server that nobody else reaches replays WAL up to a goal."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Literal, LiteralString

import psycopg
from psycopg.conninfo import make_conninfo

from dreamseed_cli.backup import ending
from dreamseed_cli.backup.logical.server import Programs
from dreamseed_cli.backup.physical.tablespaces import made_in
from dreamseed_cli.backup.temporary import RECOVERY, forget_left, temporary_folder
from dreamseed_cli.backup.wal_names import parse_lsn
from dreamseed_cli.core.errors import FailedError, UsageError
from dreamseed_cli.core.processes import ProcessIdentity, signal_all
from dreamseed_cli.services.root import dying_with_us, unprivileged

Kind = Literal["latest", "immediate", "time", "lsn", "name"]
Action = Literal["promote", "pause"]

_PORT: Final = 5432
_POLL_S: Final = 0.05
_OURS: Final = "pg: "
"""Begins the server's own lines in its log: all others are restore_command's."""
_ERROR: Final = re.compile(rf"{_OURS}(?:FATAL|PANIC|ERROR|HINT)(?!.*not yet accepting connections)")
"""What is wrong, but for the answers to our own early questions."""
_CONTROL_LIMITS: Final = {
    "max_connections setting": "max_connections",
    "max_worker_processes setting": "max_worker_processes",
    "max_wal_senders setting": "max_wal_senders",
    "max_prepared_xacts setting": "max_prepared_transactions",
    "max_locks_per_xact setting": "max_locks_per_transaction",
}
"""pg_controldata's names for what a standby must have at least as much of as its primary."""


class RecoveryFailed(FailedError):
    """The server ended, or never came up: no database was restored."""

    kind = "recovery_failed"


@dataclass(frozen=True, slots=True)
class Goal:
    """Where recovery stops. immediate: as soon as the backup is consistent. latest: at the archive's end.

    value: a moment with a time zone, an LSN such as 16/B374D848, or the name given to
    pg_create_restore_point(). timeline: `latest` follows forks, `current` stays on the backup's, or a number.
    inclusive: whether what happened at the very moment or LSN is in. pause: the folder stays in recovery, and
    a later goal can still be chosen.
    """

    kind: Kind = "latest"
    value: datetime | str | None = None
    timeline: int | Literal["latest", "current"] = "latest"
    action: Action = "promote"
    inclusive: bool = True

    def settings(self) -> dict[str, str]:
        """As PostgreSQL takes it. UsageError if the value is none."""
        found = {
            "recovery_target_timeline": str(self.timeline),
            "recovery_target_action": self.action,
            "recovery_target_inclusive": "on" if self.inclusive else "off",
        }
        if self.kind == "immediate":
            found["recovery_target"] = "immediate"
        elif self.kind != "latest":
            found[f"recovery_target_{self.kind}"] = self._text()
        return found

    def _text(self) -> str:
        value = self.value
        if self.kind == "time":
            if not isinstance(value, datetime) or value.tzinfo is None:
                raise UsageError(
                    "a moment without a time zone is two moments a year",
                    place=str(value),
                    remedy="Write it with its offset: 2025-11-10T03:00:00+09:00.",
                )
            return value.isoformat(sep=" ")
        if not isinstance(value, str) or not value:
            raise UsageError("nothing says where to stop", place=f"recovery to a {self.kind}")
        if self.kind == "lsn":
            parse_lsn(value)
        return value


@dataclass(frozen=True, slots=True)
class Reached:
    """Where recovery ended. last_commit: of the newest transaction replayed; None if none was."""

    timeline: int
    lsn: str
    last_commit: datetime | None
    paused: bool


@dataclass(slots=True)
class PrivateServer:
    """A server on a socket of its own folder. Its settings come from here, not from the backup's files."""

    data: Path
    folder: Path
    user: str
    argv: tuple[str, ...]
    process: subprocess.Popen[bytes] | None = None
    forget: Callable[[], None] = lambda: None

    @property
    def log(self) -> Path:
        return self.folder / "log"

    def dsn(self, database: str = "postgres") -> str:
        """libpq's connection string."""
        return make_conninfo(host=str(self.folder), port=_PORT, user=self.user, dbname=database)

    def start(self) -> None:
        ending.check()
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                self.argv, stdout=output, stderr=output, stdin=subprocess.DEVNULL, start_new_session=True
            )
        self.forget = ending.on_end(self._end)

    def stop(self) -> None:
        """A fast shutdown; after a minute, or when told to end, an immediate one."""
        if self.process is None:
            return
        self.forget()
        for signum, wait_s in ((signal.SIGINT, 60.0), (signal.SIGQUIT, 10.0), (signal.SIGKILL, 10.0)):
            if self.process.poll() is not None:
                return
            self.process.send_signal(signum)
            deadline = time.monotonic() + wait_s
            while self.process.poll() is None and time.monotonic() < deadline:
                if signum is signal.SIGINT and ending.told():
                    break
                time.sleep(_POLL_S)

    def wait(self, goal: Goal, limit_s: float) -> Reached:
        """Until it has promoted, or paused at the goal. TablespaceMade; RecoveryFailed in the log's words."""
        deadline = time.monotonic() + limit_s
        while time.monotonic() < deadline:
            if self.process is None or self.process.poll() is not None:
                raise self._ended()
            if not self.folder.exists():
                raise RecoveryFailed(
                    "somebody removed the folder with its socket: nobody can ask it how far it is",
                    place=str(self.folder),
                    remedy="Leave temporary folders of running commands alone, and restore again.",
                )
            reached = self._look(goal)
            if reached is not None:
                return reached
            ending.check()
            time.sleep(_POLL_S)
        raise RecoveryFailed(f"no end within {limit_s:g} s: {self.said()}", place=str(self.data))

    def go_on(self) -> None:
        """From where it is paused, which ends recovery: it was the goal. RecoveryFailed."""
        try:
            with psycopg.connect(self.dsn(), connect_timeout=5, autocommit=True) as connection:
                connection.execute("SELECT pg_wal_replay_resume()")
        except psycopg.Error as error:
            raise RecoveryFailed(f"it cannot go on: {error}", place=str(self.data)) from error

    def said(self) -> str:
        """The log's last errors, and what restore_command said last."""
        lines = self.text().splitlines()
        errors = [line for line in lines if _ERROR.match(line)]
        others = [line for line in lines if line and not line.startswith((_OURS, "\t"))]
        return "; ".join([*(line.removeprefix(_OURS) for line in errors[-3:]), *others[-2:]])[:1500]

    def text(self) -> str:
        """Its log."""
        return self.log.read_text(encoding="utf-8", errors="replace")

    def _ended(self) -> FailedError:
        return made_in(self.text(), self.data) or RecoveryFailed(
            f"the server ended during recovery: {self.said()}",
            place=str(self.data),
            remedy="Mend the archive, choose an earlier moment, or restore another backup.",
        )

    def _end(self, hard: bool) -> None:
        """An immediate shutdown: what it recovered so far is not kept."""
        if self.process is not None and self.process.returncode is None:
            identity = ProcessIdentity.of(self.process.pid)
            if hard and identity is not None:
                signal_all(identity.family(), signal.SIGKILL)
            else:
                self.process.send_signal(signal.SIGQUIT)

    def _look(self, goal: Goal) -> Reached | None:
        try:
            with psycopg.connect(self.dsn(), connect_timeout=5, autocommit=True) as connection:
                return _reached(connection, goal)
        except psycopg.Error:
            return None  # not yet consistent; if it is more than that, the server ends


def _reached(connection: psycopg.Connection, goal: Goal) -> Reached | None:
    """Where it stands if it has arrived; None while it is still replaying."""
    recovering, replayed, last_commit = _row(
        connection,
        "SELECT pg_is_in_recovery(), pg_last_wal_replay_lsn()::text, pg_last_xact_replay_timestamp()",
    )
    if not recovering:
        segment, written = _row(
            connection, "SELECT pg_walfile_name(pg_current_wal_lsn()), pg_current_wal_lsn()::text"
        )
        return Reached(int(segment[:8], 16), replayed or written, last_commit, paused=False)
    if goal.action == "promote" or _row(connection, "SELECT pg_get_wal_replay_pause_state()")[0] != "paused":
        return None
    (timeline,) = _row(connection, "SELECT timeline_id FROM pg_control_checkpoint()")
    return Reached(int(timeline), replayed, last_commit, paused=True)


def _row(connection: psycopg.Connection, query: LiteralString) -> tuple[Any, ...]:
    return connection.execute(query).fetchone() or ()


@contextmanager
def private_server(
    data: Path, settings: Mapping[str, str], programs: Programs, user: str
) -> Iterator[PrivateServer]:
    """A server on `data` that is started by hand and stopped at the end, whatever happens.

    It takes its settings from here alone, and its hba file too: the cluster's own may name files, ports and
    libraries of another machine. archive_mode is on without a command: the new timeline's history and
    segments are marked for archiving, and go where the cluster's own settings say once it is put to use.
    """
    temp = Path(tempfile.gettempdir())
    forget_left(temp, RECOVERY)
    with temporary_folder(temp, RECOVERY) as folder:
        (folder / "postgresql.conf").write_text("# All settings are on the command line.\n", encoding="utf-8")
        (folder / "pg_hba.conf").write_text("local all all trust\n", encoding="utf-8")
        (folder / "pg_ident.conf").write_text("", encoding="utf-8")
        everything = {
            "config_file": str(folder / "postgresql.conf"),
            "hba_file": str(folder / "pg_hba.conf"),
            "ident_file": str(folder / "pg_ident.conf"),
            "listen_addresses": "",
            "unix_socket_directories": str(folder),
            "unix_socket_permissions": "0700",
            "port": str(_PORT),
            # What it reads lies in the system's own cache, too: more would only take memory.
            "shared_buffers": "32MB",
            "hot_standby": "on",
            "wal_level": "replica",
            "archive_mode": "on",
            "archive_command": "",
            "archive_library": "",
            "ssl": "off",
            "logging_collector": "off",
            "log_destination": "stderr",
            "log_line_prefix": _OURS,
            "lc_messages": "C",
            "shared_preload_libraries": "",
            **_limits(data, programs),
            **settings,
        }
        options = [text for name, value in everything.items() for text in ("-c", f"{name}={value}")]
        postgres = programs("postgres")
        argv = unprivileged((str(postgres), "-D", str(data), *options))
        # An immediate shutdown if we are killed: what it recovered so far is not kept.
        server = PrivateServer(data, folder, user, dying_with_us(argv, postgres, "QUIT"))
        try:
            yield server
        finally:
            server.stop()


def _limits(data: Path, programs: Programs) -> dict[str, str]:
    """What a standby must have as much of as its primary had, or recovery refuses."""
    done = subprocess.run(
        [str(programs("pg_controldata")), "-D", str(data)],
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, "LC_ALL": "C"},
    )
    if done.returncode != 0:
        raise RecoveryFailed(f"pg_control cannot be read: {done.stderr.strip()}", place=str(data))
    fields = {label.strip(): text.strip() for label, _, text in map(_halves, done.stdout.splitlines())}
    return {name: fields[label] for label, name in _CONTROL_LIMITS.items() if label in fields}


def _halves(line: str) -> tuple[str, str, str]:
    return line.partition(":")
