"""Monte Carlo: the bill, the break-even month and the runway over the stated ranges."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

import numpy as np
from numpy.typing import NDArray

from dreamseed_cli.costsim.billing.bill import Bill
from dreamseed_cli.costsim.columns import Column
from dreamseed_cli.costsim.decisions.bands import Band, MonthsBand, band, months_band
from dreamseed_cli.costsim.decisions.investment import Investment
from dreamseed_cli.costsim.decisions.sampling import Costing, Draws, PairCosting, worlds
from dreamseed_cli.costsim.prices.schema import PriceBook
from dreamseed_cli.costsim.scenario import Scenario


@dataclass(frozen=True, slots=True)
class DrawnBills:
    """The bills of all draws, draw by draw."""

    totals: tuple[Decimal, ...]
    lines: Mapping[str, tuple[Decimal, ...]]
    """By the line's key: every draw has the same lines."""

    @property
    def totals_float(self) -> NDArray[np.float64]:
        """For ranks and plots, not for sums of money."""
        return np.array(self.totals, dtype=np.float64)


@dataclass(frozen=True, slots=True)
class Uncertainty:
    """How far the figures may lie from what is assumed."""

    draws: int
    total: Band
    lines: Mapping[str, Band]


@dataclass(frozen=True, slots=True)
class DrawnReturn:
    """How far the return of the investment may."""

    payback: MonthsBand
    runway: MonthsBand
    """With the investment paid from the funds."""
    runway_alternative: MonthsBand
    """Without it, in the alternative."""


def draw_bills(
    scenarios: Sequence[Scenario], book: PriceBook, draws: Draws, cost: Costing
) -> list[DrawnBills]:
    """The bills of each scenario, all of them from the same draws.

    They differ by what the scenarios differ in, then, and not by chance.
    """
    collected = [_Collector() for _ in scenarios]
    for prices, drawn in worlds(scenarios, book, draws):
        for collector, one in zip(collected, drawn, strict=True):
            collector.add(cost(one, prices), np.size(one.users))
    return [one.bills() for one in collected]


def draw_pairs(
    scenario: Scenario, book: PriceBook, draws: Draws, cost: PairCosting
) -> tuple[DrawnBills, DrawnBills]:
    """The bills of one scenario and those of its alternative, draw by draw."""
    ours, others = _Collector(), _Collector()
    for prices, (drawn,) in worlds([scenario], book, draws):
        for collector, bill in zip((ours, others), cost(drawn, prices), strict=True):
            collector.add(bill, np.size(drawn.users))
    return ours.bills(), others.bills()


class _Collector:
    """The bills of one scenario, block by block."""

    def __init__(self) -> None:
        self._totals: list[Decimal] = []
        self._lines: dict[str, list[Decimal]] = {}

    def add(self, bill: Bill, count: int) -> None:
        self._totals += _draws(bill.usd, count)
        for key in dict.fromkeys(line.key for line in bill.lines):
            self._lines.setdefault(key, []).extend(_draws(bill.of(key), count))

    def bills(self) -> DrawnBills:
        return DrawnBills(tuple(self._totals), {key: tuple(amounts) for key, amounts in self._lines.items()})


def _draws(amounts: Decimal | Column, count: int) -> list[Decimal]:
    """A column's amounts; an amount that is the same in all draws for each of them."""
    return amounts.tolist() if isinstance(amounts, np.ndarray) else [amounts] * count


def uncertainty(bills: DrawnBills) -> Uncertainty:
    """Bands of the total and of every line. The lines' p95 do not add up to the total's."""
    return Uncertainty(
        len(bills.totals), band(bills.totals), {key: band(amounts) for key, amounts in bills.lines.items()}
    )


def drawn_return(
    bills: DrawnBills, alternative: DrawnBills, initial: Sequence[Decimal], *, funds: Decimal
) -> DrawnReturn:
    """Payback and runway of every draw: its bill, its alternative's bill and its initial cost.

    Both sets of bills come from the same draws, so that what makes both dearer does not count as a saving.
    """
    each = [
        Investment(initial=paid, monthly=month, alternative=other, funds=funds)
        for paid, month, other in zip(initial, bills.totals, alternative.totals, strict=True)
    ]
    return DrawnReturn(
        payback=months_band([one.payback_months for one in each]),
        runway=months_band([one.runway_months for one in each]),
        runway_alternative=months_band([one.alternative_runway_months for one in each]),
    )
