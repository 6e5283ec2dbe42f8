"""`batching`: what decoding several answers at once brings, against §I2's 200 and 1,200 tok/s (6 times)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from dreamseed_cli.bench.result import CellResult, Column, FactTable, Interval, SuiteResult
from dreamseed_cli.bench.suites.base import Bench
from dreamseed_cli.bench.suites.cells import (
    ANSWER_TOKENS,
    Collected,
    doubling,
    make_cell,
    measurement,
    streams,
    usable,
)
from dreamseed_cli.bench.suites.model_class import model_class
from dreamseed_cli.estimates.results import Measurement

_SECONDS = 20.0
_BATCH = 8
_MOST = 64


async def batching_suite(bench: Bench) -> SuiteResult:
    """1, 2, 4, 8, ... streams against one engine: of the stack's own if there are any, else the target."""
    seen = Collected()
    alone = next(iter(bench.replicas.values()), None)
    most = min(_MOST, max(_BATCH, bench.places // max(1, len(bench.replicas))))
    cells = [
        make_cell(bench, f"batch-{count}", streams(count), seconds=_SECONDS, tokens=ANSWER_TOKENS)
        for count in doubling(most)
    ]
    bench.plan([cell.duration_s for cell in cells])
    async for _ in seen.run(bench, ((cell, alone) for cell in cells)):
        pass
    return batching_result(bench, seen.cells, partial=seen.partial)


def batching_result(bench: Bench, cells: Sequence[CellResult], *, partial: bool = False) -> SuiteResult:
    """What its cells say."""
    good = {one.asked_streams: one for one in cells if usable(one) and one.asked_streams}
    return SuiteResult(
        name="batching",
        headline=_headline(good),
        cells=tuple(cells),
        tables=tuple(_table(bench, good)),
        measurements=tuple(_measurements(bench, good)),
        partial=partial,
    )


def speedup(batch: Interval, single: Interval) -> Interval:
    """How many times as fast; the interval takes both ends of both, which is wider than 95 %."""
    ends = (batch.low, batch.high, single.low, single.high)
    if any(end is None or end <= 0 for end in ends):
        return Interval(value=batch.value / single.value)
    low, high, one_low, one_high = (end or 0.0 for end in ends)
    return Interval(value=batch.value / single.value, low=low / one_high, high=high / one_low)


def _table(bench: Bench, good: dict[int, CellResult]) -> Iterator[FactTable]:
    single = good.get(1)
    if single is None:
        return
    yield FactTable(
        title="Answers decoded at once, on one engine",
        columns=(
            Column(key="streams", label="at once"),
            Column(key="tok_s", label="output", unit="tok/s"),
            Column(key="times", label="to one alone", unit="times"),
            Column(key="each", label="each of them", unit="tok/s"),
        ),
        rows=tuple(
            {
                "streams": count,
                "tok_s": cell.output_tokens_per_s.value,
                "times": cell.output_tokens_per_s.value / single.output_tokens_per_s.value,
                "each": cell.output_tokens_per_s.value / count,
            }
            for count, cell in sorted(good.items())
        ),
        provenance=bench.provenance,
    )


def _measurements(bench: Bench, good: dict[int, CellResult]) -> Iterator[Measurement]:
    single, batch = good.get(1), good.get(_BATCH)
    seven = model_class(bench.profile) == "7b"
    if single is not None and seven:
        rate = single.output_tokens_per_s
        yield measurement(bench, "single-stream-7b-tok-s", rate, "tok/s", single.requests)
    if batch is not None and seven:
        rate = batch.output_tokens_per_s
        yield measurement(bench, "batch-8-7b-tok-s", rate, "tok/s", batch.requests)
    if single is not None and batch is not None:
        times = speedup(batch.output_tokens_per_s, single.output_tokens_per_s)
        yield measurement(bench, "batch-8-speedup", times, "times", batch.requests)


def _headline(good: dict[int, CellResult]) -> str:
    single, batch = good.get(1), good.get(_BATCH)
    if single is None or batch is None:
        return "No figures for one answer and for eight at once that can be believed."
    one, eight = single.output_tokens_per_s.value, batch.output_tokens_per_s.value
    return (
        f"One answer at a time {one:,.0f} tok/s, eight at once {eight:,.0f} tok/s: {eight / one:.1f} times."
    )
