"""The outbox as the relay sees it: what Kafka does not have yet, in order, for one relay at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from psycopg import AsyncConnection
from psycopg.rows import class_row

from dreamseed_cli.gateway.events.connection import KeptConnection
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


class Outbox(KeptConnection):
    """Methods raise PostgresAway."""

    def __init__(self, dsn: str) -> None:
        super().__init__(dsn)
        self._locked_on: AsyncConnection | None = None

    async def take(self) -> bool:
        """Whether this relay is the one that publishes. The lock goes with the connection."""
        async with self._session() as connection:
            if self._locked_on is not connection:
                row = await (await connection.execute(_LOCK)).fetchone()
                self._locked_on = connection if row == (True,) else None
            return self._locked_on is connection

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
