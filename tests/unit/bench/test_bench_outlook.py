"""The time that is left of a suite: of its plan, which it may end sooner or change."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from compared_runs import a_cell
from rich.console import Console

from dreamseed_cli.bench.live_view import LiveView, Place
from dreamseed_cli.bench.locust_users.trial import _teller
from dreamseed_cli.bench.outlook import Ahead, Outlook, about
from dreamseed_cli.bench.progress import Progress
from dreamseed_cli.bench.result import CellResult, Interval, Slo
from dreamseed_cli.bench.shapes import Cell, Rate, Streams, TargetSpec, Users
from dreamseed_cli.bench.suites.base import Bench, Suite
from dreamseed_cli.bench.suites.batching import batching_suite
from dreamseed_cli.bench.suites.capacity import capacity_suite
from dreamseed_cli.bench.suites.engine import engine_suite


class Watched:
    """A campaign without a load: it notes what is ahead as each cell begins."""

    def __init__(self, suite: Suite, *, replicas: int = 0, most_streams: int = 16) -> None:
        self.outlook, self._most = Outlook(), most_streams
        self.seen: list[tuple[str, Ahead | None]] = []
        spec = TargetSpec(kind="grpc", address="127.0.0.1:1")
        self._suite, self._bench = (
            suite,
            Bench(
                target=spec,
                profile=None,
                slo=Slo(ttft_ms=1000.0, tpot_ms=100.0, attainment=0.99),
                seed=5,
                run_cell=self._run,
                say=lambda _line: None,
                state=Path("/nowhere"),
                replicas={f"r{number}": spec for number in range(replicas)},
                plan=self.outlook.plan,
            ),
        )

    async def go(self) -> list[tuple[str, Ahead | None]]:
        await self._suite(self._bench)
        return self.seen

    async def _run(self, cell: Cell, target: TargetSpec | None = None) -> CellResult:
        self.seen.append((cell.name, self.outlook.begin()))
        shape, rate = cell.shape, 12.0
        streams = shape.count if isinstance(shape, Streams) else None
        load = shape.per_s if isinstance(shape, Rate) else rate
        load = shape.count / 60 if isinstance(shape, Users) else load
        return a_cell(cell.name).model_copy(
            update={
                "asked_streams": streams,
                "asked_rate_per_s": load,
                "shape": {"count": shape.count} if isinstance(shape, Users) else {},
                "requests_per_s": Interval(value=rate),
                "output_tokens_per_s": Interval(value=100.0 * min(streams or 1, self._most)),
                "slo_attainment": Interval(value=1.0 if load < 10.0 else 0.0),
                "over_capacity": False,
            }
        )


def test_a_later_plan_replaces_what_is_left_of_the_one_before() -> None:
    """Without a plan nothing is known, and so it is once a plan is used up."""
    outlook = Outlook()
    assert outlook.begin() is None
    outlook.plan([20.0, 20.0, 30.0], at_most=True)
    assert outlook.begin() == Ahead(2, 50.0, at_most=True)
    outlook.plan([40.0])
    assert outlook.begin() == Ahead(0, 0.0)
    assert outlook.begin() is None


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0, "0 s"), (119, "119 s"), (120, "2 min"), (3500, "58 min"), (3590, "1 h 0 min"), (5000, "1 h 23 min")],
)
def test_times_are_no_finer_than_a_plan_is_kept(seconds: float, said: str) -> None:
    """Seconds up to two minutes, then minutes."""
    assert about(seconds) == said


async def test_a_known_plan_counts_down_to_nothing() -> None:
    """Batching does all its cells, whatever they show: 1, 2, 4, ... 64 streams, 20 s each."""
    seen = await Watched(batching_suite).go()
    assert [ahead for _, ahead in seen] == [Ahead(left, 20.0 * left) for left in range(6, -1, -1)]


async def test_a_sweep_that_may_end_sooner_says_at_most_until_it_has() -> None:
    """16 streams are enough here of up to 64: then come four rates and the scaling, and that is certain."""
    seen = dict(await Watched(engine_suite, replicas=2).go())
    first, rate = seen["streams-1"], next(ahead for name, ahead in seen.items() if name.startswith("poisson"))
    assert first is not None
    assert first.at_most
    assert first.cells == 6 + 4 + 2
    assert rate == Ahead(5, 100.0)
    assert list(seen.values())[-1] == Ahead(0, 0.0)


async def test_a_search_says_at_most_and_never_too_little() -> None:
    """Whatever it still does is within what it said, from the saturation to the last trial."""
    seen = await Watched(capacity_suite).go()
    aheads = [ahead for _, ahead in seen if ahead is not None]
    assert len(aheads) == len(seen) > 5
    assert all(ahead.at_most for ahead in aheads)
    assert all(ahead.cells >= len(seen) - number for number, ahead in enumerate(aheads, start=1))
    assert [one.seconds for one in aheads] == sorted((one.seconds for one in aheads), reverse=True)


def _lines(ahead: Ahead, *moments: Progress) -> list[str]:
    now, stream = [0.0], io.StringIO()
    cell = Cell(name="batch-4", shape=Streams(4), duration_s=60.0, seed=1)
    with LiveView(Console(file=stream, width=80), clock=lambda: now[0]) as view:
        view.begin_cell(Place("batching", cell, 3, None if ahead.at_most else 7, ahead))
        for moment in moments:
            now[0] += 10.0
            view.update(moment)
    return stream.getvalue().splitlines()


def test_the_suites_time_stands_beside_the_cells() -> None:
    """With what the cell itself still has; marked as a plan, and as the most of a search."""
    moment = Progress("batch-4", 20.0, 40.0, 9, 5, 0, 4, 1.0, 80.0, None)
    begun, under_way, late = _lines(Ahead(4, 240.0), moment, replace(moment, elapsed_s=61.0, left_s=0.0))
    assert begun == "batching · batch-4 · cell 3 of 7: 60 s, ~5 min of the suite left"
    assert under_way.endswith("40 s left, ~5 min of the suite")
    assert late.endswith("waiting for the last answers, ~4 min of the suite")
    (searched,) = _lines(Ahead(4, 240.0, at_most=True))
    assert searched == "batching · batch-4 · cell 3: 60 s, at most ~5 min of the suite left"


def test_a_load_of_its_own_tells_what_is_left_of_its_steps() -> None:
    """As planned; never less than nothing."""
    said: list[str] = []
    moments: Sequence[float] = (100.0, 130.0, 900.0)
    clock = iter(moments)
    tell = _teller(said.append, 300.0, clock=lambda: next(clock))
    for _ in range(6):
        tell({"event": "tick", "users": 100, "rate": 9.0, "failures": 0})
    assert [line.rpartition(", ")[2] for line in said] == [
        "~4 min of the suite left",
        "~0 s of the suite left",
    ]
