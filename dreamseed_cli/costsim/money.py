"""Money: exact decimals, in US dollars or won at a stated rate. A float never becomes an amount."""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Decimal
from enum import StrEnum
from typing import Any

import numpy as np
from pydantic_core import to_json

from dreamseed_cli.core.errors import UsageError
from dreamseed_cli.costsim.columns import Column

CENT = Decimal("0.01")
_ONE = Decimal(1)
MOST = Decimal(10) ** 15
"""The largest amount that is believed, dollars or won: more than all the money there is, and so few digits
that every sum of them is exact.
"""


class Currency(StrEnum):
    """What an amount is in."""

    USD = "USD"
    KRW = "KRW"


def usd(value: Decimal | str | int) -> Decimal:
    """An amount of dollars, exactly as written. UsageError if it is not a finite number."""
    try:
        amount = Decimal(value)
    except ArithmeticError as error:
        raise UsageError(f"'{value}' is not an amount", remedy='Write a number such as "12.50".') from error
    if not amount.is_finite():
        raise UsageError(f"'{value}' is not an amount", remedy='Write a number such as "12.50".')
    return amount


def amount(value: Decimal | str | float) -> Decimal:
    """An amount that was asked for. UsageError if it is not a number from 0 to MOST."""
    # A float of a TOML file is the number that stands there, not its neighbour in binary.
    said = usd(str(value))
    if said < 0:
        raise UsageError(f"{value} is negative", remedy="Write 0 or more.")
    if said > MOST:
        raise UsageError(f"{value} is more than all the money there is", remedy="Write 1e15 or less.")
    return said


def decimal(quantity: Decimal | float | Column) -> Decimal:
    """A quantity (kWh, seconds, calls) as the decimal that its float is written as: 0.1 becomes 0.1.

    A column becomes a column of decimals; one decimal if all draws have the same.
    """
    if isinstance(quantity, np.ndarray):
        decimals: Decimal = _decimals(quantity)
        return decimals
    return quantity if isinstance(quantity, Decimal) else Decimal(str(quantity))


def _decimals(quantities: Column) -> Any:
    if quantities.dtype == object:
        return quantities
    if (quantities == quantities[0]).all():
        return Decimal(str(quantities[0]))
    # The same shortest digits as `str` finds, in a fifth of its time, which is most of a Monte Carlo's.
    written = to_json(quantities.tolist()).decode()[1:-1].split(",")
    return np.array([Decimal(one) for one in written], dtype=object)


def cents(amount: Decimal) -> Decimal:
    """An amount of dollars to the cent, as files and JSON have it."""
    return amount.quantize(CENT)


def to_usd(amount: Decimal, currency: Currency, rate: Decimal) -> Decimal:
    """An amount in dollars; rate: won per dollar."""
    return amount / rate if currency is Currency.KRW else amount


def dollars(amount: Decimal) -> str:
    """`$1,234.50`, as sentences about prices have it."""
    return show(amount, Currency.USD, _ONE)


def show(usd: Decimal, currency: Currency, rate: Decimal) -> str:
    """An amount of dollars for people: `$1,234.50`, or at `rate` won per dollar `₩1,234,500`."""
    if currency is Currency.KRW:
        amount, sign = (usd * rate).quantize(_ONE, ROUND_HALF_UP), "₩"
    else:
        amount, sign = usd.quantize(CENT, ROUND_HALF_UP), "$"
    return f"{'-' if amount < 0 else ''}{sign}{abs(amount):,}"
