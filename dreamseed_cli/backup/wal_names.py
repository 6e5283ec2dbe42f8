"""PostgreSQL's names in the WAL archive: segments, LSNs, timelines and their histories. Pure arithmetic.

Source: src/include/access/xlog_internal.h, src/backend/access/transam/timeline.c.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from typing import Final, Self

from dreamseed_cli.core.errors import FailedError

MIB: Final = 1 << 20
DEFAULT_SEGMENT_BYTES: Final = 16 * MIB
_XLOG_ID_BYTES: Final = 1 << 32
_LARGEST_LSN: Final = (1 << 64) - 1

_LSN: Final = re.compile(r"([0-9A-Fa-f]{1,8})/([0-9A-Fa-f]{1,8})")
_SEGMENT: Final = re.compile(r"([0-9A-F]{8})([0-9A-F]{8})([0-9A-F]{8})")
_PARTIAL: Final = ".partial"
_LABEL: Final = re.compile(r"([0-9A-F]{24})\.([0-9A-F]{8})\.backup")
_HISTORY: Final = re.compile(r"([0-9A-F]{8})\.history")


class WalNameError(FailedError):
    """Not a name, an LSN or a history that PostgreSQL could have made."""

    kind = "wal_name"


def parse_lsn(text: str) -> int:
    """The byte position that `16/B374D848` stands for. WalNameError if it is no LSN."""
    found = _LSN.fullmatch(text)
    if found is None:
        raise WalNameError(
            "not an LSN: write it as pg_current_wal_lsn() does, such as 16/B374D848", place=text
        )
    return int(found[1], 16) << 32 | int(found[2], 16)


def format_lsn(lsn: int) -> str:
    """A byte position as PostgreSQL prints it."""
    if not 0 <= lsn <= _LARGEST_LSN:
        raise WalNameError("an LSN has 64 bits", place=str(lsn))
    return f"{lsn >> 32:X}/{lsn & 0xFFFFFFFF:X}"


def check_segment_bytes(size: int) -> int:
    """The same size; WalNameError unless it is one that `initdb --wal-segsize` takes (1 MiB to 1 GiB)."""
    if not MIB <= size <= 1024 * MIB or size & (size - 1):
        raise WalNameError("wal_segment_size must be a power of two from 1 MiB to 1 GiB", place=str(size))
    return size


@dataclass(frozen=True, slots=True, order=True)
class WalSegment:
    """One segment: its timeline, and its number counted from LSN 0. Ordered by timeline, then number."""

    timeline: int
    number: int
    size: int = DEFAULT_SEGMENT_BYTES

    def __post_init__(self) -> None:
        check_segment_bytes(self.size)
        if not 0 < self.timeline <= 0xFFFFFFFF:
            raise WalNameError("a timeline has 32 bits and is not 0", place=str(self.timeline))
        if not 0 <= self.number <= _LARGEST_LSN // self.size:
            raise WalNameError("there is no segment of this number", place=str(self.number))

    @classmethod
    def parse(cls, name: str, size: int = DEFAULT_SEGMENT_BYTES) -> Self:
        """The segment of a 24-digit name. WalNameError if it is none, or none of this segment size."""
        found = _SEGMENT.fullmatch(name)
        if found is None:
            raise WalNameError("not the name of a WAL segment (24 upper-case hexadecimal digits)", place=name)
        timeline, high, low = (int(digits, 16) for digits in found.groups())
        per_id = _XLOG_ID_BYTES // check_segment_bytes(size)
        if low >= per_id:
            raise WalNameError(f"no segment of {size // MIB} MiB can have this name", place=name)
        return cls(timeline, high * per_id + low, size)

    @classmethod
    def holding(cls, lsn: int, timeline: int, size: int = DEFAULT_SEGMENT_BYTES) -> Self:
        """The segment with the byte at `lsn` in it (XLByteToSeg)."""
        return cls(timeline, lsn // check_segment_bytes(size), size)

    @classmethod
    def ending_at(cls, lsn: int, timeline: int, size: int = DEFAULT_SEGMENT_BYTES) -> Self:
        """The segment with the byte before `lsn` in it (XLByteToPrevSeg): the last that a stop LSN needs."""
        return cls(timeline, max(lsn - 1, 0) // check_segment_bytes(size), size)

    @property
    def name(self) -> str:
        high, low = divmod(self.number, _XLOG_ID_BYTES // self.size)
        return f"{self.timeline:08X}{high:08X}{low:08X}"

    @property
    def start_lsn(self) -> int:
        return self.number * self.size

    @property
    def end_lsn(self) -> int:
        """The LSN of the first byte after it."""
        return self.start_lsn + self.size

    def next(self) -> WalSegment:
        """The one that follows on the same timeline."""
        return WalSegment(self.timeline, self.number + 1, self.size)


class WalKind(StrEnum):
    """What a file that archive_command is given can be."""

    SEGMENT = "segment"
    PARTIAL = "partial"
    """The old timeline's last, unfinished segment, kept by a promotion."""
    LABEL = "label"
    """A backup's label: `pg_backup_stop` writes one."""
    HISTORY = "history"
    """Where a timeline forked off."""


