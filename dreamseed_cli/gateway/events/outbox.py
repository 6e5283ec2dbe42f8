"""The outbox as the relay sees it: what Kafka does not have yet, in order, for one relay at a time."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import NamedTuple

import psycopg
from psycopg import AsyncConnection
from psycopg.rows import class_row

from dreamseed_cli.gateway.events.connection import away, connect, cut, time_box
from dreamseed_cli.gateway.events.retention import prune_published

_LOCK = "SELECT pg_try_advisory_lock(hashtext('dreamseed relay'))"
_WAITING = """
SELECT sequence, event_id, key, payload FROM outbox WHERE published_at IS NULL ORDER BY sequence LIMIT %s
"""
_MARK = "UPDATE outbox SET published_at = now() WHERE sequence = ANY(%s) AND published_at IS NULL"


_MOST_COUNTED = 100_000
# Each part reads an index from one end.
_BACKLOG = f"""
SELECT
    (SELECT count(*) FROM (SELECT FROM outbox WHERE published_at IS NULL LIMIT {_MOST_COUNTED}) AS counted)
        AS events,
    (SELECT extract(epoch FROM now() - created_at)::float8 FROM outbox WHERE published_at IS NULL
        ORDER BY sequence LIMIT 1) AS oldest_s,
    (SELECT extract(epoch FROM now() - max(published_at))::float8 FROM outbox
        WHERE published_at IS NOT NULL) AS published_s
"""  # noqa: S608 - a constant


class Waiting(NamedTuple):
    """events: how many wait for Kafka, 100,000 at most. oldest_s: how long the first of them has waited,
    published_s: how long ago the last one was published, in seconds; None: there is none.
    """

    events: int
    oldest_s: float | None
    published_s: float | None


class OutboxRow(NamedTuple):
    """One event that waits for Kafka."""

    sequence: int
    event_id: str
    key: str
    payload: str


class Outbox:
    """Connects when it is asked something; methods raise PostgresAway, and the next one connects anew."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._connection: AsyncConnection | None = None
        self._locked = False

    async def take(self) -> bool:
        """Whether this relay is the one that publishes. The lock goes with the connection."""
        async with self._session() as connection:
            if not self._locked:
                row = await (await connection.execute(_LOCK)).fetchone()
                self._locked = row == (True,)
            return self._locked

    async def waiting(self, limit: int) -> list[OutboxRow]:
        """The oldest events that are not marked."""
        async with (
            self._session() as connection,
            connection.cursor(row_factory=class_row(OutboxRow)) as cursor,
        ):
            await cursor.execute(_WAITING, (limit,))
            return await cursor.fetchall()

    async def backlog(self) -> Waiting:
        """How much waits, and for how long."""
        async with (
            self._session() as connection,
            connection.cursor(row_factory=class_row(Waiting)) as cursor,
        ):
            await cursor.execute(_BACKLOG.encode())
            return await cursor.fetchone() or Waiting(0, None, None)

    async def mark(self, sequences: Sequence[int]) -> None:
        """Kafka has them."""
        async with self._session() as connection:
            await connection.execute(_MARK, (list(sequences),))

    async def prune(self) -> bool:
        """Delete a batch of events that Kafka has had for long; whether there may be more."""
        async with self._session() as connection:
            return await prune_published(connection)

    def cut(self) -> None:
        """Make what is under way fail at once."""
        if self._connection is not None:
            cut(self._connection)

    async def close(self) -> None:
        connection, self._connection, self._locked = self._connection, None, False
        if connection is not None:
            await connection.close()

    @asynccontextmanager
    async def _session(self) -> AsyncIterator[AsyncConnection]:
        if self._connection is None:
            self._connection = await connect(self._dsn)
        try:
            with time_box(self._connection):
                yield self._connection
        except psycopg.Error as error:
            await self.close()
            raise away(error) from error
