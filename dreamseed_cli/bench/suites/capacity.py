"""`capacity`: the highest rate, and the most users who read and think, that keep the SLO; by search.

§B1 equates 450 requests a minute with 450 users at once. A user who asks once a minute is that; a
generation under way is another thing (Little's law). Both are given here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from dreamseed_cli.bench.result import CellResult, Column, FactTable, Interval, SuiteResult
from dreamseed_cli.bench.suites.base import Bench
from dreamseed_cli.bench.suites.cells import (
    ANSWER_TOKENS,
    Collected,
    answers_per_s,
    make_cell,
    measurement,
    streams,
    usable,
)
from dreamseed_cli.bench.suites.trials import Trials, cycle_s, rate_trials, sustained, user_trials
from dreamseed_cli.estimates.load import load_book
from dreamseed_cli.estimates.results import Measurement

_SECONDS = 30.0


async def capacity_suite(bench: Bench) -> SuiteResult:
    """Saturate, search the rate below that, then the users whom Little's law promises at that rate."""
    seen = Collected()
    first = make_cell(bench, "saturation", streams(bench.places), seconds=_SECONDS, tokens=ANSWER_TOKENS)
    users_s = user_trials(bench, 1.0, 0.0).ahead_s()
    bench.plan([first.duration_s, *rate_trials(bench, 1.0, 0.0).ahead_s(), *users_s], at_most=True)
    saturated = await seen.one(bench, first)
    rate = users = rates = None
    if saturated is not None and answers_per_s(saturated) > 0:
        rates = rate_trials(bench, answers_per_s(saturated), _answer_s(saturated))
        rate = await _search(bench, seen, rates, then=users_s)
        if rate is not None:
            per_s = rate.asked_rate_per_s or rate.requests_per_s.value
            users = await _search(bench, seen, user_trials(bench, per_s, _answer_s(rate)))
    return SuiteResult(
        name="capacity",
        headline=_headline(rate, users),
        cells=tuple(seen.cells),
        tables=(_trials(bench, seen.cells),) if seen.cells else (),
        measurements=tuple(_measurements(bench, rate)),
        partial=seen.partial,
        missed=() if rate or seen.partial else (_why_none(rates),),
    )


def _why_none(rates: Trials | None) -> str:
    if rates is not None and rates.search.left == 0:
        return f"{rates.search.trials} trials ended without a rate that kept the SLO twice"
    return "not even the lowest rate tried kept the SLO"


async def _search(
    bench: Bench, seen: Collected, trials: Trials, then: Sequence[float] = ()
) -> CellResult | None:
    """The cell that confirmed the highest load; None if none was kept or the run was interrupted.

    then: the lengths of what comes after it.
    """
    confirmed: CellResult | None = None
    search = trials.search
    while (load := search.next()) is not None:
        result = await _trial(bench, seen, trials, load, then)
        if result is None or result.partial:
            return None
        kept = sustained(result, bench.slo.attainment)
        search.note(load, kept=kept)
        bench.say(_told(result, "kept" if kept else "not kept"))
        confirmed = result if search.confirmed else confirmed
    return confirmed


async def _trial(
    bench: Bench, seen: Collected, trials: Trials, load: float, then: Sequence[float]
) -> CellResult | None:
    """The first cell of a load that told enough; None once the run is interrupted."""
    while True:
        bench.plan([*trials.ahead_s(), *then], at_most=True)
        result = await seen.one(bench, trials.cell(load))
        if result is None or result.partial or trials.told(load, result):
            return result
        bench.say(_told(result, "not told yet, tried again"))


def _told(result: CellResult, verdict: str) -> str:
    return f"{result.name}: {result.slo_attainment.value:.1%} good, {verdict}"


def _answer_s(cell: CellResult) -> float:
    return cell.e2e.mean.value / 1000 if cell.e2e else 0.0


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
            share = _little(rate).times(100 / load_book().number("goal-concurrent-users"))
            yield measurement(bench, "ai-concurrency-percent", share, "%", rate.requests)


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
        words += f"; {users.shape['count']:,} users who ask once a minute{_every(users)}"
    return f"{words}."


def _every(users: CellResult) -> str:
    """The pace that came about."""
    took_s = cycle_s(users)
    return "" if took_s is None else f" (every {took_s:.1f} s in the last trial)"
