"""Records as columns: numpy arrays in the order in which the requests were due."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import nan

import numpy as np
import numpy.typing as npt

from dreamseed_cli.bench.records import Ending, Record

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Columns:
    """Times in seconds since the cell's start; NaN where there is none."""

    records: tuple[Record, ...]
    scheduled_s: Floats
    sent_s: Floats
    begun_s: Floats
    """When the load took each up: sent, but for the time in which the server let a new connection wait."""
    first_s: Floats
    last_s: Floats
    end_s: Floats
    tokens: Floats
    """By the server's usage."""
    complete: Bools

    def __len__(self) -> int:
        return len(self.records)

    def only(self, mask: Bools) -> Columns:
        """Those records alone."""
        return columns(record for record, kept in zip(self.records, mask, strict=True) if kept)

    def between(self, start_s: float, end_s: float) -> Columns:
        """Those that were due then, both ends included."""
        return self.only((self.scheduled_s >= start_s) & (self.scheduled_s <= end_s))

    def count(self, *endings: Ending) -> int:
        """How many ended in one of these ways."""
        return sum(record.ending in endings for record in self.records)


def columns(records: Iterable[Record]) -> Columns:
    """The columns of records, which may come in any order."""
    ordered = tuple(sorted(records, key=lambda record: (record.scheduled_s, record.number)))

    def column(value: Callable[[Record], float | None]) -> Floats:
        found = (value(record) for record in ordered)
        return np.fromiter((nan if one is None else one for one in found), np.float64, len(ordered))

    return Columns(
        records=ordered,
        scheduled_s=column(lambda record: record.scheduled_s),
        sent_s=column(lambda record: record.sent_s),
        begun_s=column(_begun_s),
        first_s=column(lambda record: record.first_token_s),
        last_s=column(lambda record: record.last_token_s),
        end_s=column(lambda record: record.end_s),
        tokens=column(lambda record: record.completion_tokens),
        complete=np.fromiter((one.ending is Ending.COMPLETE for one in ordered), np.bool_, len(ordered)),
    )


def _begun_s(record: Record) -> float | None:
    return None if record.sent_s is None else record.sent_s - (record.connect_s or 0.0)


def in_flight(begin_s: Floats, end_s: Floats, at_s: Floats) -> Ints:
    """How many had begun and were not over at each moment; what ends at a moment is over then."""
    begun = np.searchsorted(np.sort(begin_s), at_s, side="right")
    over = np.searchsorted(np.sort(end_s), at_s, side="right")
    return np.asarray(begun - over, dtype=np.int64)


def under_way(cols: Columns, ended_s: float) -> tuple[Floats, Floats]:
    """From when to when each request that was sent was open; one that never ended was so until `ended_s`."""
    sent = ~np.isnan(cols.sent_s)
    end = np.where(np.isnan(cols.end_s), ended_s, cols.end_s)
    return cols.sent_s[sent], end[sent]


def mean_in_flight(cols: Columns, ended_s: float, span_s: tuple[float, float]) -> float:
    """How many requests were open on average from one moment to another, as the client saw it."""
    begin, end = under_way(cols, ended_s)
    first, last = span_s
    open_s = np.minimum(end, last) - np.maximum(begin, first)
    return float(np.maximum(open_s, 0.0).sum() / (last - first)) if last > first else 0.0


def peak_in_flight(cols: Columns, ended_s: float) -> int:
    """The most requests that were open at a time, as the client saw it."""
    begin, end = under_way(cols, ended_s)
    return int(in_flight(begin, end, begin).max(initial=0))
