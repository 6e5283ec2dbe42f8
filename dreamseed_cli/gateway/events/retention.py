"""How long the outbox keeps an event: KEPT_DAYS after Kafka had it, or after its end where no relay runs."""

from __future__ import annotations

from psycopg import AsyncConnection

KEPT_DAYS = 7
PRUNE_EVERY_S = 60.0
_AT_ONCE = 5000

_PUBLISHED = """
DELETE FROM outbox WHERE sequence IN (
    SELECT sequence FROM outbox WHERE published_at < now() - make_interval(days => %(days)s)
    ORDER BY published_at LIMIT %(count)s
)
"""
# Events are in the order of their age, so the oldest are the first.
_UNRELAYED = """
DELETE FROM outbox WHERE sequence < (SELECT min(sequence) FROM outbox) + %(count)s
AND created_at < now() - make_interval(days => %(days)s)
"""


async def prune_published(connection: AsyncConnection) -> bool:
    """Delete a batch of events that Kafka has had for long; whether there may be more."""
    return await _prune(connection, _PUBLISHED)


async def prune_unrelayed(connection: AsyncConnection) -> bool:
    """Delete a batch of old events, published or not; whether there may be more."""
    return await _prune(connection, _UNRELAYED)


async def _prune(connection: AsyncConnection, statement: str) -> bool:
    cursor = await connection.execute(statement.encode(), {"days": KEPT_DAYS, "count": _AT_ONCE})
    return cursor.rowcount == _AT_ONCE
