"""One look at a PostgreSQL server: what it is at this moment, within a bounded time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import psycopg
from psycopg.conninfo import make_conninfo

from dreamseed_cli.core.threads import in_daemon_thread

_CONNECT_S: Final = 2  # the shortest that libpq takes
_LOOK: Final = """
SELECT pg_is_in_recovery(), current_setting('default_transaction_read_only') = 'on',
    (SELECT system_identifier FROM pg_control_system())::text,
    CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_flush_lsn() END::text
"""


class Role(StrEnum):
    """What a server is, to one who asks it."""

    PRIMARY = "primary"
    """It takes writes."""
    FENCED = "fenced primary"
    """It follows nobody, and takes no writes unless a session insists."""
    STANDBY = "standby"
    AWAY = "away"


@dataclass(frozen=True, slots=True)
class Seen:
    """system: the cluster's identifier, equal in a primary and its standbys. lsn: replayed or flushed."""

    role: Role
    system: str = ""
    lsn: str = ""
    cause: str = ""

    @property
    def answers(self) -> bool:
        return self.role is not Role.AWAY


Look = Callable[[str], Seen]


def look(dsn: str) -> Seen:
    """Ask one server. It answers, or is away with a cause that holds no password. May hang: see Prober."""
    bounded = make_conninfo(dsn, connect_timeout=_CONNECT_S, application_name="dreamseed-watch")
    try:
        with psycopg.connect(bounded, autocommit=True) as connection:
            row = connection.execute(_LOOK).fetchone()
    except psycopg.Error as error:
        return Seen(Role.AWAY, cause=str(error).strip().partition("\n")[0] or type(error).__name__)
    recovering, read_only, system, lsn = row or (None, None, "", "")
    role = Role.STANDBY if recovering else Role.FENCED if read_only else Role.PRIMARY
    return Seen(role, system, lsn or "")


class Prober:
    """Asks one server again and again, never two questions at a time: one that hangs counts as away."""

    def __init__(self, dsn: str, timeout_s: float, ask: Look = look) -> None:
        self._dsn = dsn
        self._timeout_s = timeout_s
        self._ask = ask
        self._asking: asyncio.Task[Seen] | None = None

    async def look(self) -> Seen:
        """Within `timeout_s` seconds."""
        if self._asking is None:
            self._asking = asyncio.create_task(in_daemon_thread(lambda: self._ask(self._dsn)))
        done, _ = await asyncio.wait({self._asking}, timeout=self._timeout_s)
        if not done:
            return Seen(Role.AWAY, cause=f"no answer within {self._timeout_s:g} s")
        asked, self._asking = self._asking, None
        return asked.result()
