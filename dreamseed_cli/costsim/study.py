"""The whole answer to a question: the bill with its bands, whether it holds, what to buy, and when."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from dreamseed_cli.core.errors import UsageError
from dreamseed_cli.costsim.billing.bill import Bill
from dreamseed_cli.costsim.billing.monthly import bill_of
from dreamseed_cli.costsim.cheapest import cheapest
from dreamseed_cli.costsim.decisions.architectures import Compared
from dreamseed_cli.costsim.decisions.beyond import Saturation, on_paper, shipped_limits
from dreamseed_cli.costsim.decisions.growth import Due, schedule
from dreamseed_cli.costsim.decisions.optimise import Optimum
from dreamseed_cli.costsim.decisions.sampling import DRAWS, sample
from dreamseed_cli.costsim.decisions.sensitivity import Bar, rank_correlation, tornado
from dreamseed_cli.costsim.decisions.sweep import Point, Row, parse_sweep, points, scenario_at, sweep
from dreamseed_cli.costsim.decisions.uncertainty import Uncertainty, draw_pairs, uncertainty
from dreamseed_cli.costsim.document.bill import document_bill, document_rows
from dreamseed_cli.costsim.document.contradictions import Verdict, contradictions
from dreamseed_cli.costsim.document.row import Row as DocumentRow
from dreamseed_cli.costsim.holding import Held, day, held, settled
from dreamseed_cli.costsim.prices.age import MAX_AGE_DAYS
from dreamseed_cli.costsim.prices.price import Price
from dreamseed_cli.costsim.prices.tariff import Tariff
from dreamseed_cli.costsim.question import Question
from dreamseed_cli.costsim.rivals import (
    Returns,
    architectures,
    both_bills,
    document_prices,
    hybrid_bill,
    returns,
    worn,
)
from dreamseed_cli.costsim.scenario import Scenario
from dreamseed_cli.costsim.usage.month import Month, month_of
from dreamseed_cli.estimates.load import shipped_dir

GROWTHS = (0.05, 0.10, 0.20)
"""Of users in a month, where the scenario states none."""
BEYOND = (10_000_000, 100_000_000)
"""Users on paper."""
STEPS = 6
"""That every study tells of; the cheapest box and the busiest day are one more each."""
Tell = Callable[[str], None]
"""Hears what is being worked on."""


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is computed, and from which seed."""

    draws: int = DRAWS
    hours: float = 1.0
    """To simulate of the busiest hour; 0 simulates nothing."""
    seed: int = 1
    optimise: bool = False
    whole_day: bool = False
    """Simulate the 24 hours of the busiest day."""
    max_price_age_days: int = MAX_AGE_DAYS


@dataclass(frozen=True, slots=True)
class Growth:
    """When more cards are due at a steady growth of users."""

    monthly: float
    due: Sequence[Due]


@dataclass(frozen=True, slots=True)
class Study:
    """One scenario's answer."""

    question: Question
    month: Month
    bill: Bill
    document: Bill
    """§F1 from the document's own quantities and prices."""
    rows: Sequence[DocumentRow]
    """The document's figures recomputed."""
    bands: Uncertainty
    bars: Sequence[Bar]
    """What moves the bill, the most first."""
    correlations: Mapping[str, float]
    """Of each input with the bill, over the draws."""
    held: Held | None
    """None if nothing was simulated."""
    returns: Returns
    compared: Sequence[Compared]
    growths: Sequence[Growth]
    saturations: Mapping[int, Sequence[Saturation]]
    """By the number of users: the scenario's own, then those on paper."""
    verdicts: Sequence[Verdict]
    stale: Sequence[Price | Tariff]
    """Prices that are older than `stale_after_days`."""
    stale_after_days: int
    optimum: Optimum[Held] | None
    hours: Sequence[tuple[float, Held]]
    """Of the busiest day, if it was asked for."""

    @property
    def scenario(self) -> Scenario:
        return self.month.scenario


