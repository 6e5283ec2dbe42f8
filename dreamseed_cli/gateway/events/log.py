"""The door of this room: a request begins, a request ends, and its event reaches PostgreSQL in the end."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import structlog

from dreamseed_cli.gateway.events.backlog import Backlog
from dreamseed_cli.gateway.events.drain import Drain
from dreamseed_cli.gateway.events.files import FolderTaken, take_folder
from dreamseed_cli.gateway.events.ids import EventIds
from dreamseed_cli.gateway.events.journal import LIMIT_BYTES, SEGMENT_BYTES, Journal
from dreamseed_cli.gateway.events.lines import Accepted
from dreamseed_cli.gateway.events.outbox import Outbox
from dreamseed_cli.gateway.events.pruning import Pruning
from dreamseed_cli.gateway.events.record import RequestRecord
from dreamseed_cli.gateway.events.refusals import Refusals
from dreamseed_cli.gateway.events.refused import RefusedRecords
from dreamseed_cli.gateway.events.retention import REQUESTS_AT_ONCE
from dreamseed_cli.gateway.events.store import RequestStore
from dreamseed_cli.gateway.metrics import GatewayMetrics
from dreamseed_cli.gateway.settings import ServiceAddresses

_SYNC_EVERY_S = 1.0
_LOCK_WAIT_S = 10.0
_CUT_WAIT_S = 1.0
_LOCK_POLL_S = 0.1

_log = structlog.get_logger(__name__)


class EventLog:
    """Every request that begins here gets exactly one record and event, whatever dies meanwhile.

    Without PostgreSQL in `services` nothing is kept. simulated: whether answers come from the emulated
    engine. Make it inside a running event loop; open() it, and close() it at the end.
    """

    def __init__(
        self,
        services: ServiceAddresses,
        metrics: GatewayMetrics,
        *,
        simulated: bool,
        limit_bytes: int = LIMIT_BYTES,
        segment_bytes: int = SEGMENT_BYTES,
    ) -> None:
        self._services = services
        self._metrics = metrics
        self._simulated = simulated
        self._limit_bytes = limit_bytes
        self._segment_bytes = segment_bytes
        self._ids = EventIds()
        self._refusals = Refusals(self.end)
        self._lock: int | None = None
        self._journal: Journal | None = None
        self._store: RequestStore | None = None
        self._drain: Drain | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._backlog: Backlog | None = None
        self._looking: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Take the journal, and begin to store what an earlier gateway left in it.

        Raises FailedError if the folder cannot be written or another gateway holds it for longer than some
        seconds, MissingError if the connection string's variable is not set.
        """
        dsn = self._services.dsn()
        if dsn is None:
            return
        folder = Path(self._services.journal)
        self._lock = await _take(folder)
        self._journal = journal = Journal(
            folder,
            limit_bytes=self._limit_bytes,
            segment_bytes=self._segment_bytes,
            on_lost=self._metrics.events_lost.inc,
        )
        self._store = RequestStore(dsn, keep_events=self._services.keep_events)
        self._drain = Drain(
            journal,
            self._store,
            RefusedRecords(folder, self._metrics.events_refused.inc),
            Pruning(self._prunings(self._store)),
        )
        self._metrics.journal_bytes.set_function(self._drain.backlog)
        self._tasks = [asyncio.create_task(self._drain.run()), asyncio.create_task(_sync(journal))]
        if self._services.keep_events and self._services.events_relayed:
            self._backlog = backlog = Backlog(Outbox(dsn), self._metrics)
            self._looking = asyncio.create_task(backlog.run())

    def new_id(self) -> str:
        """The event id of a request that ends without having begun: one that was rejected."""
        return self._ids.next()

    def begin(
        self,
        *,
        request_id: str,
        user_id: str,
        priority: str,
        workload: str,
        model: str,
        arrived_at: float,
        event_id: str = "",
    ) -> str:
        """Write that a request was let in; its event id. arrived_at: seconds since the epoch. event_id: the
        one that its caller chose; empty: a new one.

        Costs microseconds and never raises; if the gateway dies from here on, the record says
        `failed`, `gateway_lost`.
        """
        event_id = event_id or self._ids.next()
        if self._journal is not None:
            self._journal.accept(
                Accepted(
                    event_id, request_id, user_id, priority, workload, model, arrived_at, self._simulated
                )
            )
        return event_id

    def end(self, record: RequestRecord) -> None:
        """Write a request's end, before its caller is told. Costs microseconds and never raises."""
        if self._journal is not None and self._drain is not None:
            self._journal.finish(record)
            self._drain.wake()

    def refuse(self, record: RequestRecord) -> None:
        """Write the end of a request that anybody can cause. Of a flood the first of each second are written
        at once, the others as one with their number when it is over: a `kill -9` before that loses these.
        Costs microseconds and never raises.
        """
        if self._journal is not None:
            self._refusals.add(record)

    def backlog(self) -> int:
        """The bytes of the journal that PostgreSQL does not have yet; 0 where nothing is kept."""
        return self._drain.backlog() if self._drain is not None else 0

    async def close(self, timeout_s: float = 5.0) -> None:
        """Store the rest for at most `timeout_s`; what is left then stays in the journal."""
        if self._journal is None or self._drain is None or self._store is None:
            return
        if self._backlog is not None and self._looking is not None:
            await self._backlog.end(self._looking)
        draining, syncing = self._tasks
        self._refusals.end()
        self._drain.finish()
        await asyncio.wait({draining}, timeout=timeout_s)
        # A statement that hangs fails at once, and the drain, told to finish, returns over that.
        self._store.cut()
        await asyncio.wait({draining}, timeout=_CUT_WAIT_S)
        draining.cancel()
        syncing.cancel()
        await asyncio.gather(draining, syncing, return_exceptions=True)
        await self._store.close()
        with suppress(OSError):
            await asyncio.to_thread(self._journal.close)
        if self._lock is not None:
            os.close(self._lock)

    def _prunings(self, store: RequestStore) -> list[Callable[[], Awaitable[bool]]]:
        """What is deleted for its age here. Where a relay runs, events are the relay's."""
        days = self._services.keep_requests_days

        async def requests() -> bool:
            pruned = await store.prune_requests(days)
            self._metrics.requests_pruned.inc(pruned)
            return pruned == REQUESTS_AT_ONCE

        events = () if self._services.events_relayed else (store.prune_events,)
        return [*events, *((requests,) if days else ())]


async def _take(folder: Path) -> int:
    """The folder's lock; a gateway that is just ending is waited for."""
    deadline = asyncio.get_running_loop().time() + _LOCK_WAIT_S
    while True:
        try:
            return take_folder(folder)
        except FolderTaken:
            if asyncio.get_running_loop().time() > deadline:
                raise
        await asyncio.sleep(_LOCK_POLL_S)


async def _sync(journal: Journal) -> None:
    """Force the journal to the disk about every second, in a thread."""
    failed = False
    while True:
        await asyncio.sleep(_SYNC_EVERY_S)
        try:
            await asyncio.to_thread(journal.sync)
            failed = False
        except OSError as error:
            if not failed:
                _log.error(
                    "the journal does not reach the disk", cause=error.strerror, place=str(journal.folder)
                )
            failed = True
