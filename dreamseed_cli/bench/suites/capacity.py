"""`capacity`: the highest rate, and the most users who read and think, that keep the SLO; by search.

§B1 equates 450 requests a minute with 450 users at once. A user who asks once a minute is that; a
generation under way is another thing (Little's law). Both are given here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from dreamseed_cli.bench.result import CellResult, Column, FactTable, Interval, SuiteResult
from dreamseed_cli.bench.shapes import Cell, Users
from dreamseed_cli.bench.suites.base import Bench
from dreamseed_cli.bench.suites.cells import (
    ANSWER_TOKENS,
    Collected,
    make_cell,
    measurement,
    poisson,
    streams,
    usable,
)
from dreamseed_cli.bench.suites.search import Search
from dreamseed_cli.estimates.results import Measurement

_SECONDS = 30.0
_CYCLE_S = 60.0
"""§B1: 450 requests a minute are 450 users who each ask once a minute."""
_TOLERANCE = 0.03

CellFor = Callable[[float], Cell]


async def capacity_suite(bench: Bench) -> SuiteResult:
    """Saturate, search the rate below that, then the users whom Little's law promises at that rate."""
    seen = Collected()
    saturated = await seen.one(
        bench,
        make_cell(bench, "saturation", streams(bench.places), seconds=_SECONDS, tokens=ANSWER_TOKENS),
    )
    rate = users = None
    if saturated is not None and saturated.requests_per_s.value > 0:
        rate = await _search_rate(bench, seen, saturated.requests_per_s.value)
        if rate is not None:
            users = await _search_users(bench, seen, rate)
    return SuiteResult(
        name="capacity",
        headline=_headline(rate, users),
        cells=tuple(seen.cells),
        tables=(_trials(bench, seen.cells),) if seen.cells else (),
        measurements=tuple(_measurements(bench, rate)),
        partial=seen.partial,
        missed=() if rate or seen.partial else ("not even the lowest rate tried kept the SLO",),
    )


def sustained(cell: CellResult, attainment: float) -> bool:
    """Whether a load was held: enough of all its requests were good, and the load was what was asked."""
    return cell.valid and not cell.partial and cell.slo_attainment.value >= attainment


async def _search_rate(bench: Bench, seen: Collected, saturation: float) -> CellResult | None:
    search = Search(start=saturation * 0.9, tolerance=_TOLERANCE)

    def cell_for(load: float) -> Cell:
        return make_cell(
            bench,
            f"rate-{load:.4g}-{search.trials}",
            poisson(load),
            seconds=_SECONDS,
            tokens=ANSWER_TOKENS,
            trial=search.trials,
        )

    return await _run_search(bench, seen, search, cell_for)


async def _search_users(bench: Bench, seen: Collected, rate: CellResult) -> CellResult | None:
    """Each user asks once in `_CYCLE_S`, reading and thinking included."""
    answer_s = rate.e2e.mean.value / 1000 if rate.e2e else 0.0
    think_s = max(1.0, _CYCLE_S - answer_s)
    start = (rate.asked_rate_per_s or rate.requests_per_s.value) * (think_s + answer_s)
    search = Search(start=max(1.0, start), tolerance=_TOLERANCE, whole=True)

    def cell_for(load: float) -> Cell:
        shape = Users(int(load), think_s)
        name = f"users-{int(load)}-{search.trials}"
        return make_cell(bench, name, shape, seconds=3 * _CYCLE_S, tokens=ANSWER_TOKENS, trial=search.trials)

    return await _run_search(bench, seen, search, cell_for)


async def _run_search(bench: Bench, seen: Collected, search: Search, cell_for: CellFor) -> CellResult | None:
    """The cell that confirmed the highest load; None if none was kept or the run was interrupted."""
    confirmed: CellResult | None = None
    while (load := search.next()) is not None:
        result = await seen.one(bench, cell_for(load))
        if result is None or result.partial:
            return None
        kept = sustained(result, bench.slo.attainment)
        bench.say(
            f"{result.name}: {result.slo_attainment.value:.1%} good, " + ("kept" if kept else "not kept")
        )
        search.note(load, kept=kept)
        confirmed = result if search.confirmed else confirmed
    return confirmed


def _trials(bench: Bench, cells: list[CellResult]) -> FactTable:
    return FactTable(
        title="Trials of the search",
        columns=(
            Column(key="trial", label="trial"),
            Column(key="rate", label="requests", unit="1/s"),
            Column(key="good", label="good", unit="%"),
            Column(key="kept", label="kept the SLO"),
        ),
        rows=tuple(
            {
                "trial": one.name,
                "rate": one.achieved_rate_per_s,
                "good": one.slo_attainment.value * 100,
                "kept": sustained(one, bench.slo.attainment),
            }
            for one in cells
        ),
        provenance=bench.provenance,
    )


def _measurements(bench: Bench, rate: CellResult | None) -> Iterator[Measurement]:
    if rate is not None and usable(rate):
        asked = Interval(value=rate.asked_rate_per_s or rate.achieved_rate_per_s)
        if len(bench.replicas) == 3:
            yield measurement(bench, "farm-answers-per-s", asked, "requests/s", rate.requests)
        if rate.e2e is not None:
            yield measurement(bench, "concurrent-generations", _little(rate), "users", rate.requests)


def _little(rate: CellResult) -> Interval:
    """Generations under way at the sustained rate: arrival rate times time in system."""
    assert rate.e2e is not None  # noqa: S101 - the caller looked
    return rate.e2e.mean.times((rate.asked_rate_per_s or rate.achieved_rate_per_s) / 1000)


def _headline(rate: CellResult | None, users: CellResult | None) -> str:
    if rate is None:
        return "No rate was found that keeps the SLO."
    words = f"{rate.asked_rate_per_s or rate.achieved_rate_per_s:.3g} requests/s keep the SLO"
    if rate.e2e is not None:
        words += f" ({_little(rate).value:,.0f} generations under way)"
    if users is not None:
        words += f"; {users.shape['count']:,} users who ask once a minute"
    return f"{words}."
