"""Questions, the fallback's leases, and what ended at a front, in PostgreSQL. Every call ends in time."""

from __future__ import annotations

import asyncio
import datetime as dt
import uuid
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, TypeVar

import msgspec
from psycopg import AsyncConnection
from psycopg.errors import ReadOnlySqlTransaction, UndefinedColumn
from psycopg_pool import AsyncConnectionPool

from dreamseed_cli.core.dependency import Dependency, DependencyDown
from dreamseed_cli.gateway.events.record import RequestRecord
from dreamseed_cli.gateway.events.store import RecordsRefused, store_records
from dreamseed_cli.gateway.front.ended import GivenRequest
from dreamseed_cli.gateway.front.money import grant

_Result = TypeVar("_Result")
_Pool = AsyncConnectionPool[AsyncConnection[tuple[Any, ...]]]
_TakesNoWrites = ReadOnlySqlTransaction | UndefinedColumn
"""A standby, or a schema that `dreamseed db migrate` has not brought up yet."""

# Two fronts that ask at once must not both get the last dollar. The lock goes with the transaction.
_LOCK_MONTH = "SELECT pg_advisory_xact_lock(hashtext('dreamseed fallback leases'), %s)"
_COMMITTED = "SELECT coalesce(sum(coalesce(spent_usd, granted_usd)), 0) FROM fallback_leases WHERE month = %s"
_FIND = "SELECT id, month, granted_usd, spent_usd FROM fallback_leases WHERE id = %s"
_LEND = "INSERT INTO fallback_leases (id, month, holder, granted_usd) VALUES (%s, %s, %s, %s)"
_SETTLE = "UPDATE fallback_leases SET spent_usd = %s, settled_at = now() WHERE id = %s AND spent_usd IS NULL"
# Revoked or expired since: who asked is whose key it was.
_OWNERS = "SELECT hash, user_id FROM api_keys WHERE hash = ANY(%s)"
_QUESTION = (
    "SELECT content::text, (extract(epoch FROM updated_at) * 1000000)::bigint FROM questions WHERE id = %s"
)


@dataclass(frozen=True, slots=True)
class StoredQuestion:
    """content: JSON text. updated_at_us: microseconds since the epoch."""

    id: str
    content: str
    updated_at_us: int


@dataclass(frozen=True, slots=True)
class StoredLease:
    """Money of one month, in dollars. granted 0: nothing was lent; spent None: not accounted for."""

    id: uuid.UUID
    month: dt.date
    granted: Decimal
    spent: Decimal | None = None


