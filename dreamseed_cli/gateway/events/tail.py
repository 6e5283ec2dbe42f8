"""The outbox for readers without Kafka: its last events, and every further one as it comes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime
from typing import NamedTuple

import psycopg
from psycopg.rows import class_row

from dreamseed_cli.database.connection import connected

_POLL_S = 0.5
_AT_ONCE = 1000
_SETTLED_S = 30.0
"""A transaction of a gateway ends long before that: no smaller sequence number comes after it."""

_COLUMNS = "sequence, event_id, payload, created_at, published_at"
_LAST = f"SELECT {_COLUMNS} FROM outbox ORDER BY sequence DESC LIMIT %s"  # noqa: S608 - constants
_NEW = f"""
SELECT {_COLUMNS} FROM outbox WHERE sequence > %s AND sequence <> ALL(%s) ORDER BY sequence LIMIT %s
"""  # noqa: S608 - constants


class StoredEvent(NamedTuple):
    """One row of the outbox."""

    sequence: int
    event_id: str
    payload: str
    """The event's JSON, as Kafka gets it."""
    created_at: datetime
    published_at: datetime | None


def last_events(dsn: str, count: int) -> list[StoredEvent]:
    """The last `count` events, oldest first; published ones are there until they are pruned.

    Raises MissingError if there is no server or no schema, FailedError for what PostgreSQL refuses.
    """
    with connected(dsn) as connection:
        return _last(connection, count)


def follow_events(dsn: str, count: int) -> Iterator[StoredEvent]:
    """The last `count` events, then every further one, without end. Raises what `last_events` raises."""
    with connected(dsn) as connection:
        connection.commit()
        connection.autocommit = True
        told = _Told()
        newest = _last(connection, max(count, 1))
        told.begin(newest)
        yield from newest[len(newest) - count :] if count else ()
        while True:
            events = _new(connection, told)
            yield from events
            told.add(events)
            if len(events) < _AT_ONCE:
                time.sleep(_POLL_S)


class _Told:
    """Which events were told. Two gateways' transactions may end in another order than their sequence
    numbers: a number counts as passed only when it has been told for some time.
    """

    def __init__(self) -> None:
        self.floor = 0
        self.recent: dict[int, float] = {}

    def begin(self, events: list[StoredEvent]) -> None:
        self.floor = events[0].sequence - 1 if events else 0
        self.add(events)

    def add(self, events: list[StoredEvent]) -> None:
        now = time.monotonic()
        self.recent.update((event.sequence, now) for event in events)
        settled = [number for number, at in self.recent.items() if now - at > _SETTLED_S]
        self.floor = max(settled, default=self.floor)
        for number in settled:
            del self.recent[number]


def _last(connection: psycopg.Connection, count: int) -> list[StoredEvent]:
    with connection.cursor(row_factory=class_row(StoredEvent)) as cursor:
        return cursor.execute(_LAST, (count,)).fetchall()[::-1]


def _new(connection: psycopg.Connection, told: _Told) -> list[StoredEvent]:
    with connection.cursor(row_factory=class_row(StoredEvent)) as cursor:
        return cursor.execute(_NEW, (told.floor, list(told.recent), _AT_ONCE)).fetchall()
