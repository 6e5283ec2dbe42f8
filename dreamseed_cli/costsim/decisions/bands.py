"""p5, p50 and p95 of drawn amounts. Each is one of the draws itself, so money stays exact decimal."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import ROUND_CEILING, Decimal

QUANTILES = (0.05, 0.50, 0.95)
NEVER = Decimal("Infinity")


@dataclass(frozen=True, slots=True)
class Band:
    """Amounts of money, in US dollars of a month."""

    p5: Decimal
    p50: Decimal
    p95: Decimal


@dataclass(frozen=True, slots=True)
class MonthsBand:
    """Months until something happens; None where it never does."""

    p5: Decimal | None
    p50: Decimal | None
    p95: Decimal | None
    never_share: float
    """Of the draws in which it never happens."""

    @property
    def whole(self) -> MonthsBand:
        """The first whole months at whose end it has happened."""
        p5, p50, p95 = (
            None if one is None else one.to_integral_value(ROUND_CEILING)
            for one in (self.p5, self.p50, self.p95)
        )
        return MonthsBand(p5, p50, p95, self.never_share)


def band(amounts: Sequence[Decimal]) -> Band:
    """The quantiles of at least one amount, by nearest rank."""
    return Band(*_quantiles(amounts))


def months_band(months: Sequence[Decimal | None]) -> MonthsBand:
    """The quantiles of at least one number of months; `never` is later than any month."""
    ordered = [NEVER if one is None else one for one in months]
    p5, p50, p95 = (None if one == NEVER else one for one in _quantiles(ordered))
    return MonthsBand(p5, p50, p95, never_share=ordered.count(NEVER) / len(ordered))


def _quantiles(values: Sequence[Decimal]) -> list[Decimal]:
    ordered = sorted(values)
    return [ordered[max(0, math.ceil(q * len(ordered)) - 1)] for q in QUANTILES]
