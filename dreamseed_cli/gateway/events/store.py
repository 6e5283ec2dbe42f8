"""Records into PostgreSQL: each becomes a row of `requests` and its event in `outbox`, both or neither."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import psycopg
from psycopg import AsyncConnection

from dreamseed_cli.core.errors import DreamseedError
from dreamseed_cli.gateway.events.connection import KeptConnection
from dreamseed_cli.gateway.events.retention import prune_requests, prune_unrelayed

# The database takes the records as the JSON they are in the journal: this process only joins bytes.
# What is there already is left alone, and brings no second event, even where the first was pruned since.
# A journal may be older than `source` and `count`.
_INSERT = """
WITH input AS MATERIALIZED (
    SELECT position, value::text AS payload, record.*
    FROM json_array_elements(%(records)s::json) WITH ORDINALITY AS element (value, position),
    json_to_record(value) AS record (
        event_id text, request_id text, user_id text, outcome text, reason text, priority text,
        workload text, model text, replica text, cache_hit boolean, prompt_tokens integer,
        completion_tokens integer, finish_reason text, arrived_at double precision,
        duration_s double precision, queue_s double precision, ttft_s double precision, simulated boolean,
        source text, count integer
    )
), stored AS (
    INSERT INTO requests (
        event_id, request_id, user_id, outcome, reason, priority, workload, model, replica, cache_hit,
        prompt_tokens, completion_tokens, finish_reason, arrived_at, duration_s, queue_s, ttft_s, simulated,
        source, count
    )
    SELECT
        event_id, request_id, user_id, outcome, reason, priority, workload, model, replica, cache_hit,
        prompt_tokens, completion_tokens, finish_reason, to_timestamp(arrived_at), duration_s, queue_s,
        ttft_s, simulated, coalesce(source, 'gateway'), coalesce(count, 1)
    FROM input ORDER BY position
    ON CONFLICT (event_id) DO NOTHING
    RETURNING event_id
)
INSERT INTO outbox (event_id, key, payload)
SELECT event_id, user_id, payload FROM input JOIN stored USING (event_id)
WHERE %(keep_events)s ORDER BY position
ON CONFLICT (event_id) DO NOTHING
"""
# JSON's escape of NUL, which PostgreSQL's text cannot hold, becomes U+FFFD; an escaped backslash before it
# is a backslash.
_NUL = re.compile(rb"(?<!\\)((?:\\\\)*)\\u0000")
# Data exceptions, integrity violations, program limits (an index entry too long).
_REFUSALS = ("22", "23", "54")


class RecordsRefused(DreamseedError):
    """PostgreSQL works, and does not take one of these records."""


async def store_records(
    connection: AsyncConnection[Any], records: Sequence[bytes], *, keep_events: bool
) -> None:
    """Store RequestRecords as JSON, all or none, in one statement; those that are there already stay.

    Raises RecordsRefused, or psycopg.Error.
    """
    joined = b"[" + b",".join(records) + b"]"
    if b"\\u0000" in joined:
        joined = _NUL.sub(rb"\1\\ufffd", joined)
    try:
        await connection.execute(_INSERT, {"records": joined.decode(), "keep_events": keep_events})
    except psycopg.Error as error:
        if (error.sqlstate or "")[:2] in _REFUSALS:
            said = error.diag.message_primary or str(error)
            raise RecordsRefused(said, place="database") from error
        raise


class RequestStore(KeptConnection):
    """The tables `requests` and `outbox`. keep_events: whether records get an event in the outbox."""

    def __init__(self, dsn: str, *, keep_events: bool) -> None:
        super().__init__(dsn)
        self._keep_events = keep_events

    async def insert(self, records: Sequence[bytes]) -> None:
        """Store all of them or none; RequestRecords as JSON, in the order of their events.

        Raises RecordsRefused, or PostgresAway: then they may be stored nevertheless, and storing them again
        is harmless.
        """
        async with self._session() as connection:
            await store_records(connection, records, keep_events=self._keep_events)

    async def prune_events(self) -> bool:
        """Delete a batch of old events that no relay publishes; whether there may be more. PostgresAway."""
        async with self._session() as connection:
            return await prune_unrelayed(connection)

    async def prune_requests(self, days: int) -> int:
        """Delete a batch of requests older than `days` whose events have left; how many. PostgresAway."""
        async with self._session() as connection:
            return await prune_requests(connection, days)
