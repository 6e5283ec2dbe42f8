"""The two servers, and what must be sure before one is written to: the other is dead or fenced."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, LiteralString

import psycopg

from dreamseed_cli.core.errors import FailedError, UsageError
from dreamseed_cli.database.connection import CONNECT_TIMEOUT_S, no_server
from dreamseed_cli.database.standby.seen import Look, Role, Seen, look

_POLL_S: Final = 0.1
_FENCE_S: Final = 120
_RELOAD_S: Final = 30.0


class SplitBrain(UsageError):
    """Two servers might take writes: nothing was changed (exit code 2)."""

    kind = "split_brain"


@dataclass(frozen=True, slots=True)
class Pair:
    """Connection strings of both; look: asks one, in a bounded time."""

    primary: str
    replica: str
    look: Look = look


@dataclass(frozen=True, slots=True)
class Fence:
    """How it is made sure that a server is dead. command: an argument list; empty: none.

    vouched: a person says that it is off and stays off.
    """

    command: Sequence[str] = ()
    vouched: bool = False

    def close(self, role: str, seen: Callable[[], Seen]) -> str:
        """Make sure of it; how, for people. SplitBrain if it still answers or nothing proves its death."""
        if self.command:
            self._run(role)
            return self._silent(role, seen, f"`{self.command[0]}` fenced it, and it does not answer")
        if self.vouched:
            return self._silent(role, seen, "a person vouches for its death, and it does not answer")
        answering = seen().answers
        raise SplitBrain(
            f"the old {role} still answers"
            if answering
            else f"the old {role} does not answer, which proves nothing: it may be the network's fault",
            place=role,
            remedy="Name services.postgres.standby.fence_command, or stop it so that it stays off and say so:"
            " --old-primary-is-dead.",
        )

    def _run(self, role: str) -> None:
        place = "services.postgres.standby.fence_command"
        try:
            done = subprocess.run(
                list(self.command),
                check=False,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=_FENCE_S,
                stdin=subprocess.DEVNULL,
                env={**os.environ, "DREAMSEED_FENCE": role},
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise FailedError(f"it cannot be run: {error}", place=place, remedy="Mend it.") from error
        if done.returncode != 0:
            raise FailedError(
                f"it exited with code {done.returncode}: {done.stderr.strip()[-300:]}",
                place=place,
                remedy="The old server may be alive: nothing was promoted.",
            )

    def _silent(self, role: str, seen: Callable[[], Seen], how: str) -> str:
        found = seen()
        if found.answers:
            raise SplitBrain(
                f"the old {role} still answers, as a {found.role}",
                place=role,
                remedy="Stop it so that it stays off, then try again.",
            )
        return how


@dataclass(frozen=True, slots=True)
class Promoted:
    """A server that takes writes now. last_commit: of what it had replayed, ISO 8601; None: of nothing."""

    lsn: str
    timeline: int
    last_commit: str | None


def promote_server(dsn: str, limit_s: float = 60.0) -> Promoted:
    """pg_promote(), and wait until it takes writes. FailedError if it does not in time."""
    with session(dsn) as connection:
        replayed = connection.execute("SELECT pg_last_xact_replay_timestamp()").fetchone()
        connection.execute("SELECT pg_promote(true, %s)", (int(limit_s),))
    until(lambda: look(dsn).role in {Role.PRIMARY, Role.FENCED}, limit_s, "the promotion")
    lsn, timeline = position(dsn)
    moment = replayed[0] if replayed else None
    return Promoted(lsn, timeline, moment.isoformat() if moment else None)


def position(dsn: str) -> tuple[str, int]:
    """LSN and timeline of a server that follows nobody."""
    with session(dsn) as connection:
        row = connection.execute(
            "SELECT pg_current_wal_lsn()::text, pg_walfile_name(pg_current_wal_lsn())"
        ).fetchone()
    lsn, segment = row or ("", "00000000")
    return lsn, int(segment[:8], 16)


def let_write(dsn: str, *, allowed: bool) -> None:
    """Whether new sessions may write by themselves. Returns once a new session finds it so. FailedError."""
    with session(dsn) as connection:
        if allowed:
            connection.execute("ALTER SYSTEM RESET default_transaction_read_only")
        else:
            connection.execute("ALTER SYSTEM SET default_transaction_read_only = on")
        connection.execute("SELECT pg_reload_conf()")
    wanted = Role.PRIMARY if allowed else Role.FENCED
    until(lambda: look(dsn).role is wanted, _RELOAD_S, "the reload of its settings")


def session(dsn: str) -> psycopg.Connection:
    """A connection in autocommit. MissingError if the server does not answer."""
    try:
        return psycopg.connect(
            dsn, autocommit=True, connect_timeout=CONNECT_TIMEOUT_S, application_name="dreamseed-db"
        )
    except psycopg.OperationalError as error:
        raise no_server(error) from error


def one(connection: psycopg.Connection, query: LiteralString, parameters: Sequence[Any] = ()) -> Any:
    """The one value that a query gives; None without a row."""
    row = connection.execute(query, parameters).fetchone()
    return row[0] if row else None


def until(condition: Callable[[], bool], limit_s: float, what: str) -> None:
    """Wait for it; FailedError after `limit_s` seconds."""
    deadline = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > deadline:
            raise FailedError(f"{what} did not end within {limit_s:g} s", place="database")
        time.sleep(_POLL_S)
