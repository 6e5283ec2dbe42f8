"""The box's own record of its power in place of assumptions: its draw, and how often the mains fail. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from scipy.stats import gamma  # type: ignore[import-untyped]

from dreamseed_cli.costsim.decisions.architectures import HOURS_PER_YEAR, Failure, Three

LEAST_ENERGY_DAYS = 7.0
"""A whole week, with its quiet and its busy days: less says nothing of a month's energy."""
LEAST_OUTAGE_DAYS = 90.0
"""What happens a few times in some years is not told by less."""
MAINS = "mains"
"""The failure that the record tells of, by its id in failures.toml."""
_QUANTILES = (0.05, 0.5, 0.95)
_LEAST_H = 1 / 3600
_S_PER_DAY = 86400.0


class Entry(Protocol):
    """A line of `dreamseed ups`'s record (see ups/records.py). Times are seconds since the epoch."""

    @property
    def kind(self) -> str: ...
    @property
    def began_at(self) -> float: ...
    @property
    def ended_at(self) -> float: ...
    @property
    def energy_kwh(self) -> float | None: ...
    @property
    def shut_down(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class BoxPower:
    """What a record says, and what it is too short to say."""

    file: str
    days: float
    """In which the UPS told its load: only these count, for outages too."""
    kwh: float
    """Delivered by the UPS in these."""
    outages_h: tuple[float, ...]
    """How long each outage of the mains was, as far as the record knows."""

    @property
    def mean_w(self) -> float | None:
        """Watts at the UPS's output; None from fewer than LEAST_ENERGY_DAYS."""
        return self.kwh * 1000 / (self.days * 24) if self.days >= LEAST_ENERGY_DAYS else None

    @property
    def per_year(self) -> Three | None:
        """Outages in a year: the 5 %, 50 % and 95 % quantiles of the rate, after as many as there were.

        Jeffreys' posterior of a Poisson rate, which also says what no outage at all says. None from fewer
        than LEAST_OUTAGE_DAYS.
        """
        if self.days < LEAST_OUTAGE_DAYS:
            return None
        years = self.days * 24 / HOURS_PER_YEAR
        least, likeliest, most = (
            float(gamma.ppf(level, len(self.outages_h) + 0.5)) / years for level in _QUANTILES
        )
        return least, likeliest, most

    @property
    def hours(self) -> Three | None:
        """The shortest, the mean and the longest; None without an outage."""
        if not self.outages_h:
            return None
        return min(self.outages_h), sum(self.outages_h) / len(self.outages_h), max(self.outages_h)


def box_power(entries: Sequence[Entry], file: str) -> BoxPower:
    """What a record says. An outage that ended by the box's shutdown lasted until the watcher was back."""
    told = sorted(
        (one for one in entries if one.ended_at > one.began_at), key=lambda one: (one.began_at, one.ended_at)
    )
    energy = [one for one in told if one.kind == "energy" and one.energy_kwh is not None]
    outages = []
    for one in told:
        if one.kind == "outage":
            later = [other.began_at for other in told if other.began_at >= one.ended_at]
            end = min(later, default=one.ended_at) if one.shut_down else one.ended_at
            outages.append(max((end - one.began_at) / 3600, _LEAST_H))
    return BoxPower(
        file,
        days=sum(one.ended_at - one.began_at for one in energy) / _S_PER_DAY,
        kwh=sum(one.energy_kwh or 0.0 for one in energy),
        outages_h=tuple(outages),
    )


def with_record(failures: Sequence[Failure], power: BoxPower | None) -> tuple[Failure, ...]:
    """The failures with the mains' as they were recorded, if the record is long enough.

    The hours stay assumed where no outage tells them.
    """
    if power is None or power.per_year is None:
        return tuple(failures)
    changed = {
        "per_year": power.per_year,
        "source": f"measured: {len(power.outages_h)} outages in {power.days:,.0f} days of {power.file}",
    }
    if power.hours is not None:
        changed["hours"] = power.hours
    return tuple(one.model_copy(update=changed) if one.id == MAINS else one for one in failures)
