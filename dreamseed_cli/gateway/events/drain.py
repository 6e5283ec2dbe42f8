"""The way from the journal into PostgreSQL: in order, in batches, for as long as it takes."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress

import msgspec
import structlog

from dreamseed_cli.gateway.events.backoff import Backoff
from dreamseed_cli.gateway.events.connection import PostgresAway
from dreamseed_cli.gateway.events.files import Position, read_checkpoint, segment_path, write_checkpoint
from dreamseed_cli.gateway.events.journal import Journal
from dreamseed_cli.gateway.events.pruning import Pruning
from dreamseed_cli.gateway.events.reading import BATCH_BYTES, Batch, left_open, parse_batch, read_lines
from dreamseed_cli.gateway.events.refused import RefusedRecords
from dreamseed_cli.gateway.events.retention import PRUNE_EVERY_S
from dreamseed_cli.gateway.events.store import RecordsRefused, RequestStore

_LINGER_S = 0.1
"""Records of this time go into one transaction."""
_AT_ONCE = 500

_log = structlog.get_logger(__name__)


class Drain:
    """Empties a journal that nobody else empties. pruning: what it deletes when there is nothing to store."""

    def __init__(
        self, journal: Journal, store: RequestStore, refused: RefusedRecords, pruning: Pruning
    ) -> None:
        self._journal = journal
        self._store = store
        self._refused = refused
        self._written = asyncio.Event()
        self._finishing = asyncio.Event()
        self._backoff = Backoff("the journal's way into PostgreSQL")
        self._pruning = pruning
        # What a dead gateway left; this one writes into later segments only.
        self._inherited = list(journal.sizes)
        self._at = read_checkpoint(journal.folder)
        journal.begin_after(self._at.segment)

    def wake(self) -> None:
        """There is something new in the journal."""
        self._written.set()

    def finish(self) -> None:
        """Have `run` return once the journal is empty, or PostgreSQL is away."""
        self._finishing.set()
        self._written.set()

    def backlog(self) -> int:
        """The bytes of the journal that PostgreSQL does not have yet."""
        sizes = list(self._journal.sizes.items())
        left = sum(size for number, size in sizes if number >= self._at.segment)
        here = self._at.segment in self._journal.sizes
        return left - self._at.offset if here else left

    async def run(self) -> None:
        """Go on until `finish`, over every failure of PostgreSQL."""
        while True:
            self._written.clear()
            try:
                await self._empty()
                self._backoff.went_well()
            except (PostgresAway, OSError) as error:
                await self._pause(error)
            except Exception as error:  # noqa: BLE001 - the last resort: events wait, they are not forgotten
                _log.exception("the journal is not emptied, by a mistake of ours")
                await self._pause(error)
            if self._finishing.is_set():
                return
            await self._rest()

    async def _pause(self, error: Exception) -> None:
        self._written.set()
        with suppress(TimeoutError):
            async with asyncio.timeout(self._backoff.failed(error)):
                await self._finishing.wait()

    async def _rest(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(min(PRUNE_EVERY_S, self._pruning.wait_s())):
                await self._written.wait()
        with suppress(TimeoutError):
            async with asyncio.timeout(_LINGER_S):
                await self._finishing.wait()

    async def _empty(self) -> None:
        """Store all there is. Raises PostgresAway, or OSError if the disk fails."""
        if self._inherited:
            await self._close_inherited()
        while (batch := await self._next()) is not None:
            if batch.damaged:
                _log.warning("journal has damaged lines", segment=self._at.segment, lines=batch.damaged)
            start = self._at
            await self._insert(batch.records)
            await self._advance(batch.after)
            if self._reached_end(start) and not self._finishing.is_set():
                break  # gather first what was written meanwhile: small transactions cost more
        await self._pruning.run()

    def _reached_end(self, start: Position) -> bool:
        """Whether the batch from `start` took all that there was."""
        newest = self._at.segment == self._journal.end.segment
        return newest and self._at.offset - start.offset < BATCH_BYTES // 2

    async def _close_inherited(self) -> None:
        """Store what a dead gateway left open. Until that is done, no segment is deleted: dying here again
        changes nothing.
        """
        lost = await asyncio.to_thread(left_open, self._journal.folder, self._inherited)
        if lost:
            _log.warning("a gateway died with requests under way", requests=len(lost))
        for start in range(0, len(lost), _AT_ONCE):
            await self._insert([msgspec.json.encode(record) for record in lost[start : start + _AT_ONCE]])
        self._inherited = []

    async def _next(self) -> Batch | None:
        """The next batch that is not empty; None at the journal's end."""
        while True:
            end = self._journal.end
            data = b""
            if self._at.segment in self._journal.sizes:
                # Only the reading: a thread that computes would hold up every request's write (the GIL).
                data = await asyncio.to_thread(read_lines, self._journal.folder, self._at)
            if data:
                return parse_batch(self._at, data)
            if self._at.segment >= end.segment:
                return None
            await self._leave_segment()

    async def _leave_segment(self) -> None:
        """Go on to the next segment, and delete those before it."""
        folder, sizes = self._journal.folder, self._journal.sizes
        following = min(number for number in sizes if number > self._at.segment)
        await self._advance(Position(following, 0))
        for number in [number for number in sizes if number < following]:
            await asyncio.to_thread(segment_path(folder, number).unlink, missing_ok=True)
            self._journal.forget(number)

    async def _advance(self, position: Position) -> None:
        self._at = position
        # An older checkpoint does no harm, and what makes room on a full disk must not need any.
        with suppress(OSError):
            await asyncio.to_thread(write_checkpoint, self._journal.folder, position)

    async def _insert(self, records: Sequence[bytes]) -> None:
        """Store them; halve what is refused until the ones that are at fault are found and set aside."""
        if not records:
            return
        try:
            await self._store.insert(records)
        except RecordsRefused as error:
            if len(records) == 1:
                await asyncio.to_thread(self._refused.add, records[0], error.cause)
                return
            middle = len(records) // 2
            await self._insert(records[:middle])
            await self._insert(records[middle:])
