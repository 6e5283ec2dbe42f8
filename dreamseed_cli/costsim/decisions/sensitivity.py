"""What moves the bill most: each input at its low and high end, and rank correlation over the draws."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

import numpy as np
from numpy.typing import NDArray

from dreamseed_cli.costsim.decisions.ranges import Range, Ranges
from dreamseed_cli.costsim.decisions.sampling import Costing, Draws, scaled, with_value
from dreamseed_cli.costsim.decisions.uncertainty import DrawnBills
from dreamseed_cli.costsim.prices.schema import PriceBook
from dreamseed_cli.costsim.scenario import Scenario


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar of the tornado: the month's bill with one input at its ends, all others as assumed."""

    name: str
    low: float
    """The input's low end; of a price and of a field with `times_base` a factor."""
    high: float
    usd_low: Decimal
    usd_high: Decimal

    @property
    def swing(self) -> Decimal:
        """How far the input moves the bill."""
        return abs(self.usd_high - self.usd_low)


def tornado(scenario: Scenario, book: PriceBook, ranges: Ranges, cost: Costing) -> list[Bar]:
    """A bar for every input, the widest first."""

    def usd(name: str, one: Range, value: float) -> Decimal:
        if name in ranges.price:
            return cost(scenario, scaled(book, name, value)).usd
        return cost(with_value(scenario, name, value, times_base=one.times_base), book).usd

    bars = [
        Bar(name, one.low, one.high, usd(name, one, one.low), usd(name, one, one.high))
        for name, one in ranges
    ]
    return sorted(bars, key=lambda bar: bar.swing, reverse=True)


def rank_correlation(draws: Draws, bills: DrawnBills) -> dict[str, float]:
    """Spearman's correlation of every input with the bill, strongest first: 0 if either is constant."""
    bill = _centred_ranks(bills.totals_float)
    found = {
        name: _cosine(_centred_ranks(draws.values[:, column]), bill)
        for column, name in enumerate(draws.names)
    }
    return dict(sorted(found.items(), key=lambda item: abs(item[1]), reverse=True))


def _centred_ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Ranks about 0; equal values share the mean of theirs."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    centred: NDArray[np.float64] = ranks - ranks.mean()
    return centred


def _cosine(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    length = float(np.linalg.norm(one) * np.linalg.norm(other))
    return float(one @ other) / length if length > 0 else 0.0
