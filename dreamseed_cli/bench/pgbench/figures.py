"""From pgbench's runs to figures: intervals, quantiles, the load at which §E1 is judged, tables. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dreamseed_cli.bench.document import judged_by
from dreamseed_cli.bench.measure.intervals import mean_interval
from dreamseed_cli.bench.pgbench.command import READ_MOSTLY, WRITE, Workload
from dreamseed_cli.bench.pgbench.output import Second
from dreamseed_cli.bench.result import Column, FactTable, Interval
from dreamseed_cli.estimates.results import Measurement
from dreamseed_cli.estimates.schema import Book

_SCALE_BYTES = 16 * 1024**2
_SCALE_PER_SECOND = 10
_MOST_BATCHES = 10
_FEWEST_BATCHES = 5

COLUMNS = (
    Column(key="workload", label="workload"),
    Column(key="clients", label="clients"),
    Column(key="tps", label="TPS", unit="1/s"),
    Column(key="tps_low", label="95 % from", unit="1/s"),
    Column(key="tps_high", label="to", unit="1/s"),
    Column(key="p50_ms", label="p50", unit="ms"),
    Column(key="p95_ms", label="p95", unit="ms"),
    Column(key="p99_ms", label="p99", unit="ms"),
    Column(key="failed", label="failed"),
    Column(key="note", label="note"),
)


@dataclass(frozen=True, slots=True)
class Row:
    """One cell's figures. seconds: how many of them the interval rests on."""

    workload: Workload
    clients: int
    tps: Interval
    seconds: int
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None
    failed: int
    note: str = ""

    def to_data(self) -> dict[str, float | int | str | bool | None]:
        return {
            "workload": self.workload.name,
            "clients": self.clients,
            "tps": round(self.tps.value, 1),
            "tps_low": None if self.tps.low is None else round(self.tps.low, 1),
            "tps_high": None if self.tps.high is None else round(self.tps.high, 1),
            "p50_ms": self.p50_ms,
            "p95_ms": self.p95_ms,
            "p99_ms": self.p99_ms,
            "failed": self.failed,
            "note": self.note,
        }


def choose_scale(memory_bytes: int, disk_bytes: int | None, seconds: float, most_clients: int) -> int:
    """pgbench's scale: 15 MiB each. A sixteenth of the memory, a fiftieth of the free disk (None: unknown).

    Not above the clients (one branch row for each is what pgbench's manual asks for), nor so much that
    loading takes longer than a cell does.
    """
    room = memory_bytes / 16 if disk_bytes is None else min(memory_bytes / 16, disk_bytes / 50)
    return max(1, min(int(room / _SCALE_BYTES), int(seconds * _SCALE_PER_SECOND), most_clients))


def client_counts(asked: Sequence[int], free: int) -> tuple[int, ...]:
    """Those of `asked` that the server has room for; what is above becomes as many as it has."""
    return tuple(dict.fromkeys(min(count, max(1, free)) for count in asked))


def tps_interval(seconds: Sequence[Second], begun_s: float, otherwise: float) -> Interval:
    """Mean TPS with its 95 % interval by batch means. begun_s: Unix time at which the first second began.

    otherwise: the value where there are no seconds. Neighbouring seconds are not independent (checkpoints,
    caches): batches of them are nearly so.
    """
    if not seconds:
        return Interval(value=otherwise)
    ends = [second.at_s for second in seconds]
    lengths = [end - start for start, end in zip([begun_s, *ends], ends, strict=False)]
    done = [length * second.tps for length, second in zip(lengths, seconds, strict=True)]
    mean = sum(done) / sum(lengths)
    batches = min(_MOST_BATCHES, len(seconds) // 2)
    if batches < _FEWEST_BATCHES:
        return Interval(value=mean)
    size = len(seconds) // batches
    rates = [sum(done[i : i + size]) / sum(lengths[i : i + size]) for i in range(0, size * batches, size)]
    spread = mean_interval(np.array(rates))
    half = (spread.high or mean) - spread.value
    return Interval(value=mean, low=max(0.0, mean - half), high=mean + half)


def at_its_best(rows: Sequence[Row], workload: Workload, p95_limit_ms: float) -> Row | None:
    """The load with most TPS among those that keep the p95, else among all: §E1 promises both at once."""
    ours = [row for row in rows if row.workload == workload]
    kept = [row for row in ours if row.p95_ms is not None and row.p95_ms < p95_limit_ms]
    return max(kept or ours, key=lambda row: row.tps.value, default=None)


def p95_limit_ms(book: Book) -> float:
    """§E1's bound on the p95; infinite where the file of estimates has none."""
    row = judged_by(book).get("postgres-p95-ms")
    return math.inf if row is None else row.high


def measurements(rows: Sequence[Row], limit_ms: float) -> tuple[Measurement, ...]:
    """What §E1 is judged by. Both TPS at the load that `at_its_best` finds, the worse p95 of the two."""
    found = []
    worst: list[Row] = []
    for key, workload in (("postgres-read-tps", READ_MOSTLY), ("postgres-write-tps", WRITE)):
        row = at_its_best(rows, workload, limit_ms)
        if row is not None:
            worst.append(row)
            found.append(_measured(key, row.tps.value, "TPS", row.tps.low, row.tps.high, row.seconds))
    p95s = [row.p95_ms for row in worst if row.p95_ms is not None]
    if len(p95s) == 2:
        found.append(_measured("postgres-p95-ms", max(p95s), "ms"))
    served = [row.clients for row in rows if not row.failed]
    if served:
        found.append(_measured("postgres-connections", float(max(served)), "connections"))
    return tuple(found)


def table(rows: Sequence[Row], title: str) -> FactTable:
    """Every cell's figures."""
    return FactTable(title=title, columns=COLUMNS, rows=tuple(row.to_data() for row in rows))


def _measured(
    key: str,
    value: float,
    unit: str,
    low: float | None = None,
    high: float | None = None,
    n: int | None = None,
) -> Measurement:
    # Whatever engines the stack has: PostgreSQL is a real one.
    return Measurement(key=key, value=value, unit=unit, provenance="measured", low=low, high=high, n=n)
