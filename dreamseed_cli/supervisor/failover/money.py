"""What the help has cost, by calendar month (UTC). Pure; money is US dollars as Decimal, times are epoch
seconds. Every figure is `computed`: a configured price times a measured time.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from decimal import ROUND_UP, Decimal

_NANO = Decimal("0.000000001")
_HOUR_S = Decimal(3600)
_NOTHING = Decimal(0)


@dataclass(frozen=True, slots=True)
class Running:
    """Help that was called and is not known to be stopped: it is taken to cost."""

    since: float
    counted_to: float
    """Up to when its cost is in the ledger."""
    usd_per_hour: Decimal
    stop: tuple[str, ...] = ()
    """The command that stops it, for when the profile no longer names one."""


@dataclass(frozen=True, slots=True)
class Ledger:
    """What each month cost, and what costs now."""

    months: Mapping[str, Decimal] = field(default_factory=dict)
    """US dollars by month, such as `2026-07`."""
    running: Running | None = None
    unknown: str = ""
    """A month whose ledger was damaged: what it cost is not known."""


def month_of(epoch: float) -> str:
    """The calendar month (UTC) of a moment, such as `2026-07`."""
    return dt.datetime.fromtimestamp(epoch, dt.UTC).strftime("%Y-%m")


def spent_in_month(ledger: Ledger, epoch: float) -> Decimal:
    """What the month of this moment cost so far."""
    return ledger.months.get(month_of(epoch), _NOTHING)


def started(ledger: Ledger, epoch: float, *, usd_per_hour: Decimal, stop: tuple[str, ...]) -> Ledger:
    """The ledger once help is being called. Help that runs already goes on to be counted."""
    counted_now = counted(ledger, epoch)
    since = epoch if counted_now.running is None else counted_now.running.since
    return replace(counted_now, running=Running(since, epoch, usd_per_hour, stop))


def stopped(ledger: Ledger, epoch: float) -> Ledger:
    """The ledger once the help is known to be stopped."""
    return replace(counted(ledger, epoch), running=None)


def counted(ledger: Ledger, epoch: float) -> Ledger:
    """The ledger with the cost up to this moment, rounded up to a billionth of a dollar a month and call.

    A clock that was set back adds nothing and takes nothing away.
    """
    running = ledger.running
    if running is None:
        return ledger
    months = dict(ledger.months)
    for month, seconds in _by_month(running.counted_to, epoch):
        cost = seconds * running.usd_per_hour / _HOUR_S
        months[month] = months.get(month, _NOTHING) + cost.quantize(_NANO, ROUND_UP)
    return replace(ledger, months=months, running=replace(running, counted_to=epoch))


def _by_month(start: float, end: float) -> Iterator[tuple[str, Decimal]]:
    while start < end:
        until = min(end, _next_month(start))
        yield month_of(start), Decimal(repr(until)) - Decimal(repr(start))
        start = until


def _next_month(epoch: float) -> float:
    day = dt.datetime.fromtimestamp(epoch, dt.UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    return (day + dt.timedelta(days=32)).replace(day=1).timestamp()


@dataclass(frozen=True, slots=True)
class Budget:
    """What help may cost. reserve_s: how long it may take to be rid of it, which has to be paid for, too."""

    usd_per_hour: Decimal
    usd_per_month: Decimal
    reserve_s: float = 0.0

    def obstacle(self, ledger: Ledger, epoch: float) -> str:
        """Why no more money may be spent in the month of this moment; empty if it may."""
        month = month_of(epoch)
        if not self.usd_per_hour:
            return ""
        if ledger.unknown == month:
            return f"what help cost in {month} is not known: its ledger was damaged"
        spent = spent_in_month(ledger, epoch)
        reserve = Decimal(repr(self.reserve_s)) * self.usd_per_hour / _HOUR_S
        if spent + reserve < self.usd_per_month:
            return ""
        return (
            f"the month's cap: ${spent:,.2f} of ${self.usd_per_month:,.2f} are spent in {month}, "
            f"and stopping help may cost ${reserve:,.2f}"
        )
