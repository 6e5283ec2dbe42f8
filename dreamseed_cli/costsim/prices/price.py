"""One price: what a unit costs, with free units, blocks and base fee, its source and its date."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from dreamseed_cli.costsim.money import Currency
from dreamseed_cli.costsim.prices.part import Amount, Part
from dreamseed_cli.costsim.prices.tiers import Meter, steps_of

_ZERO = Decimal(0)

Unit = Literal[
    "USD", "call", "GB", "GB-month", "GiB", "GiB-hour", "GiB-second", "hour", "kWh", "month", "piece",
    "request", "token", "vCPU-hour", "vCPU-second", "year",
]  # fmt: skip
"""What a quantity is counted in."""


class Block(Part):
    """So many units of a month, at one price."""

    amount: Amount
    """Of `per` units."""
    up_to: Annotated[Amount, Field(gt=0)] | None = None
    """Where it ends, counted from 0, free units included; the last block has no end."""


class Price(Part):
    """What one thing costs."""

    id: str
    title: Annotated[str, Field(min_length=1)]
    unit: Unit
    amount: Amount
    """Of `per` units; of the first paid block, if there are several."""
    per: Annotated[Amount, Field(gt=0)] = Decimal(1)
    """How many units the amount buys: 1000000 for a price per million."""
    currency: Currency
    source: Annotated[str, Field(min_length=1)]
    """Where it stands: a section of the document, a public price page, an estimate."""
    date: dt.date | None
    """As of; None for a price of the user's own that has none."""
    free: Amount = _ZERO
    """Units of a month that cost nothing."""
    free_times: Amount = _ZERO
    """Units that cost nothing for each unit of something else: B2's downloads, for each GB stored."""
    credit: Amount = _ZERO
    """Taken off a month's cost: a free tier that is given in money."""
    base: Amount = _ZERO
    """A month's fee before the first unit."""
    up_to: Annotated[Amount, Field(gt=0)] | None = None
    """Where the first paid block ends, if others follow."""
    more: tuple[Block, ...] = ()
    """The blocks after the first."""

    @model_validator(mode="after")
    def _blocks_rise(self) -> Self:
        ends = [self.up_to, *(block.up_to for block in self.more)]
        inner = [end for end in ends[:-1] if end is not None]
        if ends[-1] is not None or len(inner) != len(ends) - 1:
            raise ValueError("every block but the last one needs up_to, and the last one has none")
        if any(later <= earlier for earlier, later in zip([self.free, *inner], inner, strict=False)):
            raise ValueError("up_to must rise from block to block, from above free")
        if self.more and (self.amount == 0 or self.free_times):
            raise ValueError("a price with several blocks needs an amount above 0, and no free_times")
        return self

    def meter(self) -> Meter:
        """The price, ready to be asked."""
        # A price with one block may cost nothing today: its steps are those of an amount of 1.
        listed = self.amount if self.more else Decimal(1)
        blocks = [(self.up_to or _ZERO, listed), *((one.up_to or _ZERO, one.amount) for one in self.more)]
        return Meter(
            amount=self.amount,
            per=self.per,
            listed=listed,
            steps=steps_of(self.free, [(end, amount / self.per) for end, amount in blocks]),
            base=self.base,
            credit=self.credit,
            free_times=self.free_times,
            in_won=self.currency is Currency.KRW,
        )

    def at(self, amount: Decimal) -> Price:
        """The same with another amount; higher blocks move in proportion, base fee and credit do not."""
        more = tuple(
            block.model_copy(update={"amount": block.amount * amount / self.amount}) for block in self.more
        )
        return self.model_copy(update={"amount": amount, "more": more})
