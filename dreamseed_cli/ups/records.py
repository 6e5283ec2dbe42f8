"""What the power was: every outage, and the energy that the UPS delivered, for the cost model. JSON lines."""

from __future__ import annotations

import time
from pathlib import Path

import msgspec

from dreamseed_cli.ups.best_effort import BestEffort
from dreamseed_cli.ups.journal import append_line, read_lines
from dreamseed_cli.ups.observation import Observation

_EVERY_S = 3600.0
_LONGEST_GAP_S = 60.0
"""Between two looks; over a longer silence nothing is known of the load."""
_WS_PER_KWH = 3.6e6


class PowerRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """An outage, or an hour or less of energy. Times are seconds since the epoch."""

    kind: str
    """`outage` or `energy`."""
    began_at: float
    ended_at: float
    energy_kwh: float | None = None
    """Computed from the UPS's load in percent and its rating; None where it does not tell them."""
    least_charge_percent: float | None = None
    shut_down: bool = False
    """Whether the outage ended by the box's shutdown."""


class Meter:
    """Adds up what it is shown, and writes it down. A record that cannot be written is lost, and told so."""

    def __init__(self, path: Path, effort: BestEffort) -> None:
        self._path = path
        self._effort = effort
        self._last: Observation | None = None
        self._hour = _Stretch(time.time())
        self._outage: _Stretch | None = None

    def show(self, seen: Observation, *, outage: bool) -> None:
        """One look at the UPS."""
        gap_s = seen.at - self._last.at if self._last is not None else 0.0
        load_w = self._last.load_w if self._last is not None else None
        joules = load_w * gap_s if load_w is not None and 0 < gap_s <= _LONGEST_GAP_S else 0.0
        if outage and self._outage is None:
            self._outage = _Stretch(time.time())
        for stretch in (self._hour, self._outage):
            if stretch is not None:
                stretch.add(joules, seen)
        if not outage:
            self.end_outage()
        if time.time() - self._hour.began_at >= _EVERY_S:
            self.end_hour()
        self._last = seen

    def end_outage(self, *, shut_down: bool = False) -> None:
        """The mains are back, or the box goes down."""
        if self._outage is not None:
            self._write("outage", self._outage, shut_down=shut_down)
            self._outage = None

    def end_hour(self) -> None:
        """Write what there is; also when the watcher ends."""
        if self._hour.energy_kwh is not None:
            self._write("energy", self._hour)
        self._hour = _Stretch(time.time())

    def _write(self, kind: str, stretch: _Stretch, *, shut_down: bool = False) -> None:
        record = PowerRecord(
            kind,
            round(stretch.began_at, 3),
            round(time.time(), 3),
            stretch.energy_kwh,
            stretch.least_charge,
            shut_down,
        )
        with self._effort.write(self._path):
            append_line(self._path, msgspec.json.encode(record))


class _Stretch:
    """Some time, and what was delivered in it."""

    def __init__(self, began_at: float) -> None:
        self.began_at = began_at
        self.least_charge: float | None = None
        self._joules = 0.0
        self._told = False

    def add(self, joules: float, seen: Observation) -> None:
        self._joules += joules
        self._told = self._told or seen.load_w is not None
        if seen.charge_percent is not None:
            known = seen.charge_percent if self.least_charge is None else self.least_charge
            self.least_charge = min(known, seen.charge_percent)

    @property
    def energy_kwh(self) -> float | None:
        return round(self._joules / _WS_PER_KWH, 9) if self._told else None


def read_power(path: Path) -> list[PowerRecord]:
    """What was written down, the oldest first."""
    return read_lines(path, PowerRecord)
