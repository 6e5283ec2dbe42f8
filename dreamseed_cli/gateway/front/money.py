"""How much of a month's cap may still be lent. Pure; money is US dollars in millionths, as Decimal."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal

MICRO = Decimal("0.000001")
MOST_MICRO_USD = 999_999_999_999
"""What the table's numeric(12, 6) holds."""


def from_micro(micro_usd: int) -> Decimal:
    """Dollars of a number of millionths."""
    return micro_usd * MICRO


def to_micro(usd: Decimal) -> int:
    """Millionths of an amount that has no smaller part."""
    return int(usd / MICRO)


def grant(*, wanted: Decimal, cap: Decimal, committed: Decimal) -> Decimal:
    """What may be lent on top of what is `committed`: spent by settled leases, lent by the others."""
    return max(Decimal(0), min(wanted, cap - committed))


def month_of(text: str) -> dt.date:
    """The first day of `YYYY-MM`. Raises ValueError."""
    year, separator, month = text.partition("-")
    if not text.isascii() or separator != "-" or len(year) != 4 or len(month) != 2:
        raise ValueError(f"'{text[:20]}' is no month: write YYYY-MM")
    return dt.date(int(year), int(month), 1)


def lendable_months(now: dt.datetime) -> frozenset[dt.date]:
    """The months whose money may be lent: those of yesterday, today and tomorrow (UTC).

    A day either way, for clocks that differ and for a front that must cross the month's end on its own.
    """
    day = dt.timedelta(days=1)
    return frozenset((now + shift).date().replace(day=1) for shift in (-day, day * 0, day))
