"""The money one front holds: what it may spend without asking anybody. Pure; US dollars as Decimal.

The gateway's PostgreSQL keeps the month's cap, and is out of reach just when money is spent: so it is
borrowed ahead. A lease that is not accounted for counts as spent as a whole, so a front that dies never lets
the fronts together exceed the cap.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal

_NOTHING = Decimal(0)


@dataclass(slots=True)
class HeldLease:
    """Money of one month (`YYYY-MM`). used: an answer ended that was set aside for, even if it cost nothing.
    closing: nothing more is spent of it.
    """

    id: str
    month: str
    granted: Decimal
    spent: Decimal = _NOTHING
    reserved: Decimal = _NOTHING
    used: bool = False
    closing: bool = False

    @property
    def left(self) -> Decimal:
        return self.granted - self.spent - self.reserved


@dataclass(frozen=True, slots=True)
class Reservation:
    """Money set aside for one answer."""

    lease: HeldLease
    amount: Decimal


class Wallet:
    """Leases, and what is set aside of them."""

    def __init__(self) -> None:
        self._leases: dict[str, HeldLease] = {}

    def add(self, lease: HeldLease) -> None:
        """Take a lease in; one that was taken in before stays as it is."""
        self._leases.setdefault(lease.id, lease)

    def reserve(self, amount: Decimal, month: str) -> Reservation | None:
        """Set money of `month` aside; None if no lease has enough."""
        lease = next((lease for lease in self._open(month) if lease.left >= amount), None)
        if lease is None:
            return None
        lease.reserved += amount
        return Reservation(lease, amount)

    def settle(self, reservation: Reservation, cost: Decimal) -> None:
        """An answer's end: it took `cost`, the rest may be spent again."""
        reservation.lease.reserved -= reservation.amount
        reservation.lease.spent += cost
        reservation.lease.used = True

    def left(self, month: str) -> Decimal:
        """What may still be spent in `month`."""
        return sum((max(lease.left, _NOTHING) for lease in self._open(month)), _NOTHING)

    def close_used(self, months: Iterable[str]) -> None:
        """Close what was used, and what is of none of `months`: it is to be accounted for."""
        current = frozenset(months)
        for lease in self._leases.values():
            lease.closing |= lease.used or lease.month not in current

    def close_all(self) -> None:
        for lease in self._leases.values():
            lease.closing = True

    def lacking(self, months: Iterable[str]) -> list[str]:
        """Those of `months` without money to spend."""
        return [month for month in months if not any(True for _ in self._open(month))]

    def due(self) -> list[HeldLease]:
        """Closed leases that nothing is reserved of any more: account for them, then forget them."""
        return [lease for lease in self._leases.values() if lease.closing and not lease.reserved]

    def leases(self) -> list[HeldLease]:
        """All that are held."""
        return list(self._leases.values())

    def forget(self, lease: HeldLease) -> None:
        """It has been accounted for."""
        self._leases.pop(lease.id, None)

    def _open(self, month: str) -> Iterable[HeldLease]:
        return (lease for lease in self._leases.values() if lease.month == month and not lease.closing)
