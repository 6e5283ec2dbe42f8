"""Questions to ask for: put into the database of the stack that is measured, and taken out again."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from dreamseed_cli.database.connection import connected

_COUNT = 500
_PREFIX = "dreamseed-bench-"
_SEED = """
    INSERT INTO questions (id, content)
    SELECT %s || number, jsonb_build_object(
        'subject', 'mathematics', 'grade', 7 + number %% 6,
        'text', repeat('Which of these is a factor of the polynomial? ', 8),
        'choices', jsonb_build_array('x - 1', 'x + 1', 'x - 2', 'x + 2'), 'answer', number %% 4)
    FROM generate_series(1, %s) AS number
"""
# `_` and `%` stand for themselves: the prefix is ours.
_REMOVE = "DELETE FROM questions WHERE starts_with(id, %s)"


@asynccontextmanager
async def seeded(dsn: str | None, *, count: int = _COUNT) -> AsyncIterator[tuple[str, ...]]:
    """The ids of questions made for this run, gone afterwards; none without a database.

    Raises as connected().
    """
    if dsn is None:
        yield ()
        return
    prefix = f"{_PREFIX}{secrets.token_hex(4)}-"
    await asyncio.to_thread(_execute, dsn, _SEED, prefix, count)
    try:
        yield tuple(f"{prefix}{number}" for number in range(1, count + 1))
    finally:
        await asyncio.to_thread(_execute, dsn, _REMOVE, prefix)


def _execute(dsn: str, statement: str, *values: str | int) -> None:
    with connected(dsn) as connection:
        connection.execute(statement.encode(), values)
