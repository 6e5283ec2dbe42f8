"""Does it pay to buy: payback, saving, runway with and without the investment, resale (§F2, §J2).

§J2 divides all of the funds by the month's bill; the investment is paid from the same funds, so the months it
buys are counted with it paid, and both are shown.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal

from dreamseed_cli.costsim.money import cents, decimal
from dreamseed_cli.estimates.schema import Book as Figures

TWO_YEARS = 24
"""Months over which the document counts its saving (§F2)."""
_YEAR = 12


@dataclass(frozen=True, slots=True)
class Investment:
    """A purchase that makes each month cheaper than the alternative. All in US dollars."""

    initial: Decimal
    monthly: Decimal
    """The bill of a month once it is bought."""
    alternative: Decimal
    """The bill of a month without the purchase."""
    funds: Decimal

    @property
    def saving(self) -> Decimal:
        """Of one month; negative if the purchase makes it dearer."""
        return self.alternative - self.monthly

    @property
    def payback_months(self) -> Decimal | None:
        """Until the initial cost is saved; None if it never is."""
        if self.initial == 0:
            return Decimal(0)
        return self.initial / self.saving if self.saving > 0 else None

    def saved(self, months: int = TWO_YEARS) -> Decimal:
        """What the cheaper months save together, as §F2 counts it: the purchase itself left out."""
        return self.saving * months

    def net(self, months: int = TWO_YEARS) -> Decimal:
        """The same less the purchase."""
        return self.saved(months) - self.initial

    @property
    def runway_months(self) -> Decimal | None:
        """How long the funds last with the purchase paid from them; 0 if they do not cover it."""
        return _lasts(self.funds - self.initial, self.monthly)

    @property
    def runway_unpaid_months(self) -> Decimal | None:
        """The same as if the purchase cost nothing, as §J2 counts it."""
        return _lasts(self.funds, self.monthly)

    @property
    def alternative_runway_months(self) -> Decimal | None:
        """How long the funds last without the purchase."""
        return _lasts(self.funds, self.alternative)


@dataclass(frozen=True, slots=True)
class Wear:
    """How a bought part loses its price on the second-hand market."""

    usd: Decimal
    """Its price when new."""
    first_year_loss: Decimal
    """Share of the price lost in the first year, 0 to 1."""
    yearly_loss: Decimal
    """Share of what is left lost in each further year."""

    def resale(self, month: int) -> Decimal:
        """What it is sold for after so many months, to the cent."""
        first = Decimal(min(month, _YEAR)) / _YEAR
        later = Decimal(max(month - _YEAR, 0)) / _YEAR
        return cents(self.usd * (1 - self.first_year_loss) ** first * (1 - self.yearly_loss) ** later)


@dataclass(frozen=True, slots=True)
class Month:
    """The end of one month; month 0 is the day of the purchase."""

    month: int
    funds: Decimal
    """Left with the investment; negative once they are spent."""
    funds_alternative: Decimal
    """Left without it."""
    book_value: Decimal
    """Of what was bought, written off in equal parts."""
    resale: Decimal
    """What it would bring on the second-hand market."""

    @property
    def ahead(self) -> Decimal:
        """How much more money there is than in the alternative, nothing sold."""
        return self.funds - self.funds_alternative

    @property
    def ahead_sold(self) -> Decimal:
        """The same if what was bought were sold now."""
        return self.ahead + self.resale


Monthly = Callable[[int], Decimal]
"""The bill of month 1, 2, ...: constant, or growing with the users."""


def cash_flow(
    investment: Investment,
    parts: Sequence[Wear],
    *,
    months: int,
    life_months: int,
    monthly: Monthly | None = None,
    alternative: Monthly | None = None,
) -> list[Month]:
    """The curves of funds and values from month 0 on.

    `monthly` and `alternative` give bills that change by the month; without them they stay as they are.
    """
    funds, other = investment.funds - investment.initial, investment.funds
    flow = []
    for month in range(months + 1):
        if month:
            funds -= monthly(month) if monthly else investment.monthly
            other -= alternative(month) if alternative else investment.alternative
        flow.append(
            Month(
                month,
                funds,
                other,
                book_value=straight_line(investment.initial, month, life_months=life_months),
                resale=sum((part.resale(month) for part in parts), Decimal(0)),
            )
        )
    return flow


def straight_line(initial: Decimal, month: int, *, life_months: int) -> Decimal:
    """What is left of a purchase that is written off in equal parts over its life, to the cent."""
    return cents(initial * max(life_months - month, 0) / life_months)


def breaks_even(flow: Sequence[Month], *, sold: bool = False) -> int | None:
    """The first month in which one is no worse off than in the alternative; None if not within the flow.

    The day of the purchase counts for nothing: sold at once, a thing still brings its price.
    """
    after = (one for one in flow if one.month)
    return next((one.month for one in after if (one.ahead_sold if sold else one.ahead) >= 0), None)


def document_investment(figures: Figures) -> Investment:
    """§F2 and §J2 as the document has them: its initial cost, its two bills, its funds."""
    return Investment(
        initial=decimal(figures.number("f2-total-usd")),
        monthly=decimal(figures.get("f2-saving-usd").field("hybrid_usd")),
        alternative=decimal(figures.get("f2-saving-usd").field("full_cloud_usd")),
        funds=decimal(figures.number("j2-funds-usd")),
    )


def _lasts(funds: Decimal, monthly: Decimal) -> Decimal | None:
    if funds <= 0:
        return Decimal(0)
    return funds / monthly if monthly > 0 else None
