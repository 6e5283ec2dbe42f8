"""Rehearsals of a disaster: how long the way back may take (§E3), and how often it is walked (§G)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from dreamseed_cli.profile.part import Count, Part, Positive

ScenarioName = Literal["lost-host", "lost-database", "bad-deploy", "corrupt-backup", "failover"]


class Drill(Part):
    """`dreamseed drill`. How much may be lost is `backup.rpo_target_s`."""

    rto_target_s: Positive = 3600.0
    """From the loss to the first answer that was checked, at most, in seconds (§E3: 1 hour)."""
    every_days: Count = 30
    """How often the schedule rehearses (§G: monthly)."""
    late_after_days: Count = 7
    """How long after that a rehearsal that has not passed counts as overdue."""
    scenarios: Annotated[tuple[ScenarioName, ...], Field(min_length=1)] = ("lost-host",)
    """What the schedule rehearses, one after another."""
