"""The cost of a month's quantity under free amounts and blocks, worked out beforehand so that it is fast.

A Monte Carlo asks some hundred thousand times: hence tuples, and the sums below each border kept. Quantities
and amounts are decimals or columns of them (columns.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import NamedTuple

from dreamseed_cli.costsim.columns import each

_ZERO = Decimal(0)


class Step(NamedTuple):
    """From this quantity on, every further unit costs so much."""

    start: Decimal
    unit_price: Decimal
    before: Decimal
    """What the quantity up to `start` costs."""


class Meter(NamedTuple):
    """One price, ready to be asked. Amounts are in the price's own currency."""

    amount: Decimal
    """The price of `per` units in the first paid block."""
    per: Decimal
    listed: Decimal
    """The amount at which the steps hold; at another one they move in proportion."""
    steps: tuple[Step, ...]
    """The highest first."""
    base: Decimal
    credit: Decimal
    free_times: Decimal
    in_won: bool

    def cost(self, quantity: Decimal, of: Decimal = _ZERO) -> Decimal:
        """Of a month's quantity; `of` is what `free_times` multiplies (the GB stored)."""
        if self.free_times:
            quantity = quantity - self.free_times * of
        cost: Decimal = each(self._cost, quantity, self.amount)
        return cost

    def _cost(self, quantity: Decimal, amount: Decimal) -> Decimal:
        for start, unit_price, before in self.steps:
            if quantity > start:
                listed = before + (quantity - start) * unit_price
                paid = listed * amount / self.listed - self.credit
                return self.base + paid if paid > 0 else self.base
        return self.base

    def at(self, amount: Decimal) -> Meter:
        """The same with another amount; base fee and credit stay."""
        return Meter(
            amount,
            self.per,
            self.listed,
            self.steps,
            self.base,
            self.credit,
            self.free_times,
            self.in_won,
        )


def steps_of(free: Decimal, blocks: Sequence[tuple[Decimal, Decimal]]) -> tuple[Step, ...]:
    """Steps from each block's end and the price of one unit in it; the last one's end is ignored.

    `free` units come before the first block's; ends count from 0, the free units included.
    """
    steps: list[Step] = []
    start, before = free, _ZERO
    for end, unit_price in blocks:
        steps.append(Step(start, unit_price, before))
        before += (end - start) * unit_price
        start = end
    return tuple(reversed(steps))
