"""The users in PostgreSQL, asked so that a server that is away, slow or stopped never holds up a request."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, LiteralString, TypeVar

import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg_pool import AsyncConnectionPool, TooManyRequests

from dreamseed_cli.core.dependency import Dependency, time_box
from dreamseed_cli.database.address import require_dsn
from dreamseed_cli.gateway.accounts.types import Account, Tier

# The breaker's state and the directory's log tell what matters, once; the pool would tell every attempt.
logging.getLogger("psycopg").addHandler(logging.NullHandler())

_MOST_CONNECTIONS = 2  # one query by key and one by name at a time: lookups.Lookups
_MOST_WAITING = 16
_REQUEST_PATH_S = 0.020
_POOL: dict[str, Any] = {
    "min_size": 1,
    "max_size": _MOST_CONNECTIONS,
    # Longer than a call on the request path, which ends its own wait.
    "timeout": 1.0,
    # The pool doubles its pauses between attempts to connect; a short patience starts them over.
    "reconnect_timeout": 1.0,
}
_CONNECTION: dict[str, Any] = {
    "autocommit": True,
    # Poolers such as PgBouncer may hand every statement to another session.
    "prepare_threshold": None,
    "connect_timeout": 2,
    "application_name": "dreamseed-accounts",
    # A server that vanished without a word, on TCP.
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 2,
    "tcp_user_timeout": 3000,
}
# A query that nobody waits for any more, such as behind a lock, must not hold a session of the server.
_SESSION = "-c statement_timeout=1000"

_BY_KEYS: LiteralString = """
    SELECT k.hash, u.id, u.tier, u.disabled_at IS NOT NULL, k.expires_at
    FROM api_keys k JOIN users u ON u.id = k.user_id
    WHERE k.hash = ANY(%s) AND k.revoked_at IS NULL
"""
_BY_IDS: LiteralString = """
    SELECT id, id, tier, disabled_at IS NOT NULL, NULL FROM users WHERE id = ANY(%s)
"""

_Who = TypeVar("_Who", str, bytes)
_Row = tuple[Any, str, str, bool, datetime | None]


class _Abandonable(psycopg.AsyncConnection[_Row]):
    """A connection whose query ends at once when its caller gives up."""

    async def cancel_safe(self, *, timeout: float = 30.0) -> None:  # noqa: ASYNC109 - psycopg's signature
        """Drop the connection. psycopg would ask the server to cancel the query and wait up to ten seconds
        for its answer: too long for a request, and in vain while the server is stopped.
        """
        self.pgconn.finish()


class AccountStore:
    """open() it inside the event loop, close() it at the end.

    A server that is away at the start, goes or comes back is found without a restart. Every call ends within
    `timeout_s`; raises DependencyDown if there is no answer by then.
    """

    def __init__(
        self,
        dsn: str,
        *,
        timeout_s: float = _REQUEST_PATH_S,
        on_state: Callable[[str], None] = lambda _: None,
    ) -> None:
        """dsn: libpq's connection string; UsageError if it is none. timeout_s, on_state: see Dependency."""
        self._timeout_s = timeout_s
        self._dependency = Dependency("postgres", timeout_s=timeout_s, on_state=on_state)
        self._pool = AsyncConnectionPool(
            dsn,
            connection_class=_Abandonable,
            kwargs=_CONNECTION | {"options": _options(dsn)},
            open=False,
            **_POOL,
        )

    @property
    def available(self) -> bool:
        """Whether the last calls were answered."""
        return self._dependency.state == "closed"

    async def open(self) -> None:
        """Begin to connect; waits for nothing."""
        await self._pool.open()

    async def close(self) -> None:
        """Close the connections."""
        await self._pool.close(timeout=1.0)

    async def by_keys(self, hashes: Sequence[bytes]) -> Mapping[bytes, Account]:
        """The accounts of keys that were not revoked; expired or disabled are for the caller to see."""
        return await self._dependency.call(lambda: self._find(_BY_KEYS, hashes))

    async def by_ids(self, user_ids: Sequence[str]) -> Mapping[str, Account]:
        """Registered users."""
        # A schema of ours is in UTF-8 (database.migrate), which holds every other text there is.
        possible = [user_id for user_id in user_ids if "\0" not in user_id]
        return await self._dependency.call(lambda: self._find(_BY_IDS, possible))

    async def _find(self, query: LiteralString, whom: Sequence[_Who]) -> dict[_Who, Account]:
        return {row[0]: _account(row) for row in await self._rows(query, whom)}

    async def _rows(self, query: LiteralString, whom: Sequence[_Who]) -> list[_Row]:
        """A connection may have died in the pool: then the next one, and at last a new one, is tried."""
        await self._require_room()
        for _ in range(_MOST_CONNECTIONS):
            try:
                return await self._once(query, whom)
            except psycopg.OperationalError:
                continue
        return await self._once(query, whom)

    async def _require_room(self) -> None:
        """Without a server, who gave up waiting stays in the pool's queue until a connection comes. The pool
        would refuse a full queue without trying to connect; so it is told to.
        """
        if self._pool.get_stats()["requests_waiting"] >= _MOST_WAITING:
            await self._pool.check()
            raise TooManyRequests("no connection comes")

    async def _once(self, query: LiteralString, whom: Sequence[_Who]) -> list[_Row]:
        # A second bound: taking a connection from the pool can swallow the cancellation by the first.
        async with self._pool.connection() as connection, time_box(self._timeout_s):
            cursor = await connection.execute(query, (list(whom),))
            return await cursor.fetchall()


def _account(row: _Row) -> Account:
    _, user_id, tier, disabled, expires_at = row
    return Account(user_id, Tier(tier), disabled, expires_at.timestamp() if expires_at else None)


def _options(dsn: str) -> str:
    """Ours after the connection string's own."""
    own = conninfo_to_dict(require_dsn(dsn, place="services.postgres")).get("options")
    return f"{own} {_SESSION}" if own else _SESSION
