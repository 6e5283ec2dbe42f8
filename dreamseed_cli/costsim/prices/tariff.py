"""An electricity tariff: seasons, blocks, what is added to every kWh, taxes, and how the bill is rounded."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from decimal import ROUND_DOWN, ROUND_HALF_UP, Decimal
from typing import Annotated, Self

from pydantic import Field, model_validator

from dreamseed_cli.costsim.money import Currency
from dreamseed_cli.costsim.prices.part import Amount, Part, Signed

_ONE = Decimal(1)
_TEN = Decimal(10)
_ZERO = Decimal(0)


class EnergyBlock(Part):
    """So many kWh of a month, at one price."""

    per_kwh: Amount
    up_to: Amount | None = None
    """kWh of the month where it ends; the last block has no end."""
    base: Amount = _ZERO
    """The fee of a month whose use ends in this block."""


class Season(Part):
    """Months with the same prices."""

    months: Annotated[tuple[Annotated[int, Field(ge=1, le=12)], ...], Field(min_length=1)]
    blocks: Annotated[tuple[EnergyBlock, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _blocks_rise(self) -> Self:
        ends = [block.up_to for block in self.blocks]
        inner = [end for end in ends[:-1] if end is not None]
        if ends[-1] is not None or len(inner) != len(ends) - 1:
            raise ValueError("every block but the last one needs up_to, and the last one has none")
        if any(later <= earlier for earlier, later in zip([_ZERO, *inner], inner, strict=False)):
            raise ValueError("up_to must rise from block to block")
        bases = [block.base for block in self.blocks]
        if bases != sorted(bases):
            raise ValueError("base must not fall from block to block")
        return self

    def base(self, kwh: Decimal) -> Decimal:
        """The fee that goes with a month's use."""
        return next(block.base for block in self.blocks if block.up_to is None or kwh <= block.up_to)

    def energy(self, kwh: Decimal) -> Decimal:
        """The price of a month's use, without the fee."""
        total, start = _ZERO, _ZERO
        for block in self.blocks:
            end = kwh if block.up_to is None else min(kwh, block.up_to)
            total += (end - start) * block.per_kwh
            if end == kwh:
                break
            start = end
        return total


@dataclass(frozen=True, slots=True)
class ElectricityBill:
    """One month's bill, line by line, in the tariff's currency."""

    base: Decimal
    energy: Decimal
    climate: Decimal
    fuel: Decimal
    vat: Decimal
    fund: Decimal
    total: Decimal


class Tariff(Part):
    """What a supplier asks for a month's electricity."""

    id: str
    title: Annotated[str, Field(min_length=1)]
    currency: Currency
    source: Annotated[str, Field(min_length=1)]
    date: dt.date | None
    """As of; None for a price of the user's own that has none."""
    seasons: Annotated[tuple[Season, ...], Field(min_length=1)]
    base_per_kw: Amount = _ZERO
    """A month's fee for each kW of contracted power."""
    contract_kw: Amount = _ZERO
    climate_per_kwh: Amount = _ZERO
    """Climate and environment charge."""
    fuel_per_kwh: Signed = _ZERO
    """Fuel-cost adjustment; it may be negative."""
    vat: Annotated[Amount, Field(le=1)] = _ZERO
    """Share of the charges."""
    fund: Annotated[Amount, Field(le=1)] = _ZERO
    """The power-industry fund's share of the charges."""
    rounded: bool = False
    """As the Korean supplier rounds: charges down to a won, VAT to the nearest won, fund and total down to
    ten won."""

    @model_validator(mode="after")
    def _every_month_once(self) -> Self:
        months = sorted(month for season in self.seasons for month in season.months)
        if months != list(range(1, 13)):
            raise ValueError("every month from 1 to 12 must be in exactly one season")
        if self.amount == 0:
            raise ValueError("the first block's per_kwh must be above 0: overrides move the others with it")
        lowest = min(block.per_kwh for season in self.seasons for block in season.blocks)
        if lowest + self.climate_per_kwh + self.fuel_per_kwh < 0:
            raise ValueError("fuel_per_kwh makes electricity cheaper than nothing")
        return self

    @property
    def amount(self) -> Decimal:
        """What stands for the whole tariff in overrides: a kWh of the first season's first block."""
        return self.seasons[0].blocks[0].per_kwh

    def at(self, amount: Decimal) -> Tariff:
        """The same with another amount; every price of a kWh moves in proportion, nothing else does."""
        seasons = tuple(
            season.model_copy(
                update={
                    "blocks": tuple(
                        block.model_copy(update={"per_kwh": block.per_kwh * amount / self.amount})
                        for block in season.blocks
                    )
                }
            )
            for season in self.seasons
        )
        return self.model_copy(update={"seasons": seasons})

    def bill(self, kwh: Decimal, month: int, contract_kw: Decimal | None = None) -> ElectricityBill:
        """A month's bill; month: 1 to 12; contract_kw: None for the tariff's own."""
        season = next(one for one in self.seasons if month in one.months)
        contracted = self.contract_kw if contract_kw is None else contract_kw
        base = self._charge(season.base(kwh) + self.base_per_kw * contracted)
        energy = self._charge(season.energy(kwh))
        climate = self._charge(self.climate_per_kwh * kwh)
        fuel = self._charge(self.fuel_per_kwh * kwh)
        charges = base + energy + climate + fuel
        vat, fund = charges * self.vat, charges * self.fund
        if self.rounded:
            vat = vat.quantize(_ONE, ROUND_HALF_UP)
            fund = _tens(fund)
        total = charges + vat + fund
        return ElectricityBill(
            base, energy, climate, fuel, vat, fund, _tens(total) if self.rounded else total
        )

    def _charge(self, amount: Decimal) -> Decimal:
        return amount.quantize(_ONE, ROUND_DOWN) if self.rounded else amount


def _tens(amount: Decimal) -> Decimal:
    return (amount / _TEN).quantize(_ONE, ROUND_DOWN) * _TEN
