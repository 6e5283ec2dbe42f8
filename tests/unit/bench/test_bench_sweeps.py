"""The `engine` and `capacity` suites: what they ask for. Their cells are made up here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from compared_runs import a_cell

from dreamseed_cli.bench.result import CellResult, Interval, Slo
from dreamseed_cli.bench.shapes import Cell, Rate, TargetSpec
from dreamseed_cli.bench.suites.base import Bench
from dreamseed_cli.bench.suites.capacity import capacity_suite
from dreamseed_cli.bench.suites.engine import engine_suite

SLOW_PER_S = 0.2
"""A processor's answers a second."""


def _bench(answer: Callable[[Cell], CellResult], *, duration_s: float | None) -> Bench:
    async def run(cell: Cell, target: TargetSpec | None = None) -> CellResult:
        return answer(cell)

    return Bench(
        target=TargetSpec(kind="grpc", address="127.0.0.1:1"),
        profile=None,
        slo=Slo(ttft_ms=1000.0, tpot_ms=100.0, attainment=0.99),
        seed=5,
        run_cell=run,
        say=lambda _line: None,
        state=Path("/nowhere"),
        duration_s=duration_s,
    )


async def test_a_slow_box_gets_as_long_as_twenty_requests_take() -> None:
    """Its rates would bring three requests in the usual time, of which nothing can be told."""
    asked: list[Cell] = []

    def answer(cell: Cell) -> CellResult:
        asked.append(cell)
        return a_cell(cell.name).model_copy(update={"requests_per_s": Interval(value=SLOW_PER_S)})

    await engine_suite(_bench(answer, duration_s=10.0))
    rates = [one for one in asked if isinstance(one.shape, Rate)]
    assert rates
    assert all(one.duration_s * one.shape.per_s >= 19.9 for one in rates if isinstance(one.shape, Rate))
    assert all(one.duration_s == 10.0 for one in asked if not isinstance(one.shape, Rate))


async def test_no_two_trials_of_a_search_have_the_same_arrivals() -> None:
    """A load that passed by luck must not be confirmed by the same luck."""
    seeds: list[int] = []

    def answer(cell: Cell) -> CellResult:
        good = 1.0
        if isinstance(cell.shape, Rate):
            seeds.append(cell.seed)
            good = 1.0 if cell.shape.per_s < 10.0 else 0.0
        return a_cell(cell.name).model_copy(
            update={"requests_per_s": Interval(value=12.0), "slo_attainment": Interval(value=good)}
        )

    await capacity_suite(_bench(answer, duration_s=10.0))
    assert len(seeds) > 3
    assert len(set(seeds)) == len(seeds)
