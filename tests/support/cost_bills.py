"""A scenario's bill in one step."""

from __future__ import annotations

from dreamseed_cli.costsim.billing.bill import Bill
from dreamseed_cli.costsim.billing.choices import Choices
from dreamseed_cli.costsim.billing.monthly import bill_of
from dreamseed_cli.costsim.prices.schema import PriceBook
from dreamseed_cli.costsim.scenario import Scenario
from dreamseed_cli.costsim.usage.month import month_of


def monthly_bill(
    scenario: Scenario, book: PriceBook, choices: Choices | None = None, *, explain: bool = True
) -> Bill:
    """The month's quantities and what they cost, with the usual choices if none are given."""
    return bill_of(month_of(scenario), book, choices or Choices(), explain=explain)