def study(one: Question, effort: Effort, *, today: dt.date, tell: Tell = lambda _: None) -> Study:
    """Answer the question. UsageError for prices and cards that the books and tables do not have."""
    tell("the wait of the usual hour")
    scenario = _with_wait(one, one.scenario, effort)
    one = replace(one, scenario=scenario)
    tell("the bill")
    month = month_of(scenario)
    bill = worn(one, bill_of(month, one.book, one.choices))
    tell(f"{effort.draws:,} draws")
    draws = sample(one.ranges, count=effort.draws, seed=effort.seed)
    drawn, in_cloud = draw_pairs(scenario, one.book, draws, lambda drawn, book: both_bills(one, drawn, book))
    tell("payback and runway")
    returned = returns(one, scenario, bill, drawn, in_cloud)
    tell("the busiest hour")
    found = _simulated(one, scenario, effort)
    tell("the three architectures")
    compared = architectures(one, month, bill)
    if effort.optimise:
        tell("the cheapest box that holds")
    optimum = cheapest(one, scenario, seed=effort.seed) if effort.optimise else None
    if effort.whole_day:
        tell("the busiest day")
    said = document_prices(one.book)
    hours = day(scenario, one.cards, one.profile, seed=effort.seed) if effort.whole_day else []
    return Study(
        one,
        month,
        bill,
        document_bill(one.figures, said),
        document_rows(one.figures, said),
        uncertainty(drawn),
        tornado(scenario, one.book, one.ranges, lambda drawn, book: hybrid_bill(one, drawn, book)),
        rank_correlation(draws, drawn),
        found,
        returned,
        compared,
        [Growth(rate, schedule(scenario, rate)) for rate in _growths(scenario)],
        _beyond(one, scenario),
        contradictions(one.figures, said),
        one.book.stale(today, effort.max_price_age_days),
        effort.max_price_age_days,
        optimum,
        hours,
    )


def swept(one: Question, span: str, effort: Effort, *, tell: Tell = lambda _: None) -> list[Row[Held]]:
    """§F3's table beside ours: every row with the cards that §F3 gives it. UsageError for no such span."""
    low, high = parse_sweep(span)
    tell(f"users from {low:,} to {high:,}")
    if not effort.hours:
        raise UsageError("a sweep is simulated row by row", place="--hours", remedy="Write more than 0.")
    scenarios = [
        (point, _with_wait(one, _row(one, point), effort)) for point in points(low, high, one.figures)
    ]
    return sweep(
        scenarios,
        one.book,
        one.ranges,
        cost=lambda drawn, book: hybrid_bill(one, drawn, book),
        simulate=lambda row: held(row, one.cards, one.profile, hours=effort.hours, seed=effort.seed),
        draws=effort.draws,
        seed=effort.seed,
    )


def _row(one: Question, point: Point) -> Scenario:
    """A row's scenario, with the cards of §F3's row unless somebody has set how many there are."""
    row = scenario_at(point, one.scenario)
    return replace(row, gpus=one.scenario.gpus) if "gpus" in one.known else row


def _with_wait(one: Question, scenario: Scenario, effort: Effort) -> Scenario:
    """With the simulated wait for a card, unless it is set or nothing is to be simulated."""
    if not effort.hours or "ai_wait_s" in one.known:
        return scenario
    return settled(scenario, one.cards, one.profile, seed=effort.seed)


def _simulated(one: Question, scenario: Scenario, effort: Effort) -> Held | None:
    if not effort.hours:
        return None
    return held(scenario, one.cards, one.profile, hours=effort.hours, seed=effort.seed)


def _growths(scenario: Scenario) -> tuple[float, ...]:
    return (scenario.monthly_growth,) if scenario.monthly_growth else GROWTHS


def _beyond(one: Question, scenario: Scenario) -> dict[int, list[Saturation]]:
    users = sorted({scenario.users, *BEYOND})
    results = shipped_dir() / "results"
    return on_paper(scenario, users, shipped_limits(), figures=one.figures, results=results)
