"""The local journal, where every event is first: what stands in it outlives a kill -9 of the gateway.

A write goes to the kernel's page cache and takes microseconds. A thread forces it to the disk every second:
a power cut loses about the last second.
"""

from __future__ import annotations

import errno
import math
import os
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path

import structlog

from dreamseed_cli.gateway.events.files import Position, segment_path, segment_sizes
from dreamseed_cli.gateway.events.lines import Accepted, accepted_line, ended_line
from dreamseed_cli.gateway.events.record import RequestRecord

LIMIT_BYTES = 1 << 30
SEGMENT_BYTES = 16 << 20
_LOG_EVERY_S = 60.0

_log = structlog.get_logger(__name__)


class Journal:
    """The writer. Use it from one thread; only `sync` belongs into another one.

    limit_bytes: beyond it new events are dropped; an accepted one always gets its end. on_lost: told of every
    event that found no place, because the journal or the disk is full. Nothing here raises towards a request.
    """

    def __init__(
        self,
        folder: Path,
        *,
        limit_bytes: int = LIMIT_BYTES,
        segment_bytes: int = SEGMENT_BYTES,
        on_lost: Callable[[], None] = lambda: None,
    ) -> None:
        self.folder = folder
        self.sizes: dict[int, int] = segment_sizes(folder)
        """Every segment's size in bytes; the last one is being written once there was a first event."""
        self.total = sum(self.sizes.values())
        self._limit = limit_bytes
        self._segment_bytes = segment_bytes
        self._on_lost = on_lost
        self._logged_at = -math.inf
        self._lost = 0
        self._number = max(self.sizes, default=0)
        self._descriptor: int | None = None
        self._retired: list[int] = []
        self._dirty = False
        self._torn = False
        self._new_segment = False
        self._syncing = threading.Lock()
        self._open: dict[str, bytes] = {}

    @property
    def end(self) -> Position:
        """Up to where the journal is written."""
        return Position(self._number, self.sizes.get(self._number, 0))

    def begin_after(self, number: int) -> None:
        """Number the next segment beyond `number`: a checkpoint may know of one that a power cut took."""
        self._number = max(self._number, number)

    def accept(self, accepted: Accepted) -> None:
        """Write that a request was let in. Where there is no place for that, there may be for its end."""
        with suppress(ValueError, OSError):
            line = accepted_line(accepted)
            self._append(line, bounded=True)
            self._open[accepted.event_id] = line

    def finish(self, record: RequestRecord) -> None:
        """Write a request's end."""
        begun = self._open.pop(record.event_id, None) is not None
        try:
            self._append(ended_line(record), bounded=not begun)
        except (ValueError, OSError) as error:
            self._lose(error)

    def sync(self) -> None:
        """Force what was written to the disk. Blocks: for a thread. OSError if it failed."""
        with ExitStack() as stack:
            stack.enter_context(self._syncing)
            retired, self._retired = self._retired, []
            descriptor = self._descriptor
            for old in retired:
                stack.callback(os.close, old)
            if self._dirty and descriptor is not None:
                self._dirty = False
                for written in (*retired, descriptor):
                    os.fdatasync(written)
            if self._new_segment:
                self._new_segment = False
                folder = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY)
                stack.callback(os.close, folder)
                os.fsync(folder)

    def forget(self, number: int) -> None:
        """A segment's file was deleted."""
        self.total -= self.sizes.pop(number)

    def close(self) -> None:
        """Force all to the disk and let go of the files. Blocks: for a thread. OSError if the disk failed."""
        try:
            self.sync()
        finally:
            if self._descriptor is not None:
                os.close(self._descriptor)
                self._descriptor = None

    def _append(self, line: bytes, *, bounded: bool) -> None:
        if bounded and self.total + len(line) > self._limit:
            raise OSError(errno.EDQUOT, "the journal is full")
        descriptor = self._descriptor
        if descriptor is None or self.sizes[self._number] + len(line) > self._segment_bytes:
            descriptor = self._rotate()
        # What a full disk cut off gets a line of its own, so that it damages no other.
        whole = b"\n" + line if self._torn else line
        written = os.write(descriptor, whole)
        self.sizes[self._number] += written
        self.total += written
        self._dirty = True
        self._torn = written < len(whole)
        if self._torn:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _rotate(self) -> int:
        """Begin the next segment; where that fails, the old one goes on, longer than it should be."""
        carried = b"".join(self._open.values())
        try:
            descriptor = self._create(carried)
        except OSError:
            if self._descriptor is None:
                raise
            return self._descriptor
        if self._descriptor is not None:
            self._retired.append(self._descriptor)
        self._number += 1
        self._descriptor, self._torn, self._new_segment = descriptor, False, True
        self.sizes[self._number] = len(carried)
        self.total += len(carried)
        return descriptor

    def _create(self, carried: bytes) -> int:
        """The next segment with a copy of what is still open, so that the older ones can be deleted."""
        path = segment_path(self.folder, self._number + 1)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
        with ExitStack() as undo:
            undo.callback(path.unlink)
            undo.callback(os.close, descriptor)
            if os.write(descriptor, carried) < len(carried):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            undo.pop_all()
        return descriptor

    def _lose(self, error: Exception) -> None:
        self._on_lost()
        self._lost += 1
        now = time.monotonic()
        if now - self._logged_at >= _LOG_EVERY_S:
            self._logged_at = now
            _log.error(
                "events are lost",
                cause=error.strerror if isinstance(error, OSError) else str(error),
                lost=self._lost,
                journal_bytes=self.total,
                place=str(self.folder),
                remedy="Free some space, and bring PostgreSQL back: the journal empties into it.",
            )
