"""`engine` with a trace: recorded traffic at its own times, in place of the sweep."""

from __future__ import annotations

from pathlib import Path

import msgspec

from dreamseed_cli.bench.report import words
from dreamseed_cli.bench.result import CellResult, SuiteResult
from dreamseed_cli.bench.shapes import Cell, Replay
from dreamseed_cli.bench.suites.base import Bench
from dreamseed_cli.bench.suites.cells import Collected, make_cell
from dreamseed_cli.bench.workload import DEFAULT_MIX

_AFTER_S = 0.001
"""The last request is due before the end, never at it."""


async def replay(bench: Bench, shape: Replay) -> SuiteResult:
    """One cell: every request of the trace when it is due, or those of the first `bench.duration_s`.

    No figure of the document is judged by it: whoever recorded the trace knows what it stands for.
    """
    seen = Collected()
    cell = trace_cell(bench, shape)
    bench.plan([cell.duration_s])
    result = await seen.one(bench, cell)
    return SuiteResult(
        name="engine",
        headline=_headline(shape, result),
        cells=tuple(seen.cells),
        partial=seen.partial,
    )


def trace_cell(bench: Bench, shape: Replay) -> Cell:
    """The whole trace as a cell, unless the operator asked for less of it."""
    seconds = shape.length_s / shape.speed + _AFTER_S
    cell = make_cell(bench, "trace", shape, seconds=seconds)
    return msgspec.structs.replace(cell, duration_s=min(cell.duration_s, seconds), workload=DEFAULT_MIX)


def _headline(shape: Replay, cell: CellResult | None) -> str:
    name = Path(shape.path).name
    if cell is None or not cell.requests:
        return f"Not one request of {name} was sent."
    rate = words.number(cell.achieved_rate_per_s)
    text = f"{name}: {cell.requests:,} requests in the window, {rate} a second"
    if shape.speed != 1:
        text += f" ({shape.speed:g} times as fast as recorded)"
    if cell.ttft is not None:
        text += f"; TTFT {cell.ttft.mean.value:,.0f} ms on average"
    return f"{text}; {words.percent(cell.slo_attainment.value)} kept the SLO."
