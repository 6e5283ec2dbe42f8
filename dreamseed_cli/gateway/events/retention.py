"""How long rows stay: an event KEPT_DAYS after Kafka had it, or after its end where no relay runs; a request
as long as the profile says.
"""

from __future__ import annotations

from psycopg import AsyncConnection

KEPT_DAYS = 7
PRUNE_EVERY_S = 60.0
REQUESTS_AT_ONCE = 1000
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
# A bounded look at the oldest. While the first of them wait for Kafka, so do those that came after them.
_REQUESTS = """
WITH oldest AS (
    SELECT event_id FROM requests WHERE arrived_at < now() - make_interval(days => %(days)s)
    ORDER BY arrived_at LIMIT %(count)s
)
DELETE FROM requests USING oldest WHERE requests.event_id = oldest.event_id AND NOT EXISTS (
    SELECT FROM outbox WHERE outbox.event_id = oldest.event_id AND published_at IS NULL
)
"""


async def prune_published(connection: AsyncConnection) -> bool:
    """Delete a batch of events that Kafka has had for long; whether there may be more."""
    return await _prune(connection, _PUBLISHED)


async def prune_unrelayed(connection: AsyncConnection) -> bool:
    """Delete a batch of old events, published or not; whether there may be more."""
    return await _prune(connection, _UNRELAYED)


async def prune_requests(connection: AsyncConnection, days: int) -> int:
    """Delete a batch of requests that are older than `days`, but none whose event waits in the outbox; how
    many. As many as REQUESTS_AT_ONCE: there may be more.
    """
    cursor = await connection.execute(_REQUESTS.encode(), {"days": days, "count": REQUESTS_AT_ONCE})
    return cursor.rowcount


async def _prune(connection: AsyncConnection, statement: str) -> bool:
    cursor = await connection.execute(statement.encode(), {"days": KEPT_DAYS, "count": _AT_ONCE})
    return cursor.rowcount == _AT_ONCE
