"""What a UPS told at one moment, whoever passed it on."""

from __future__ import annotations

from dataclasses import dataclass

_DEAD_LINE_V = 40.0
"""Far below every mains voltage, far above what a meter shows on a dead line."""


@dataclass(frozen=True, slots=True)
class Observation:
    """One look at the UPS. None stands for what it does not tell.

    on_battery: the load runs from the battery, whatever for. calibrating, self_testing: it does so on its own
    account, with the mains present.
    """

    at: float
    """Monotonic seconds."""
    on_battery: bool
    status: str = ""
    """The UPS's own words, as they came."""
    charge_percent: float | None = None
    runtime_s: float | None = None
    on_battery_s: float | None = None
    """How long it has been on battery."""
    load_percent: float | None = None
    rating_w: float | None = None
    line_v: float | None = None
    cut_delay_s: float | None = None
    """How long it carries the load on once it was told to switch off."""
    calibrating: bool = False
    self_testing: bool = False
    low_battery: bool = False
    told_to_stop: bool = False
    """Whoever is in charge of the UPS is about to have it switched off: all that it feeds must stop."""
    overload: bool = False
    replace_battery: bool = False
    model: str = ""

    @property
    def line_dead(self) -> bool:
        """Whether the mains are proven to be away."""
        return self.line_v is not None and self.line_v < _DEAD_LINE_V

    @property
    def load_w(self) -> float | None:
        """What it delivers: its load in percent of its rating in watts."""
        if self.load_percent is None or self.rating_w is None:
            return None
        return self.rating_w * self.load_percent / 100
