"""A month in quantities: what is asked, what Cloud Run and the box do of it. No money yet."""

from __future__ import annotations

from dataclasses import dataclass

from dreamseed_cli.costsim.scenario import Scenario
from dreamseed_cli.costsim.usage.box import BoxUse, box_use
from dreamseed_cli.costsim.usage.cloud_run import CloudRunUse, cloud_run_use
from dreamseed_cli.costsim.usage.traffic import Traffic, traffic
from dreamseed_cli.costsim.usage.week import Week


@dataclass(frozen=True, slots=True, eq=False)
class Month:
    """One scenario's month."""

    scenario: Scenario
    traffic: Traffic
    cloud_run: CloudRunUse
    box: BoxUse


def month_of(scenario: Scenario, *, week: Week | None = None, ai_request_s: float | None = None) -> Month:
    """The month of a scenario; `week`: another curve; `ai_request_s`: a simulation's instead of its own.

    UsageError if the week cannot be as steep as the scenario asks.
    """
    asked = traffic(scenario, week)
    cloud_run = cloud_run_use(scenario, asked, ai_request_s=ai_request_s)
    return Month(scenario, asked, cloud_run, box_use(scenario, asked, cloud_run))
