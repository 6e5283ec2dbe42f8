"""The help at one moment, as the live view, `dreamseed status` and the control socket show it."""

from __future__ import annotations

from dataclasses import dataclass

from dreamseed_cli.core.result import Provenance
from dreamseed_cli.supervisor.failover.hook_result import HookResult


@dataclass(frozen=True, slots=True)
class HelpEngine:
    """One engine of the help."""

    name: str
    """`f0`, `f1`, ..."""
    url: str
    answers: bool
    """Whether it generates tokens, as far as it was asked."""
    obstacle: str = ""
    """Why it does not."""
    simulated: bool = False
    """Whether its answers say that it is an emulated engine."""


@dataclass(frozen=True, slots=True)
class FailoverSnapshot:
    """Where the help stands and what it has cost. The money is a configured price times a measured time."""

    state: str
    """`off`, `standby`, `waiting`, `starting`, `serving`, `returning`, `stopping`, `spent` or `failed`."""
    since: float
    """Seconds since the epoch."""
    detail: str
    urls: tuple[str, ...]
    usd_this_month: float
    """In the calendar month (UTC)."""
    usd_per_month: float
    """The cap."""
    usd_per_hour: float
    """The price while it runs."""
    running: bool = False
    """Whether it costs now."""
    dry_run: bool = False
    """Whether hooks are only logged."""
    last_hook: HookResult | None = None
    """The hook that ended last."""
    engines: tuple[HelpEngine, ...] = ()
    usd_provenance: Provenance = Provenance.COMPUTED

    @property
    def shown(self) -> bool:
        """Whether there is anything to show: help is configured, or some may still run."""
        return self.state != "off" or self.running
