"""Questions to ask for: put into the database of the stack that is measured, and taken out again."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path

from dreamseed_cli.bench.shapes import TargetSpec
from dreamseed_cli.core.paths import StateDir
from dreamseed_cli.database.address import resolve_dsn
from dreamseed_cli.database.connection import connected
from dreamseed_cli.gateway.settings import GatewaySettings
from dreamseed_cli.profile.schema import Profile
from dreamseed_cli.supervisor.state import read_supervisor

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


def stack_dsn(target: TargetSpec, profile: Profile | None, folders: Iterable[Path]) -> str | None:
    """The database behind the gateway `target`; None if there is none, or which one it is cannot be told.

    An embedded one is found through the running stack whose gateway has the target's address; folders: state
    folders to look into. Raises as resolve_dsn().
    """
    if profile is not None and profile.services.postgres.mode == "external":
        return resolve_dsn(None, profile.services.postgres.dsn_env)
    for folder in folders:
        record = read_supervisor(StateDir(folder))
        if record is not None and record.alive() and record.gateway == target.address:
            settings = GatewaySettings.model_validate_json((folder / "gateway.json").read_bytes())
            services = settings.services
            return resolve_dsn(services.postgres_dsn, services.postgres_dsn_env) if services else None
    return None


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
