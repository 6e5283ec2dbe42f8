"""What several suites need: cells with names of their own, doubling loads, sentences, measurements."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field

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

    seconds: unless the operator asked for another duration. tokens: of every answer; None: the workload's.
    trial: cells of another number have other arrivals, so that what one passed by luck the next one fails.
    """
    return Cell(
        name=name,
        shape=shape,
        duration_s=bench.duration_s or seconds,
        seed=bench.seed + trial,
        output_tokens=tokens,
        nonce=secrets.token_hex(4),
    )


def streams(count: int) -> Streams:
    """So many at a time, begun over two seconds so that they do not march in step."""
    return Streams(count, ramp_s=_RAMP_S if count > 1 else 0.0)


def poisson(per_s: float) -> Rate:
    """Requests as they come from many people who know nothing of each other."""
    return Rate(per_s, "poisson")


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
