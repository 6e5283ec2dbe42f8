"""Rows that say when they were written: the newest one that comes back tells how much was lost.

They lie in a schema of their own, in the live database too; a drill removes its rows when it ends.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import Final

import psycopg
from psycopg import errors

from dreamseed_cli.backup.logical.server import Connection, connect, value
from dreamseed_cli.backup.names import Heartbeat as StoredBeat
from dreamseed_cli.backup.rpo import FUTURE_SLACK, SEGMENT_HEADER_BYTES
from dreamseed_cli.backup.status import read_heartbeats
from dreamseed_cli.backup.store.base import Store
from dreamseed_cli.drill.timeline import Heartbeat

SCHEMA: Final = "dreamseed_drill"
_MAKE: Final = (
    "CREATE SCHEMA IF NOT EXISTS dreamseed_drill",
    "CREATE TABLE IF NOT EXISTS dreamseed_drill.heartbeats ("
    "id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, drill text NOT NULL, at timestamptz NOT NULL)",
)
_WRITE: Final = "INSERT INTO dreamseed_drill.heartbeats (drill, at) VALUES (%s, %s)"
_NEWEST: Final = "SELECT max(at) FROM dreamseed_drill.heartbeats WHERE drill = %s"
_REMOVE: Final = (
    "DELETE FROM dreamseed_drill.heartbeats WHERE drill = %s OR at < now() - make_interval(secs => %s)"
)
_KILLED_S: Final = 86_400.0
"""A row older than this is of a drill that was killed: none writes heartbeats for so long."""
_THERE: Final = "SELECT to_regclass('dreamseed_drill.heartbeats') IS NOT NULL"
_LOCK_WAIT: Final = "SELECT set_config('lock_timeout', '2s', true)"
_ALONE: Final = "LOCK TABLE dreamseed_drill.heartbeats IN ACCESS EXCLUSIVE MODE"
_EMPTY: Final = "SELECT NOT EXISTS (SELECT FROM dreamseed_drill.heartbeats)"
_DROP: Final = ("DROP TABLE dreamseed_drill.heartbeats", "DROP SCHEMA dreamseed_drill")


@contextmanager
def beating(dsn: str, drill: str, every_s: float, now: Callable[[], datetime]) -> Iterator[None]:
    """Write a heartbeat now, and one every so many seconds until the end, or until the server is gone.

    ServerUnreachable if not even the first could be written.
    """
    over = threading.Event()
    connection = connect(dsn)
    try:
        with connection.transaction():  # so that no other drill that ends drops them in between
            for statement in _MAKE:
                connection.execute(statement)
            connection.execute(_WRITE, (drill, now()))
    except psycopg.Error:
        connection.close()
        raise

    def write() -> None:
        while not over.wait(every_s):
            try:
                connection.execute(_WRITE, (drill, now()))
            except psycopg.Error:
                return  # it is gone: that is what a disaster is

    writer = threading.Thread(target=write, name="heartbeats", daemon=True)
    writer.start()
    try:
        yield
    finally:
        over.set()
        writer.join()
        connection.close()


def remove(dsn: str, drill: str) -> None:
    """Remove the rows of a drill, and of killed ones; and the schema, once nothing is in it.

    It stays for the next drill to remove where somebody reads the table (a backup), or put something beside
    it.
    """
    with connect(dsn) as connection:
        if not value(connection, _THERE):
            return
        connection.execute(_REMOVE, (drill, _KILLED_S))
        with suppress(errors.LockNotAvailable, errors.DependentObjectsStillExist), connection.transaction():
            connection.execute(_LOCK_WAIT)
            connection.execute(_ALONE)
            if value(connection, _EMPTY):
                for statement in _DROP:
                    connection.execute(statement)


def newest_row(connection: Connection, drill: str) -> Heartbeat | None:
    """The newest of this drill's rows that is there."""
    if not value(connection, _THERE):
        return None
    at = value(connection, _NEWEST, (drill,))
    return None if at is None else Heartbeat(at, "the newest heartbeat row")


def newest_stored(store: Store, lsn: int, timeline: int, before: datetime) -> Heartbeat | None:
    """The newest heartbeat in the store whose WAL was replayed. timeline: the one recovery began itself."""
    beats = [
        beat
        for beat in read_heartbeats(store)
        if _replayed(beat, lsn, timeline) and beat.at <= before + FUTURE_SLACK
    ]
    newest = max(beats, key=lambda beat: beat.at, default=None)
    return None if newest is None else Heartbeat(newest.at, "the newest heartbeat in the store")


def _replayed(beat: StoredBeat, lsn: int, timeline: int) -> bool:
    # A new segment's header is no content: see backup.rpo.
    return beat.lsn <= lsn + SEGMENT_HEADER_BYTES and beat.timeline < timeline