class FrontStore:
    """Asks through `pool`, behind `dependency`'s breaker and within its time. keep_events: whether requests
    that ended at a front get an event in the outbox.

    All methods raise DependencyDown when PostgreSQL does not answer.
    """

    def __init__(self, pool: _Pool, dependency: Dependency, *, keep_events: bool) -> None:
        self._pool = pool
        self._keep_events = keep_events
        self._dependency = dependency
        self._under_way: set[asyncio.Task[Any]] = set()

    async def question(self, question_id: str) -> StoredQuestion | None:
        """One question; None if there is none."""

        async def find() -> StoredQuestion | None:
            async with self._pool.connection() as connection:
                row = await (await connection.execute(_QUESTION, (question_id,))).fetchone()
            return StoredQuestion(question_id, *row) if row is not None else None

        return await self._dependency.call(lambda: self._bounded(find()))

    async def take(self, wish: StoredLease, *, holder: str, cap: Decimal) -> StoredLease:
        """Lend up to `wish.granted` within the month's `cap`; the lease of that id, if it was lent before."""

        async def lend() -> StoredLease:
            async with self._writing() as connection:
                await connection.execute(_LOCK_MONTH, (wish.month.year * 12 + wish.month.month,))
                return await _find(connection, wish.id) or await _lend(connection, wish, holder, cap)

        return await self._written(lend)

    async def settle(
        self, lease_id: uuid.UUID, spent: Decimal, answers: Sequence[GivenRequest] = ()
    ) -> StoredLease | None:
        """Account for a lease, and record the answers that come with it: both or neither, and each once.

        The lease as it stands then; None if there is none of that id, while the answers are recorded all the
        same. Raises RecordsRefused.
        """

        async def settle() -> StoredLease | None:
            async with self._writing() as connection:
                await connection.execute(_SETTLE, (spent, lease_id))
                if answers:
                    await self._record(connection, answers)
                return await _find(connection, lease_id)

        return await self._written(settle)

    async def record(self, refusals: Sequence[GivenRequest]) -> None:
        """Record requests that a front refused: all or none, and each once. Raises RecordsRefused."""

        async def record() -> None:
            async with self._writing() as connection:
                await self._record(connection, refusals)

        await self._written(record)

    @asynccontextmanager
    async def _writing(self) -> AsyncIterator[AsyncConnection[tuple[Any, ...]]]:
        """A transaction. A connection that turns out to lead to a read-only server is not used again: the
        next one leads to whichever takes writes by then.
        """
        async with self._pool.connection() as connection:
            try:
                async with connection.transaction():
                    yield connection
            except ReadOnlySqlTransaction:
                await connection.close()
                raise

    async def _record(
        self, connection: AsyncConnection[tuple[Any, ...]], ended: Sequence[GivenRequest]
    ) -> None:
        hashes = list({each.key_hash for each in ended if each.key_hash})
        cursor = await connection.execute(_OWNERS, (hashes,))
        owners: dict[bytes, str] = {row[0]: row[1] for row in await cursor.fetchall()}
        records = [msgspec.json.encode(_of_owner(each, owners)) for each in ended]
        await store_records(connection, records, keep_events=self._keep_events)

    async def _written(self, work: Callable[[], Coroutine[Any, Any, _Result]]) -> _Result:
        """A server that refuses a write is well: questions must not wait for the breaker because of it."""

        async def write() -> _Result | _TakesNoWrites | RecordsRefused:
            try:
                return await work()
            except (ReadOnlySqlTransaction, UndefinedColumn, RecordsRefused) as error:
                return error

        done = await self._dependency.call(lambda: self._bounded(write()))
        if isinstance(done, _TakesNoWrites):
            raise DependencyDown("the database takes no writes for now", place="postgres-front") from done
        if isinstance(done, RecordsRefused):
            raise done
        return done

    async def _bounded(self, work: Coroutine[Any, Any, _Result]) -> _Result:
        """Cancelled, this returns at once: psycopg first waits for a server that may be hanging."""
        task = asyncio.create_task(work)
        self._under_way.add(task)
        task.add_done_callback(self._forget)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            task.cancel()
            raise

    def _forget(self, task: asyncio.Task[Any]) -> None:
        self._under_way.discard(task)
        if not task.cancelled():
            task.exception()  # seen: whoever waited has left


def _of_owner(ended: GivenRequest, owners: Mapping[bytes, str]) -> RequestRecord:
    """Nobody's key, or that of a user deleted since: no user is known, as for a call that names none."""
    if not ended.key_hash:
        return ended.record
    return msgspec.structs.replace(ended.record, user_id=owners.get(ended.key_hash, ""))


async def _find(connection: AsyncConnection[tuple[Any, ...]], lease_id: uuid.UUID) -> StoredLease | None:
    row = await (await connection.execute(_FIND, (lease_id,))).fetchone()
    return StoredLease(*row) if row is not None else None


async def _lend(
    connection: AsyncConnection[tuple[Any, ...]], wish: StoredLease, holder: str, cap: Decimal
) -> StoredLease:
    row = await (await connection.execute(_COMMITTED, (wish.month,))).fetchone()
    committed = row[0] if row is not None else Decimal(0)
    granted = grant(wanted=wish.granted, cap=cap, committed=committed)
    if granted > 0:
        await connection.execute(_LEND, (wish.id, wish.month, holder, granted))
    return StoredLease(wish.id, wish.month, granted)
