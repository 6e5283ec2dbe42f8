"""`engine`: latency and throughput over a sweep of concurrency and of rates, per replica and in all."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from msgspec.structs import replace

from dreamseed_cli.bench.result import CellResult, Column, FactTable, SuiteResult
from dreamseed_cli.bench.shapes import Cell, TargetSpec
from dreamseed_cli.bench.suites.base import Bench
from dreamseed_cli.bench.suites.cells import (
    ANSWER_TOKENS,
    Collected,
    at_least,
    doubling,
    make_cell,
    measurement,
    rate_of,
    streams,
    usable,
)
from dreamseed_cli.bench.suites.model_class import model_class
from dreamseed_cli.bench.suites.replay import replay
from dreamseed_cli.bench.workload import load as load_workload
from dreamseed_cli.estimates.results import Measurement

_SECONDS = 20.0
_SHARES = (0.25, 0.5, 0.75, 0.9)
"""Of the highest throughput that the sweep of concurrency reached."""
_MOST_RAMP = 0.25
"""Of a cell: the ramp counts as warm-up."""
_FEWEST_DUE = 20
"""Requests that a rate must bring in its cell: half of them may be trimmed, and chance brings fewer."""
_PLATEAU = 1.05
"""Doubling the streams must bring 5 % more tokens, or the sweep has seen enough."""


async def engine_suite(bench: Bench) -> SuiteResult:
    """Closed-loop streams until they bring no more, then Poisson rates below that; then one replica alone.

    With a trace: its requests at their own times, and nothing else.
    """
    if bench.trace is not None:
        return await replay(bench, bench.trace)
    seen = Collected()
    await _concurrency(bench, seen)
    best = max((one.output_tokens_per_s.value for one in seen.cells if usable(one)), default=0.0)
    asked = bench.rates or _rates(bench, best)
    if asked and not seen.partial:
        rates = [_rate_cell(bench, per_s) for per_s in asked]
        bench.plan([*(cell.duration_s for cell in rates), *_scaling_plan(bench)])
        async for _ in seen.run(bench, ((cell, None) for cell in rates)):
            pass
    if not seen.partial:
        await _scale(bench, seen)
    return engine_result(bench, seen.cells, partial=seen.partial)


def engine_result(bench: Bench, cells: Sequence[CellResult], *, partial: bool = False) -> SuiteResult:
    """What its cells say."""
    scaling = _scaling(bench, cells)
    return SuiteResult(
        name="engine",
        headline=_headline(cells),
        cells=tuple(cells),
        tables=(scaling,) if scaling else (),
        measurements=tuple(_measurements(bench, cells)),
        partial=partial,
    )


def _rates(bench: Bench, tokens_per_s: float) -> list[float]:
    """Requests a second of the workload that ask for shares of so many tokens a second.

    Not of what ended in the sweep: its streams end in waves, and its answers have another length.
    """
    if not tokens_per_s:
        return []
    each = load_workload(_asked(bench).workload).mean_output_tokens
    return [float(f"{tokens_per_s * share / each:.3g}") for share in _SHARES]


def _asked(bench: Bench) -> Cell:
    """A cell of the workload that the rates bring."""
    return make_cell(bench, "", rate_of(bench, 1.0), seconds=_SECONDS)


def _rate_cell(bench: Bench, per_s: float) -> Cell:
    """As long as asked for, and longer on a slow box: too few requests would tell nothing."""
    name = f"{bench.arrivals}-{per_s:g}"
    cell = replace(_asked(bench), name=name, shape=rate_of(bench, per_s))
    return at_least(cell, _FEWEST_DUE / per_s / bench.rounds)


async def _concurrency(bench: Bench, seen: Collected) -> None:
    """Doubling streams, up to one step beyond the engines' places where those that wait then can be seen."""
    before = answer_s = 0.0
    counts = doubling(bench.places * (2 if bench.sees_queue else 1))
    cells = len(counts) + len(bench.rates or _SHARES)
    bench.plan([bench.lasting(_SECONDS)] * cells + _scaling_plan(bench), at_most=True)
    for count in counts:
        shape = streams(count, min(answer_s, bench.lasting(_SECONDS) * _MOST_RAMP))
        cell = make_cell(bench, f"streams-{count}", shape, seconds=_SECONDS, tokens=ANSWER_TOKENS)
        result = await seen.one(bench, cell)
        if result is None:
            return
        now = result.output_tokens_per_s.value
        if now < before * _PLATEAU:
            return
        before = now
        answer_s = result.e2e.mean.value / 1000 if result.e2e else 0.0


