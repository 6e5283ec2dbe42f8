"""`--sweep users=1e3..1e6`: §F3's table beside ours, row by row."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Generic

from dreamseed_cli.core.errors import UsageError
from dreamseed_cli.costsim.billing.bill import Bill
from dreamseed_cli.costsim.decisions.capacity import cards_needed
from dreamseed_cli.costsim.decisions.optimise import V
from dreamseed_cli.costsim.decisions.ranges import Ranges
from dreamseed_cli.costsim.decisions.sampling import DRAWS, Costing, sample
from dreamseed_cli.costsim.decisions.uncertainty import Uncertainty, draw_bills, uncertainty
from dreamseed_cli.costsim.prices.schema import PriceBook
from dreamseed_cli.costsim.scenario import PEOPLE, Scenario
from dreamseed_cli.estimates.schema import Book as Figures
from dreamseed_cli.estimates.schema import Estimate

_ROWS = ("f3-1k", "f3-10k", "f3-100k", "f3-500k", "f3-1m")


@dataclass(frozen=True, slots=True)
class Point:
    """One row that is asked for."""

    users: int
    concurrent: int
    document: Estimate | None
    """§F3's row of just so many users, if it has one."""


@dataclass(frozen=True, slots=True)
class Row(Generic[V]):
    """One row as we find it, for the cards that the scenario has."""

    point: Point
    scenario: Scenario
    bill: Bill
    bands: Uncertainty
    cards_needed: int
    """For the busiest hour, in closed form."""
    verdict: V
    """Whether the scenario's cards and instances hold, simulated."""


def parse_sweep(text: str) -> tuple[int, int]:
    """The ends of `users=1e3..1e6`, 1 to PEOPLE. UsageError if it is no such thing."""
    name, _, span = text.partition("=")
    low, dots, high = span.partition("..")
    try:
        ends = float(low), float(high or low)
    except ValueError:
        ends = (math.nan, math.nan)
    if name.strip() != "users" or (high and not dots) or not 1 <= ends[0] <= ends[1] <= PEOPLE:
        raise UsageError(
            f"'{text}' is no sweep",
            place="--sweep",
            remedy=f"Write it as users=1e3..1e6, from low to high, up to {PEOPLE:.0e}.",
        )
    return round(ends[0]), round(ends[1])


def points(low: int, high: int, figures: Figures) -> list[Point]:
    """The ends, the powers of ten and §F3's rows between them, in order."""
    rows = {round(row.field("users")): row for row in (figures.get(name) for name in _ROWS)}
    tens = {10**power for power in range(math.ceil(math.log10(low)), math.floor(math.log10(high)) + 1)}
    wanted = {low, high} | tens | {users for users in rows if low <= users <= high}
    return [
        Point(users, concurrent_users(users, list(rows.values())), rows.get(users))
        for users in sorted(wanted)
    ]


def concurrent_users(users: int, rows: Sequence[Estimate]) -> int:
    """Concurrent users of so many, read off §F3's rows.

    Between two rows on the straight line through them in a log-log plot; outside of them the nearest row's
    share of users.
    """
    known = sorted((row.field("users"), row.field("concurrent_users")) for row in rows)
    if users <= known[0][0]:
        return min(users, math.ceil(users * known[0][1] / known[0][0]))
    if users >= known[-1][0]:
        return math.ceil(users * known[-1][1] / known[-1][0])
    above = next(index for index, (at, _) in enumerate(known) if at >= users)
    (x0, y0), (x1, y1) = known[above - 1], known[above]
    slope = math.log(y1 / y0) / math.log(x1 / x0)
    return round(y0 * math.pow(users / x0, slope))


def scenario_at(point: Point, base: Scenario) -> Scenario:
    """The base with the point's users; with the cards of §F3's row where there is one."""
    cards = base.gpus if point.document is None else round(point.document.field("cards"))
    return replace(base, users=point.users, concurrent=point.concurrent, gpus=cards)


def sweep(
    scenarios: Sequence[tuple[Point, Scenario]],
    book: PriceBook,
    ranges: Ranges,
    *,
    cost: Costing,
    simulate: Callable[[Scenario], V],
    draws: int = DRAWS,
    seed: int = 0,
) -> list[Row[V]]:
    """Every row with its bill, its bands, its cards and the simulation's verdict.

    All rows use the same draws, so that they differ by their users and not by chance.
    """
    drawn = draw_bills([one for _, one in scenarios], book, sample(ranges, count=draws, seed=seed), cost)
    return [
        Row(point, one, cost(one, book), uncertainty(bills), cards_needed(one), simulate(one))
        for (point, one), bills in zip(scenarios, drawn, strict=True)
    ]
