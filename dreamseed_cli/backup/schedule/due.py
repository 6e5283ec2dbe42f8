"""When a daily backup is due, late, or to be tried again: pure, and right on days of 23 and 25 hours."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from enum import StrEnum

_CLOCK_SLACK = timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class Daily:
    """Once a day at a local time. late_after, retry_after: how long after the hour, and after a failure."""

    at: time
    zone: tzinfo
    late_after: timedelta = timedelta(hours=2)
    retry_after: timedelta = timedelta(hours=1)

    def moment(self, day: date) -> datetime:
        """The moment of a day, in UTC. One that the clock skips is the first after it, as PEP 495's fold 0
        gives it; one that comes twice is the first of both.
        """
        return datetime.combine(day, self.at, self.zone).astimezone(UTC)

    def last_due(self, now: datetime) -> datetime:
        """The newest scheduled moment at or before now."""
        today = now.astimezone(self.zone).date()
        moments = (self.moment(today + timedelta(days=shift)) for shift in (1, 0, -1, -2))
        return next(moment for moment in moments if moment <= now)

    def next_due(self, now: datetime) -> datetime:
        """The first scheduled moment after now."""
        today = now.astimezone(self.zone).date()
        moments = (self.moment(today + timedelta(days=shift)) for shift in (-1, 0, 1, 2))
        return next(moment for moment in moments if moment > now)


class Due(StrEnum):
    """What a tick finds."""

    NOT_YET = "not due"
    NOW = "due"
    WAITING = "waiting after a failure"


@dataclass(frozen=True, slots=True)
class History:
    """When runs last began well, last failed; since: when the schedule was installed. UTC."""

    succeeded: datetime | None = None
    failed: datetime | None = None
    since: datetime | None = None


def due(daily: Daily, history: History, now: datetime) -> Due:
    """Whether to run now: when no good run began since the last scheduled moment. Missed ones count once.

    Moments that lie ahead of the clock were made by a wrong one, and say nothing.
    """
    if _at_or_after(history.succeeded, daily.last_due(now), now):
        return Due.NOT_YET
    if _at_or_after(history.since, daily.last_due(now), now) and history.succeeded is None:
        return Due.NOT_YET
    if _at_or_after(history.failed, now - daily.retry_after, now):
        return Due.WAITING
    return Due.NOW


def late(daily: Daily, history: History, now: datetime) -> bool:
    """Whether the run of the last scheduled moment should long be there, and is not."""
    since = daily.last_due(now)
    if now - since < daily.late_after:
        since = daily.last_due(since - timedelta(seconds=1))
    began = history.succeeded or history.since
    return not _at_or_after(began, since, now)


def _at_or_after(moment: datetime | None, bound: datetime, now: datetime) -> bool:
    return moment is not None and bound <= moment <= now + _CLOCK_SLACK