def _scaling_plan(bench: Bench) -> list[float]:
    """The lengths of what `_scaling` does."""
    return [bench.lasting(_SECONDS)] * (2 if len(bench.replicas) > 1 else 0)


async def _scale(bench: Bench, seen: Collected) -> None:
    """The same streams for each replica: one of them past the gateway, and all of them through it."""
    if len(bench.replicas) < 2:
        return
    best = max(seen.cells, key=lambda one: one.output_tokens_per_s.value, default=None)
    if best is None or best.asked_streams is None:
        return
    # What waits in the gateway's queue waits nowhere past it.
    each = max(1, min(best.asked_streams, bench.places) // len(bench.replicas))
    name, spec = next(iter(bench.replicas.items()))
    await seen.one(bench, *_alone(bench, name, spec, each))
    shape = streams(each * len(bench.replicas))
    await seen.one(bench, make_cell(bench, f"all-{each}-each", shape, seconds=_SECONDS, tokens=ANSWER_TOKENS))


def _scaling(bench: Bench, cells: Sequence[CellResult]) -> FactTable | None:
    """One replica beside all of them, if both could be measured."""
    named = {one.name: one for one in cells}
    alone = next((one for one in cells if "-alone-" in one.name), None)
    each = alone.asked_streams if alone else None
    together = named.get(f"all-{each}-each")
    if alone is None or together is None or not (usable(alone) and usable(together)):
        return None
    return FactTable(
        title=f"Scaling from 1 to {len(bench.replicas)} replicas, {each} streams each",
        columns=(
            Column(key="replicas", label="replicas"),
            Column(key="tok_s", label="output", unit="tok/s"),
            Column(key="times", label="to one alone", unit="times"),
        ),
        rows=tuple(_scaling_rows(alone, together, len(bench.replicas))),
        provenance=bench.provenance,
    )


def _alone(bench: Bench, name: str, spec: TargetSpec, each: int) -> tuple[Cell, TargetSpec]:
    cell = make_cell(bench, f"{name}-alone-{each}", streams(each), seconds=_SECONDS, tokens=ANSWER_TOKENS)
    return cell, spec


def _scaling_rows(
    alone: CellResult, together: CellResult, replicas: int
) -> Iterator[dict[str, float | int | str | bool | None]]:
    one, all_ = alone.output_tokens_per_s.value, together.output_tokens_per_s.value
    yield {"replicas": 1, "tok_s": one, "times": 1.0}
    yield {"replicas": replicas, "tok_s": all_, "times": all_ / one}


def _measurements(bench: Bench, cells: Sequence[CellResult]) -> Iterator[Measurement]:
    """The highest throughput, by what the estimates ask of it: a model's size, a card's share, the farm."""
    good = [one for one in cells if usable(one) and one.asked_streams is not None]
    if not good or not bench.replicas:
        return
    whole = [one for one in good if "alone" not in one.name]
    best = max(whole, key=lambda one: one.output_tokens_per_s.value, default=None)
    if best is None:
        return
    replicas = len(bench.replicas)
    per_replica = best.output_tokens_per_s.times(1 / replicas)
    size = model_class(bench.profile)
    if size:
        yield measurement(bench, f"throughput-{size}-tok-s", per_replica, "tok/s", best.requests)
    if replicas == 3:
        yield measurement(bench, "farm-tok-s", best.output_tokens_per_s, "tok/s", best.requests)
    if size in {"7b", "13b"}:
        yield measurement(bench, "throughput-mix-tok-s", per_replica, "tok/s", best.requests)


def _headline(cells: Sequence[CellResult]) -> str:
    good = [one for one in cells if usable(one)]
    if not good:
        return "No cell gave a figure that can be believed."
    best = max(good, key=lambda one: one.output_tokens_per_s.value)
    single = next((one for one in good if one.asked_streams == 1), None)
    words = f"{best.output_tokens_per_s.value:,.0f} tok/s at most ({best.name})"
    if single is not None and single.tpot is not None:
        words += f"; one stream alone {1000 / single.tpot.mean.value:,.0f} tok/s"
        if single.ttft is not None:
            words += f", TTFT {single.ttft.mean.value:,.0f} ms"
    return f"{words}."
