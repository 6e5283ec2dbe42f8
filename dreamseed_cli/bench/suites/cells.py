"""What several suites need: cells with names of their own, doubling loads, sentences, measurements."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field

from msgspec.structs import replace

from dreamseed_cli.bench.result import CellResult, Interval
from dreamseed_cli.bench.shapes import Cell, Rate, Shape, Streams, TargetSpec
from dreamseed_cli.bench.suites.base import Bench, StopEarly
from dreamseed_cli.estimates.results import Measurement

ANSWER_TOKENS = 200
"""§B1's average answer."""

_RAMP_S = 2.0


def make_cell(
    bench: Bench, name: str, shape: Shape, *, seconds: float, tokens: int | None = None, trial: int = 0
) -> Cell:
    """A cell whose prompts share no beginning with those of any other cell or run.

    seconds: unless the operator asked for another duration. tokens: of every answer; None: the workload's. A
    workload that the operator named keeps its own lengths.
    trial: cells of another number have other arrivals, so that what one passed by luck the next one fails.
    """
    return Cell(
        name=name,
        shape=shape,
        duration_s=bench.lasting(seconds),
        seed=bench.seed + trial,
        workload=bench.workload or "question",
        output_tokens=tokens if bench.workload is None else None,
        nonce=secrets.token_hex(4),
    )


def at_least(cell: Cell, seconds: float) -> Cell:
    """The cell, and longer where the operator asked for a shorter one than can tell anything."""
    return replace(cell, duration_s=max(cell.duration_s, seconds))


def streams(count: int, answer_s: float = 0.0) -> Streams:
    """So many at a time, begun over two seconds so that they do not march in step.

    answer_s: how long an answer takes, if that is known: they begin over that time, so that they end evenly.
    """
    return Streams(count, ramp_s=max(_RAMP_S, answer_s) if count > 1 else 0.0)


def rate_of(bench: Bench, per_s: float) -> Rate:
    """Requests as they come from many people who know nothing of each other; evenly if that was asked for."""
    return Rate(per_s, bench.arrivals)


def doubling(most: int) -> list[int]:
    """1, 2, 4, ... and `most` itself."""
    counts = [1]
    while counts[-1] * 2 < most:
        counts.append(counts[-1] * 2)
    return counts if most <= 1 else [*counts, most]


@dataclass
class Collected:
    """The cells a suite has so far, and whether it had to stop."""

    cells: list[CellResult] = field(default_factory=list)
    partial: bool = False

    async def run(
        self, bench: Bench, cells: Iterable[tuple[Cell, TargetSpec | None]]
    ) -> AsyncIterator[CellResult]:
        """Every cell's result, until there are no more or the run is interrupted."""
        for cell, target in cells:
            result = await self.one(bench, cell, target)
            if result is None:
                return
            yield result

    async def one(self, bench: Bench, cell: Cell, target: TargetSpec | None = None) -> CellResult | None:
        """One cell's result; None once the run is interrupted."""
        try:
            result = await bench.run_cell(cell, target)
        except StopEarly:
            self.partial = True
            return None
        self.cells.append(result)
        self.partial = self.partial or result.partial
        return result


def answers_per_s(cell: CellResult) -> float:
    """Answers a second that a closed loop got, by its tokens.

    Streams that began together end together: whether the last wave of answers is within the window is chance,
    and the count of ended requests is off by up to a wave. Tokens flow evenly.
    """
    mean = cell.output_tokens_mean
    return cell.output_tokens_per_s.value / mean if mean else cell.requests_per_s.value


def measurement(bench: Bench, key: str, found: Interval, unit: str, n: int | None = None) -> Measurement:
    """A figure as `dreamseed estimates` judges by."""
    return Measurement(
        key=key,
        value=found.value,
        unit=unit,
        provenance=bench.provenance,
        low=found.low,
        high=found.high,
        n=n,
    )


def usable(cell: CellResult) -> bool:
    """Whether its figures may be published: valid, whole, and with answers in it."""
    return cell.valid and not cell.partial and cell.endings.get("complete", 0) > 0
