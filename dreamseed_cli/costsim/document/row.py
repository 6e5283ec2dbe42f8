"""One figure of the document beside the same figure recomputed, and the difference."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from dreamseed_cli.costsim.money import CENT, cents, decimal
from dreamseed_cli.estimates.schema import Estimate


@dataclass(frozen=True, slots=True)
class Row:
    """Amounts are exact, in `unit`."""

    id: str
    """Of the estimate."""
    what: str
    unit: str
    low: Decimal
    """What the document prints: one figure, or the ends of a range."""
    high: Decimal
    recomputed: Decimal
    work: str
    """The arithmetic, in figures."""

    @property
    def difference(self) -> Decimal:
        """Recomputed less printed, from the nearer end of a range; 0 within it."""
        return self.recomputed - min(max(self.recomputed, self.low), self.high)

    @property
    def reproduced(self) -> bool:
        """Whether it comes out to the cent; what is below 1 (a price of a second) to the last digit."""
        if self.high < 1:
            return self.difference == 0
        return abs(self.difference) < CENT / 2

    @property
    def sentence(self) -> str:
        one = self.low == self.high
        printed = _say(self.low) if one else f"{_say(self.low)}-{_say(self.high)}"
        end = "to the cent" if one else "within it"
        if not self.reproduced:
            end = f"a difference of {_say(self.difference)}"
        return f"{self.work} = {_say(self.recomputed)} {self.unit}; the document says {printed}: {end}."

    def to_data(self) -> dict[str, Any]:
        """As JSON: amounts as strings, which keep every digit."""
        return {
            "id": self.id,
            "what": self.what,
            "unit": self.unit,
            "document": [f"{self.low:f}", f"{self.high:f}"],
            "recomputed": f"{self.recomputed:f}",
            "difference": f"{self.difference:f}",
            "reproduced": self.reproduced,
            "sentence": self.sentence,
        }


def row(
    estimate: Estimate, recomputed: Decimal, work: str, *, what: str = "", printed: Decimal | None = None
) -> Row:
    """The row of an estimate; `printed`: another figure of it than its value (a column, an end)."""
    low = decimal(estimate.low) if printed is None else printed
    high = decimal(estimate.high) if printed is None else printed
    return Row(estimate.id, what or estimate.quantity, estimate.unit, low, high, recomputed, work)


def _say(amount: Decimal) -> str:
    """Cents where there are any; a price per second keeps its digits."""
    if amount and abs(amount) < CENT:
        return f"{amount.normalize():f}"
    text = f"{cents(amount):,}"
    return text.removesuffix(".00")
