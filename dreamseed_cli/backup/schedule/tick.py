"""What `dreamseed schedule run` does every five minutes: back up if it is due, and see if all is well."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta, tzinfo
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from dreamseed_cli.backup.attend import Attended, attended_run, settle
from dreamseed_cli.backup.notify import Alarm
from dreamseed_cli.backup.records import RunRecord, read_record
from dreamseed_cli.backup.rpo import LiveRpo
from dreamseed_cli.backup.run import Report
from dreamseed_cli.backup.schedule.due import Daily, Due, History, due, late
from dreamseed_cli.backup.settings import Settings
from dreamseed_cli.core.errors import DreamseedError, UsageError
from dreamseed_cli.profile.backup import Schedule


@dataclass(frozen=True, slots=True)
class Deeds:
    """What a tick can do. make: a backup. look: a heartbeat, then the live RPO; None: nothing to look at."""

    make: Callable[[], Report]
    look: Callable[[], LiveRpo | None]
    now: Callable[[], datetime]


@dataclass(frozen=True, slots=True)
class Tick:
    """due: what was found. ran: the run, if there was one. errors: of looking, and of those to be told."""

    due: Due
    next_due: datetime
    ran: Attended | None
    rpo: LiveRpo | None
    late: bool
    errors: tuple[DreamseedError, ...]


def daily_of(schedule: Schedule, zone: tzinfo) -> Daily:
    """The profile's schedule."""
    return Daily(
        at=time.fromisoformat(schedule.at),
        zone=zone,
        late_after=timedelta(seconds=schedule.late_after_s),
        retry_after=timedelta(seconds=schedule.retry_after_s),
    )


def zone_of(name: str | None, localtime: Path = Path("/etc/localtime")) -> tzinfo:
    """The named time zone, or this machine's; UTC where it has none. UsageError: there is no such zone."""
    if name is not None:
        try:
            return ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError) as error:
            raise UsageError(
                "there is no such time zone", place=f"backup.schedule.timezone: {name}", remedy="Mend it."
            ) from error
    try:
        with localtime.open("rb") as file:
            return ZoneInfo.from_file(file)
    except (OSError, ValueError):
        return UTC


def history_of(record: RunRecord) -> History:
    """What the schedule needs to know of the runs so far."""
    return History(record.began, record.failed, record.since)


def tick(settings: Settings, daily: Daily, deeds: Deeds) -> Tick:
    """Raises what the run raises, after telling of it. Everything else is collected."""
    now = deeds.now()
    found = due(daily, history_of(read_record(settings.home)), now)
    ran = attended_run(settings, deeds.make, deeds.now) if found is Due.NOW else None
    errors: list[DreamseedError] = list(ran.hook_errors) if ran else []
    rpo = None
    try:
        rpo = deeds.look()
    except DreamseedError as error:
        errors.append(error)
    now = deeds.now()
    record = read_record(settings.home)
    is_late = late(daily, history_of(record), now)
    alarms = {Alarm.LATE: _late_text(record) if is_late else None}
    if rpo is not None:
        alarms[Alarm.RPO] = _rpo_text(rpo) if rpo.over_target else None
    errors += settle(settings, record, alarms, now, rpo)
    return Tick(found, daily.next_due(now), ran, rpo, is_late, tuple(errors))


def _late_text(record: RunRecord) -> str:
    if record.ended is None:
        return "no backup was ever made here"
    return f"the newest backup is of {record.ended:%Y-%m-%d %H:%M} UTC, and a newer one is due"


def _rpo_text(rpo: LiveRpo) -> str:
    lost = "everything" if rpo.rpo_s is None else f"{rpo.rpo_s / 60:.0f} minutes of work"
    return f"{lost} would be lost now, the target is {rpo.target_s / 60:.0f} minutes"
