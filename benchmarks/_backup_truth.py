"""What a soak knows itself, without asking the program: what was acknowledged, and what the store could give.

An RPO is judged by these two: the age of the oldest acknowledged transaction that a restore would not have.
"""

from __future__ import annotations

import json
import re
import threading
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

SEGMENT_BYTES = 16 * 2**20
HEADER_BYTES = 40
"""A place this far into a segment has nothing of it behind it yet."""

_SEGMENT = re.compile(r"wal/[0-9A-F]{8}/[0-9A-F]{8}([0-9A-F]{8})([0-9A-F]{8})\.[0-9a-f]{64}")
_MANIFEST = re.compile(r"backups/[^/]+/manifest\.json")


@dataclass(frozen=True, slots=True)
class Reach:
    """lsn: the end of the WAL that a restore would have without a hole. segments, backups: how many."""

    lsn: int
    segments: int
    backups: int

    def has(self, lsn: int) -> bool:
        """Whether what was written up to there comes back."""
        return lsn <= self.lsn + HEADER_BYTES


@dataclass(frozen=True, slots=True)
class Transaction:
    """One that was acknowledged. at: when, by time.time(). lsn: its commit lies before it."""

    writer: int
    number: int
    at: float
    lsn: int


class Ledger:
    """All acknowledged transactions. Each writer's come in the order of both their times and their LSNs."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._of: defaultdict[int, list[Transaction]] = defaultdict(list)

    def add(self, transaction: Transaction) -> None:
        with self._lock:
            self._of[transaction.writer].append(transaction)

    def all(self) -> list[Transaction]:
        with self._lock:
            return [one for ones in self._of.values() for one in ones]

    def loss_s(self, reach: Reach, now: float) -> float:
        """Seconds of acknowledged work that a disaster would cost now; 0: none."""
        return max((now - one.at for one in self._first_behind(reach)), default=0.0)

    def keeps(self, reach: Reach, until: float) -> bool:
        """Whether all that was acknowledged until then would come back."""
        return all(one.at > until for one in self._first_behind(reach))

    def _first_behind(self, reach: Reach) -> Iterator[Transaction]:
        """Each writer's oldest that would not come back."""
        with self._lock:
            writers = [list(ones) for ones in self._of.values()]
        for ones in writers:
            at = bisect_right(ones, reach.lsn + HEADER_BYTES, key=lambda one: one.lsn)
            yield from ones[at : at + 1]


def reach_of(objects: Mapping[str, bytes]) -> Reach:
    """From a store's objects by name. A backup brings the WAL up to its own stop along."""
    found = [match for name in objects if (match := _SEGMENT.fullmatch(name))]
    present = {int(match[1], 16) * (2**32 // SEGMENT_BYTES) + int(match[2], 16) for match in found}
    manifests = [json.loads(data) for name, data in objects.items() if _MANIFEST.fullmatch(name)]
    stops = [_lsn(manifest["wal"]["stop_lsn"]) for manifest in manifests]
    return Reach(max((_end(stop, present) for stop in stops), default=0), len(found), len(manifests))


def _end(lsn: int, present: set[int]) -> int:
    segment = lsn // SEGMENT_BYTES
    while segment in present:
        segment += 1
    return max(lsn, segment * SEGMENT_BYTES)


def _lsn(text: str) -> int:
    high, low = text.split("/")
    return int(high, 16) << 32 | int(low, 16)
