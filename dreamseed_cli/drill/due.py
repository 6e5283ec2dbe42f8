"""When the schedule rehearses, and when a rehearsal is overdue. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from dreamseed_cli.drill.record import DrillRecord
from dreamseed_cli.profile.drill import Drill, ScenarioName

_RETRY = timedelta(days=1)
"""How long after a drill that did not pass the schedule tries again."""
_CLOCK_SLACK = timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class Standing:
    """How one scenario stands. due: the schedule rehearses it now. alarm: what somebody must be told."""

    scenario: ScenarioName
    due: bool
    alarm: str | None


def standing(
    scenario: ScenarioName,
    records: Sequence[DrillRecord],
    settings: Drill,
    since: datetime | None,
    now: datetime,
) -> Standing:
    """records: of this scenario, oldest first. since: when the schedule began; None: there is none, so that
    nothing can be overdue. Records of the future were made by a wrong clock, and say nothing.
    """
    known = [record for record in records if record.ended <= now + _CLOCK_SLACK]
    passed = [record.ended for record in known if record.passed]
    every, late = timedelta(days=settings.every_days), timedelta(days=settings.late_after_days)
    newest = known[-1] if known else None
    due = not passed or now - passed[-1] >= every
    if newest is not None and not newest.passed and now - newest.ended < _RETRY:
        due = False
    began = passed[-1] if passed else since
    alarm = None
    if newest is not None and not newest.passed:
        alarm = f"the {scenario} drill of {newest.ended:%Y-%m-%d} {newest.outcome}: {newest.misses[0]}"
    elif began is not None and now - began >= every + late:
        last = f"last passed on {passed[-1]:%Y-%m-%d}" if passed else "has never passed here"
        alarm = f"the {scenario} drill is overdue: it {last}"
    return Standing(scenario, due, alarm)