@dataclass(frozen=True, slots=True)
class WalFile:
    """A file of the archive. segment: None for a history file, which belongs to a timeline only."""

    name: str
    kind: WalKind
    timeline: int
    segment: WalSegment | None = None


def parse_wal_file(name: str, size: int = DEFAULT_SEGMENT_BYTES) -> WalFile:
    """What an archive file's name says. WalNameError if PostgreSQL archives no such file."""
    if history := _HISTORY.fullmatch(name):
        return WalFile(name, WalKind.HISTORY, int(history[1], 16))
    if label := _LABEL.fullmatch(name):
        segment = WalSegment.parse(label[1], size)
        if int(label[2], 16) >= size:
            raise WalNameError("the label's offset lies outside its segment", place=name)
        return WalFile(name, WalKind.LABEL, segment.timeline, segment)
    kind = WalKind.PARTIAL if name.endswith(_PARTIAL) else WalKind.SEGMENT
    segment = WalSegment.parse(name.removesuffix(_PARTIAL), size)
    return WalFile(name, kind, segment.timeline, segment)


@dataclass(frozen=True, slots=True)
class SegmentRange:
    """Segment numbers from `first` to `last`, both included."""

    first: int
    last: int

    def __len__(self) -> int:
        return self.last - self.first + 1

    def __contains__(self, number: int) -> bool:
        return self.first <= number <= self.last


def runs(numbers: Iterable[int]) -> list[SegmentRange]:
    """Unbroken runs in a set of segment numbers, ascending."""
    found: list[SegmentRange] = []
    for number in sorted(set(numbers)):
        if found and number == found[-1].last + 1:
            found[-1] = SegmentRange(found[-1].first, number)
        else:
            found.append(SegmentRange(number, number))
    return found


def gaps(numbers: Iterable[int], first: int, last: int) -> list[SegmentRange]:
    """What is missing of `first` to `last`, both included: as ranges, since a gap may be of any length."""
    inside = [number for number in numbers if first <= number <= last]
    edges = [SegmentRange(first - 1, first - 1), *runs(inside), SegmentRange(last + 1, last + 1)]
    return [
        SegmentRange(before.last + 1, after.first - 1)
        for before, after in pairwise(edges)
        if after.first > before.last + 1
    ]


@dataclass(frozen=True, slots=True)
class Fork:
    """Where history left a timeline: bytes from `at_lsn` on belong to the next one."""

    timeline: int
    at_lsn: int
    reason: str = ""


@dataclass(frozen=True, slots=True)
class TimelineHistory:
    """A timeline and the forks that led to it, the oldest first; none for a cluster never promoted."""

    timeline: int
    forks: tuple[Fork, ...] = ()

    @classmethod
    def parse(cls, name: str, text: str) -> TimelineHistory:
        """Read `NNNNNNNN.history`. WalNameError if PostgreSQL would refuse it."""
        file = parse_wal_file(name)
        if file.kind is not WalKind.HISTORY:
            raise WalNameError("not the name of a history file", place=name)
        lines = (line.strip() for line in text.splitlines())
        forks = tuple(_fork(line, name) for line in lines if line and not line.startswith("#"))
        history = cls(file.timeline, forks)
        history._check(name)
        return history

    def _check(self, name: str) -> None:
        chain = [*(fork.timeline for fork in self.forks), self.timeline]
        if any(child <= parent for parent, child in pairwise(chain)):
            raise WalNameError("timelines must ascend to the file's own", place=name)
        if any(later.at_lsn < earlier.at_lsn for earlier, later in pairwise(self.forks)):
            raise WalNameError("forks must not go back in the WAL", place=name)

    def segment_at(self, number: int, size: int = DEFAULT_SEGMENT_BYTES) -> WalSegment:
        """The file that recovery reads for a segment number.

        A segment in which a fork lies exists on both timelines; recovery prefers the newer, which begins
        with the older one's bytes.
        """
        started = (fork.at_lsn // size for fork in self.forks)
        older = sum(1 for begin in started if begin <= number)
        chain = [*(fork.timeline for fork in self.forks), self.timeline]
        return WalSegment(chain[older], number, size)

    def covers(self, timeline: int, lsn: int) -> bool:
        """Whether a backup that stopped at `lsn` on `timeline` lies on the way to this timeline."""
        if timeline == self.timeline:
            return not self.forks or lsn >= self.forks[-1].at_lsn
        return any(fork.timeline == timeline and lsn <= fork.at_lsn for fork in self.forks)


def _fork(line: str, name: str) -> Fork:
    number, _, rest = line.partition("\t")
    lsn, _, reason = rest.partition("\t")
    if not number.strip().isdecimal() or not int(number):
        raise WalNameError(f"a line must be TIMELINE, LSN, REASON with tabs between: {line!r}", place=name)
    return Fork(int(number), parse_lsn(lsn.strip()), reason.strip())
