"""The price book: prices, tariffs, and the questions it answers, in US dollars."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from operator import attrgetter
from typing import Self

from pydantic import model_validator

from dreamseed_cli.core.errors import UsageError
from dreamseed_cli.core.spelling import did_you_mean
from dreamseed_cli.costsim.columns import always, each
from dreamseed_cli.costsim.money import decimal, to_usd
from dreamseed_cli.costsim.prices.age import MAX_AGE_DAYS
from dreamseed_cli.costsim.prices.part import Part
from dreamseed_cli.costsim.prices.price import Price
from dreamseed_cli.costsim.prices.tariff import ElectricityBill, Tariff
from dreamseed_cli.costsim.prices.tiers import Meter

__all__ = ["RATE", "Price", "PriceBook", "Tables", "Tariff"]

RATE = "krw-per-usd"
"""The price of one dollar in won: overridden, dated and sourced as every other price."""
_ZERO = Decimal(0)
_TOTAL = attrgetter("total")


class Tables(Part):
    """What the files of a price book hold."""

    prices: dict[str, Price]
    tariffs: dict[str, Tariff]

    @model_validator(mode="after")
    def _hang_together(self) -> Self:
        both = self.prices.keys() & self.tariffs.keys()
        if both:
            raise ValueError(f"both a price and a tariff are called '{min(both)}'")
        if RATE not in self.prices or self.prices[RATE].amount == 0:
            raise ValueError(f"the rate is missing: a price called {RATE}, above 0")
        return self


@dataclass(frozen=True, slots=True)
class PriceBook:
    """All prices of one day. Every answer is a month's, in US dollars, not rounded.

    Quantities and amounts may be columns (columns.py); the answer is one, then. Not a pydantic model, whose
    private attributes would cost a Monte Carlo more than the arithmetic.
    """

    name: str
    prices: Mapping[str, Price]
    """As loaded; `price` also knows what `with_amounts` changed."""
    tariffs: Mapping[str, Tariff]
    """As loaded."""
    meters: dict[str, Meter] = field(repr=False)
    live: Mapping[str, Tariff] = field(repr=False)
    """The tariffs with what `with_amounts` changed."""

    @classmethod
    def of(cls, name: str, tables: Tables) -> PriceBook:
        """The book of validated tables."""
        meters = {key: price.meter() for key, price in tables.prices.items()}
        return cls(name, tables.prices, tables.tariffs, meters, tables.tariffs)

    @property
    def rate(self) -> Decimal:
        """Won per dollar."""
        return self.meters[RATE].amount

    def price(self, price_id: str) -> Price:
        """One price, with its changed amount if it has one. UsageError if there is none of that name."""
        amount, price = self._meter(price_id).amount, self.prices[price_id]
        return price if amount == price.amount else price.at(amount)

    def usd(self, price_id: str, quantity: Decimal | float, *, of: Decimal | float = _ZERO) -> Decimal:
        """The cost of a month's quantity: free units, blocks and base fee included.

        of: what the price's `free_times` multiplies (B2's downloads: the GB stored).
        UsageError for an unknown price or a negative quantity.
        """
        meter = self._meter(price_id)
        cost = meter.cost(_quantity(quantity, price_id), _quantity(of, price_id))
        return cost / self.rate if meter.in_won else cost

    def unit_usd(self, price_id: str) -> Decimal:
        """One unit in the first paid block. UsageError for an unknown price."""
        meter = self._meter(price_id)
        unit = meter.amount / meter.per
        return unit / self.rate if meter.in_won else unit

    def fallback_usd(self, model: str, prompts: Decimal | float, answers: Decimal | float) -> Decimal:
        """Tokens of the OpenAI-compatible fallback. UsageError for a model without prices."""
        return self.usd(f"fallback-{model}-input", prompts) + self.usd(f"fallback-{model}-output", answers)

    def electricity_bill(
        self, tariff_id: str, kwh: Decimal | float, month: int, *, contract_kw: Decimal | None = None
    ) -> ElectricityBill:
        """A month's bill line by line, in the tariff's own currency. UsageError as `electricity_usd`."""
        tariff = self.live.get(tariff_id)
        if tariff is None:
            raise self._unknown(tariff_id, "tariff", self.tariffs)
        if not 1 <= month <= 12:
            raise UsageError(f"{month} is not a month", place="month", remedy="Write 1 to 12.")
        bill: ElectricityBill = each(
            lambda one, used: one.bill(used, month, contract_kw), tariff, _quantity(kwh, tariff_id)
        )
        return bill

    def electricity_usd(
        self, tariff_id: str, kwh: Decimal | float, month: int, *, contract_kw: Decimal | None = None
    ) -> Decimal:
        """A month's electricity, taxes included. tariff_id: a tariff, or a price by the kWh.

        month: 1 to 12; contract_kw: None for the tariff's own.
        UsageError for an unknown tariff, a negative quantity or a month that is none.
        """
        flat = self.prices.get(tariff_id)
        if flat is not None and flat.unit == "kWh":
            return self.usd(tariff_id, kwh)
        bill = self.electricity_bill(tariff_id, kwh, month, contract_kw=contract_kw)
        return to_usd(each(_TOTAL, bill), self.tariffs[tariff_id].currency, self.rate)

    def stale(self, today: dt.date, max_age_days: int = MAX_AGE_DAYS) -> tuple[Price | Tariff, ...]:
        """Every price and tariff that is older; a price of the user's own without a date is not."""
        oldest = today - dt.timedelta(days=max_age_days)
        entries: list[Price | Tariff] = [*self.prices.values(), *self.tariffs.values()]
        return tuple(entry for entry in entries if entry.date is not None and entry.date < oldest)

    def amount(self, entry_id: str) -> Decimal:
        """What `with_amounts` changes: a price's amount, or the first kWh of a tariff, in its currency."""
        tariff = self.live.get(entry_id)
        return self._meter(entry_id).amount if tariff is None else tariff.amount

    def with_amounts(self, amounts: Mapping[str, Decimal]) -> PriceBook:
        """The same book with other amounts, each in its price's currency. Fast: nothing is validated again.

        Higher blocks and the other seasons of a tariff move in proportion. UsageError for an unknown name.
        """
        tariffs = {
            name: each(self.tariffs[name].at, new) for name, new in amounts.items() if name in self.tariffs
        }
        meters = {name: self._meter(name).at(new) for name, new in amounts.items() if name not in tariffs}
        live = {**self.live, **tariffs} if tariffs else self.live
        return PriceBook(self.name, self.prices, self.tariffs, {**self.meters, **meters}, live)

    def _meter(self, price_id: str) -> Meter:
        meter = self.meters.get(price_id)
        if meter is None:
            raise self._unknown(price_id, "price", {**self.prices, **self.tariffs})
        return meter

    def _unknown(self, name: str, kind: str, known: Mapping[str, object]) -> UsageError:
        remedy = did_you_mean(name, known) or f"Known are: {', '.join(sorted(known))}."
        return UsageError(
            f"no {kind} is called '{name}' in the book '{self.name}'", place=name, remedy=remedy
        )


def _quantity(quantity: Decimal | float, place: str) -> Decimal:
    """UsageError unless it is a number from 0 on."""
    amount = decimal(quantity)
    if not (always(each(Decimal.is_finite, amount)) and always(amount >= 0)):
        raise UsageError(f"{quantity} is not a quantity", place=place, remedy="Ask for 0 units or more.")
    return amount
