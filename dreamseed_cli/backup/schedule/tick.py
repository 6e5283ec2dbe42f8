"""What `dreamseed schedule run` does every five minutes: back up if it is due, and see if all is well."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta, tzinfo
from pathlib import Path
from typing import TypeVar
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from dreamseed_cli.backup import ending
from dreamseed_cli.backup.archiver import Archiver
from dreamseed_cli.backup.attend import Attended, attended_run, settle
from dreamseed_cli.backup.lock import AlreadyRunning
from dreamseed_cli.backup.notify import Alarm
from dreamseed_cli.backup.records import Look, RunRecord, read_record
from dreamseed_cli.backup.rpo import LiveRpo
from dreamseed_cli.backup.run import Report
from dreamseed_cli.backup.schedule.due import Daily, Due, History, due, late
from dreamseed_cli.backup.settings import Settings
from dreamseed_cli.backup.wal.outage import Alert, ArchiveState, as_of, read_state
from dreamseed_cli.core.errors import DreamseedError, ErrorGroup, UsageError
from dreamseed_cli.profile.backup import Schedule

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Deeds:
    """What a tick can do. make: a backup. look: the live RPO; None: nothing to look at.

    drill: what is wrong with the rehearsals; None: nothing. archiver: what the server says of it; None:
    nothing. beat: a heartbeat, before the look. Each may fail without keeping the others from being done.
    """

    make: Callable[[], Report]
    look: Callable[[], LiveRpo | None]
    now: Callable[[], datetime]
    drill: Callable[[], str | None] = lambda: None
    archiver: Callable[[], Archiver | None] = lambda: None
    beat: Callable[[], None] = lambda: None


@dataclass(frozen=True, slots=True)
class Seen:
    """What a look found. late: None if nobody looked. errors: of looking, and of those to be told. wal: how
    this host's last push went; None: it never pushed. stuck: WAL that waits for too long, as the server says.
    """

    rpo: LiveRpo | None = None
    late: bool | None = None
    errors: tuple[DreamseedError, ...] = ()
    wal: ArchiveState | None = None
    drill: str | None = None
    stuck: str | None = None


@dataclass(frozen=True, slots=True)
class Tick:
    """due: what was found. ran: the run, if there was one. seen: nothing where nobody was to look."""

    due: Due
    next_due: datetime
    ran: Attended | None
    seen: Seen

    @property
    def errors(self) -> tuple[DreamseedError, ...]:
        """All that were collected."""
        return (*(self.ran.hook_errors if self.ran else ()), *self.seen.errors)


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
            return ZoneInfo.from_file(file, str(localtime.resolve()).rpartition("zoneinfo/")[2])
    except (OSError, ValueError):
        return UTC


def history_of(record: RunRecord) -> History:
    """What the schedule needs to know of the runs so far."""
    return History(record.began, record.failed, record.since)


def tick(settings: Settings, daily: Daily, deeds: Deeds, *, run: bool = True, look: bool = True) -> Tick:
    """run: back up, if it is due. look: see if all is well, and tell.

    Raises what the run raises, after telling of it. Everything else is collected. Where another run is at
    work, AlreadyRunning comes last: whether that one hangs is seen by nobody but who looks.
    """
    found = due(daily, history_of(read_record(settings.runs)), deeds.now())
    ran: Attended | None = None
    busy: AlreadyRunning | None = None
    if run and found is Due.NOW:
        try:
            ran = attended_run(settings, deeds.make, deeds.now)
        except AlreadyRunning as error:
            busy = error
    seen = _look(settings, daily, deeds) if look else Seen()
    if busy is not None:
        raise ErrorGroup([busy, *seen.errors]) if seen.errors else busy
    return Tick(found, daily.next_due(deeds.now()), ran, seen)


class _Looking:
    """Takes one look after the other: what fails with one hides no other. failed: why, by what it was."""

    def __init__(self) -> None:
        self.failed: dict[str, DreamseedError] = {}

    def at(self, what: str, look: Callable[[], _T]) -> _T | None:
        """What it finds; None if it fails."""
        try:
            return look()
        except DreamseedError as error:
            ending.check()  # a query that was ended with us is no trouble to tell of
            self.failed[what] = error
            return None

    @property
    def errors(self) -> tuple[DreamseedError, ...]:
        """Each but once: a server that is down stands in the way of two looks."""
        return tuple({str(error): error for error in self.failed.values()}.values())


def _look(settings: Settings, daily: Daily, deeds: Deeds) -> Seen:
    looking, target_s = _Looking(), settings.table.rpo_target_s
    drill, archiver = looking.at("drill", deeds.drill), looking.at("archiver", deeds.archiver)
    looking.at("beat", deeds.beat)
    rpo = looking.at("rpo", deeds.look)
    blind = looking.failed.get("rpo")
    now = deeds.now()
    alarms: dict[Alarm, str | None] = {} if "drill" in looking.failed else {Alarm.DRILL: drill}
    if rpo is not None:
        alarms[Alarm.RPO] = _rpo_text(rpo) if rpo.over_target else None
    wal = read_state(settings.wal_state)
    if wal is not None and rpo is not None:
        wal = as_of(wal, rpo, now)
    stuck = None if archiver is None else archiver.stuck(target_s)
    if wal is not None and wal.alert is Alert.DISK:
        alarms[Alarm.WAL] = wal.text
    elif "archiver" not in looking.failed and (wal or archiver):
        alarms[Alarm.WAL] = stuck

    def judge(record: RunRecord) -> tuple[RunRecord, Mapping[Alarm, str | None]]:
        is_late = late(daily, history_of(record), now)
        since = None if blind is None else record.blind_since or now
        update = {"blind_since": since, **({} if rpo is None else {"look": Look.of(rpo, now)})}
        record = record.model_copy(update=update)
        found = {Alarm.LATE: _late_text(record) if is_late else None, **alarms}
        return record, {**found, Alarm.BLIND: _blind_text(since, blind, now, target_s)}

    settled = settle(settings, judge, now)
    is_late = Alarm.LATE in settled.record.alarms
    return Seen(rpo, is_late, (*looking.errors, *settled.errors), wal, drill, stuck)


def _blind_text(
    since: datetime | None, why: DreamseedError | None, now: datetime, target_s: float
) -> str | None:
    """What hides the recovery point, once it was hidden for longer than its target; else None."""
    if since is None or (now - since).total_seconds() <= target_s:
        return None
    return f"nobody can see since {since:%Y-%m-%d %H:%M} UTC what would be lost: {why}"


def _late_text(record: RunRecord) -> str:
    if record.ended is None:
        return "no backup was ever made here"
    return f"the newest backup is of {record.ended:%Y-%m-%d %H:%M} UTC, and a newer one is due"


def _rpo_text(rpo: LiveRpo) -> str:
    lost = "everything" if rpo.rpo_s is None else f"{rpo.rpo_s / 60:.0f} minutes of work"
    return f"{lost} would be lost now, the target is {rpo.target_s / 60:.0f} minutes"
