"""The backup to begin with for a named restore point, and where that lies: looked for in the archive."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future
from contextlib import closing
from dataclasses import dataclass
from typing import Final

from dreamseed_cli.backup import ending
from dreamseed_cli.backup.catalog import Entry
from dreamseed_cli.backup.keys import Identity
from dreamseed_cli.backup.physical.content import Archived
from dreamseed_cli.backup.pool import Pool
from dreamseed_cli.backup.store.base import MIB, Store
from dreamseed_cli.backup.wal.archive import read_file, the_one
from dreamseed_cli.backup.wal.points import Point, find_points
from dreamseed_cli.backup.wal_names import SegmentRange, WalSegment, format_lsn, parse_lsn, parse_wal_file
from dreamseed_cli.core.errors import UsageError

_THREADS: Final = 2
_MOST_HELD: Final = 64 * MIB
"""Plain bytes that wait to be looked through; one segment at the least."""


@dataclass(frozen=True, slots=True)
class Pointed:
    """first: the first point of that name behind the backup's end, at which recovery stops."""

    entry: Entry
    first: Point


@dataclass(frozen=True, slots=True)
class Archive:
    """What is searched. archived: how far recovery from a backup could go; None: nowhere. told: bytes."""

    store: Store
    identities: Sequence[Identity]
    archived: Callable[[Entry], Archived | None]
    told: Callable[[int, int], None]


def find_base(name: str, entries: Sequence[Entry], archive: Archive) -> Pointed:
    """The newest backup that ends before a point of that name. entries: physical ones, newest first.

    Reads the WAL behind the newest, then that between it and the one before it, until the point is found.
    UsageError if it is nowhere. Raises the store's errors, and those of WAL that is damaged.
    """
    searched: SegmentRange | None = None
    reached: list[tuple[int, Archived]] = []
    for entry in entries:
        wal, archived = entry.manifest.wal, archive.archived(entry)
        if wal is None or archived is None:
            continue
        end = parse_lsn(wal.stop_lsn)
        reached.append((end, archived))
        searched = _span(end, archived, searched)
        with closing(_read(archive, archived, searched)) as segments:
            for point in find_points(name, segments):
                if point.lsn >= end:
                    return Pointed(entry, point)
    raise _nowhere(name, reached)


def _span(end: int, archived: Archived, searched: SegmentRange | None) -> SegmentRange:
    """From a backup's end to where the search of the one before it began, in segment numbers."""
    size = archived.segment_bytes
    last = (archived.lsn - 1) // size
    return SegmentRange(end // size, last if searched is None else min(last, searched.first))


def _read(
    archive: Archive, archived: Archived, span: SegmentRange
) -> Generator[tuple[WalSegment, bytes], None, None]:
    """Segments in order, some read ahead, until one is not there."""
    size, read = archived.segment_bytes, 0
    most = max(1, min(_THREADS + 1, _MOST_HELD // size))

    def one(segment: WalSegment) -> bytes | None:
        found = the_one(archive.store, parse_wal_file(segment.name, size))
        return None if found is None else read_file(archive.store, found, archive.identities)

    coming: deque[tuple[WalSegment, Future[bytes | None]]] = deque()
    with Pool(_THREADS, "points") as pool:
        numbers = iter(range(span.first, span.last + 1))
        while True:
            while len(coming) < most and (number := next(numbers, None)) is not None:
                segment = archived.history.segment_at(number, size)
                coming.append((segment, pool.submit(one, segment)))
            if not coming:
                return
            segment, future = coming.popleft()
            data = ending.result(future)
            if data is None:
                pool.drop()
                return
            read += len(data)
            archive.told(read, read)
            yield segment, data


def _nowhere(name: str, reached: Sequence[tuple[int, Archived]]) -> UsageError:
    """reached: from where to where recovery from each backup could go."""
    where = ""
    if reached:
        first, last = min(start for start, _ in reached), max(reached, key=lambda one: one[1].lsn)[1]
        where = f" from {format_lsn(first)}, where a backup ends, to {format_lsn(last.lsn)}"
        if last.hole is not None:
            missing = last.history.segment_at(last.hole.first, last.segment_bytes)
            where += f", where {missing.name} is missing: behind that nobody can go"
    return UsageError(
        f"no restore point of this name lies in the archive{where}",
        place=f"--point {name}",
        remedy="Check the name, or restore to a moment (--time) or a place in the WAL (--lsn).",
    )
