"""Which backups and which WAL may go: a pure decision with a reason for every one of them.

What stays, whatever the rules say: the newest backup of each kind, the newest one proven to each level, pins,
and the WAL that what stays needs. Nothing at all goes after a failed run, or while the clock and the backups
contradict each other. "Newer" is told by sequence numbers, never by a clock alone.

A store should be one cluster's. Where it holds several's backups, each has its own newest ones and slots, and
no WAL goes that any of them may need: names do not tell whose it is.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import accumulate, pairwise
from typing import Final

from dreamseed_cli.backup.manifest import Level, oldest_first
from dreamseed_cli.backup.names import Kind
from dreamseed_cli.backup.wal_names import SegmentRange, WalFile, WalKind
from dreamseed_cli.core.counting import counted
from dreamseed_cli.core.errors import UsageError

CLOCK_SLACK: Final = timedelta(minutes=10)
"""How far the newest backup may lie in the future: B2 itself refuses clocks that are off by more."""


@dataclass(frozen=True, slots=True)
class Backup:
    """A complete backup, as far as retention is concerned.

    wal: the segment numbers it needs to become consistent; None for a logical one. cluster: the identifier of
    the one it is of.
    """

    id: str
    sequence: int
    kind: Kind
    started: datetime
    level: Level
    wal: SegmentRange | None = None
    cluster: str = ""


@dataclass(frozen=True, slots=True)
class Rules:
    """What to keep. A backup stays while any rule wants it.

    days: everything as young as this (§E2: 30). daily, weekly, monthly: the newest of each of the last so
    many days, ISO weeks and months (UTC) that have one, of each kind.
    point_in_time_days: WAL without a hole for so long back; older backups that stay keep only the WAL that
    makes them consistent. UsageError if it is more than `days`. None: WAL without a hole from the oldest
    backup that stays.
    silence_days: after so many days without a backup either backups failed or the clock jumped ahead: nothing
    goes until as many days have passed since.
    """

    days: int = 30
    daily: int = 7
    weekly: int = 4
    monthly: int = 6
    point_in_time_days: int | None = 30
    silence_days: int = 8

    def __post_init__(self) -> None:
        if self.point_in_time_days is not None and self.point_in_time_days > self.days:
            days = counted(self.point_in_time_days, "day")
            raise UsageError(
                f"point-in-time recovery over {days} needs backups as old, "
                f"and they are deleted after {self.days}",
                place="backup.point_in_time_days",
                remedy="Keep backups for as many days, or promise fewer.",
            )


@dataclass(frozen=True, slots=True)
class Decision:
    """What stays and what goes, by id and name, with the reasons.

    held: why nothing goes although the rules would let it; empty if they are followed.
    wal_needed_from: the first segment number of WAL without a hole; None: no WAL goes.
    wal_needed: what older backups need beside that.
    """

    keep: dict[str, tuple[str, ...]]
    delete: dict[str, str]
    wal_needed_from: int | None
    wal_needed: tuple[SegmentRange, ...] = ()
    wal_delete: tuple[str, ...] = ()
    held: str = ""


@dataclass(slots=True)
class _Reasons:
    """Collects why each backup stays."""

    by_id: dict[str, list[str]] = field(default_factory=dict)

    def add(self, backup: Backup, reason: str) -> None:
        self.by_id.setdefault(backup.id, []).append(reason)


def plan(
    backups: Sequence[Backup],
    wal: Sequence[WalFile],
    pins: Collection[str],
    rules: Rules,
    now: datetime,
    *,
    last_run_failed: bool = False,
    owners: Collection[str] = (),
) -> Decision:
    """Decide what may be deleted. Nothing is done; call it with nothing running, under the runs' lock.

    backups: the good ones only. A damaged one protects nothing and is for a person to delete.
    now: this machine's clock, with its time zone. owners: clusters that archive WAL into the store (owner).
    """
    ordered = _ordered(backups)
    held = _why_held(ordered, rules, now, last_run_failed=last_run_failed)
    if held:
        return Decision({backup.id: (held,) for backup in ordered}, {}, None, held=held)
    moments = _moments(ordered, now)
    reasons = _Reasons()
    bounds: list[int | None] = []
    by_cluster: dict[str, list[Backup]] = {cluster: [] for cluster in owners}
    for backup in ordered:
        by_cluster.setdefault(backup.cluster, []).append(backup)
    for cluster, of_one in by_cluster.items():
        base = _keep(of_one, pins, moments, rules, now, reasons)
        kept = [backup for backup in of_one if backup.id in reasons.by_id]
        if cluster in owners or any(backup.wal for backup in kept):
            bounds.append(_needed_from(kept, base))
    return _decide(ordered, _lowest(bounds), wal, reasons, moments, now)


def _keep(
    of_one: Sequence[Backup],
    pins: Collection[str],
    moments: dict[str, datetime],
    rules: Rules,
    now: datetime,
    reasons: _Reasons,
) -> Backup | None:
    """Which of one cluster's backups stay; and the one that begins its point-in-time recovery."""
    _keep_at_any_rate(of_one, pins, reasons)
    _keep_by_rules(of_one, moments, rules, now, reasons)
    base = _point_in_time_base(of_one, moments, rules, now)
    if base is not None and rules.point_in_time_days is not None:
        reasons.add(base, f"begins the {counted(rules.point_in_time_days, 'day')} of point-in-time recovery")
    return base


def delete_by_age_alone(backups: Iterable[Backup], days: int, now: datetime) -> frozenset[str]:
    """§E2's rule: what it would delete. After `days` of failing backups that is the last good one."""
    return frozenset(backup.id for backup in backups if now - backup.started > timedelta(days=days))


def stale_leftovers(newest_upload: dict[str, datetime], store_now: datetime) -> list[str]:
    """Ids of runs that never wrote a manifest and uploaded nothing for a day.

    newest_upload: by backup id. store_now: the store's clock, such as the time of an object just put: this
    machine's may be off.
    """
    return sorted(id_ for id_, at in newest_upload.items() if store_now - at > timedelta(days=1))


def _ordered(backups: Sequence[Backup]) -> list[Backup]:
    return sorted(backups, key=lambda backup: oldest_first(backup.started, backup.sequence, backup.id))


def _why_held(ordered: Sequence[Backup], rules: Rules, now: datetime, *, last_run_failed: bool) -> str:
    if last_run_failed:
        return "the last run failed: nothing is deleted until one succeeds"
    if not ordered:
        return "there is no good backup: nothing is deleted"
    newest = max(backup.started for backup in ordered)
    if newest - now > CLOCK_SLACK:
        return f"the clock ({now:%Y-%m-%d %H:%M}) is behind a backup of {newest:%Y-%m-%d %H:%M}: one is wrong"
    return _why_silent([*_moments(ordered, now).values(), now], timedelta(days=rules.silence_days), now)


def _why_silent(moments: Sequence[datetime], silence: timedelta, now: datetime) -> str:
    """A clock that jumped ahead looks like a long silence, and stays suspect until as long has passed."""
    for before, after in pairwise(moments):
        if after - before > silence and now - after < silence:
            return (
                f"no backup for {counted((after - before).days, 'day')} before {after:%Y-%m-%d %H:%M}: "
                "backups failed, or the clock jumped ahead"
            )
    return ""


def _moments(ordered: Sequence[Backup], now: datetime) -> dict[str, datetime]:
    """When each was made, as late as its place among the others allows.

    One with a higher sequence number but an earlier time was made while a clock was wrong. It counts as old
    as the next one that fits: taken at its word it could go while it is young.
    """
    highest = list(accumulate((backup.started for backup in ordered), max))
    moments: dict[str, datetime] = {}
    next_sound = now
    for backup, bound in zip(reversed(ordered), reversed(highest), strict=True):
        if backup.started == bound:
            next_sound = backup.started
        moments[backup.id] = next_sound
    return {backup.id: moments[backup.id] for backup in ordered}


def _keep_at_any_rate(ordered: Sequence[Backup], pins: Collection[str], reasons: _Reasons) -> None:
    for backup in ordered:
        if backup.id in pins:
            reasons.add(backup, "pinned")
    for kind in Kind:
        of_kind = [backup for backup in ordered if backup.kind is kind]
        if of_kind:
            reasons.add(of_kind[-1], f"the newest {kind} backup")
        for level in Level:
            proven = [
                backup for backup in of_kind if level is not Level.NONE and backup.level.rank >= level.rank
            ]
            if proven:
                reasons.add(proven[-1], f"the newest {kind} backup proven to be {level}")


def _keep_by_rules(
    ordered: Sequence[Backup],
    moments: dict[str, datetime],
    rules: Rules,
    now: datetime,
    reasons: _Reasons,
) -> None:
    for backup in ordered:
        if now - moments[backup.id] <= timedelta(days=rules.days):
            reasons.add(backup, f"not older than {counted(rules.days, 'day')}")
    periods: list[tuple[str, int, Callable[[datetime], object]]] = [
        ("day", rules.daily, lambda moment: moment.date()),
        ("week", rules.weekly, lambda moment: moment.isocalendar()[:2]),
        ("month", rules.monthly, lambda moment: (moment.year, moment.month)),
    ]
    for kind in Kind:
        newest_first = [backup for backup in reversed(ordered) if backup.kind is kind]
        for name, count, period in periods:
            for number, backup in enumerate(_newest_of_each(newest_first, moments, period)[:count], 1):
                reasons.add(backup, f"the newest of its {name} ({number} of {count})")


def _newest_of_each(
    newest_first: Sequence[Backup], moments: dict[str, datetime], period: Callable[[datetime], object]
) -> list[Backup]:
    found: dict[object, Backup] = {}
    for backup in newest_first:
        found.setdefault(period(moments[backup.id]), backup)
    return list(found.values())


def _point_in_time_base(
    ordered: Sequence[Backup], moments: dict[str, datetime], rules: Rules, now: datetime
) -> Backup | None:
    """The backup from which the first moment of the promised time is reached: made before it."""
    if rules.point_in_time_days is None:
        return None
    since = now - timedelta(days=rules.point_in_time_days)
    older = [backup for backup in ordered if backup.wal is not None and moments[backup.id] <= since]
    return older[-1] if older else None


def _decide(
    ordered: Sequence[Backup],
    needed_from: int | None,
    wal: Sequence[WalFile],
    reasons: _Reasons,
    moments: dict[str, datetime],
    now: datetime,
) -> Decision:
    kept = [backup for backup in ordered if backup.id in reasons.by_id]
    needed = tuple(backup.wal for backup in kept if backup.wal is not None)
    return Decision(
        keep={backup.id: tuple(reasons.by_id[backup.id]) for backup in kept},
        delete={
            backup.id: f"{counted((now - moments[backup.id]).days, 'day')} old, and no rule keeps it"
            for backup in ordered
            if backup.id not in reasons.by_id
        },
        wal_needed_from=needed_from,
        wal_needed=tuple(span for span in needed if needed_from is not None and span.first < needed_from),
        wal_delete=tuple(file.name for file in wal if _may_go(file, needed, needed_from)),
    )


def _needed_from(kept: Sequence[Backup], base: Backup | None) -> int | None:
    """Of one cluster; None: it archives WAL, and its first physical backup may be under way."""
    if base is not None and base.wal is not None:
        return base.wal.first
    return min((backup.wal.first for backup in kept if backup.wal is not None), default=None)


def _lowest(bounds: Sequence[int | None]) -> int | None:
    """Of all clusters: a segment may be anybody's. None: no WAL goes."""
    known = [bound for bound in bounds if bound is not None]
    return min(known) if known and len(known) == len(bounds) else None


def _may_go(file: WalFile, needed: Sequence[SegmentRange], needed_from: int | None) -> bool:
    """Segment numbers go on across a fork, so that one number bounds all timelines.

    Histories stay: they are small, and recovery to any later timeline reads them.
    """
    if file.kind is WalKind.HISTORY or file.segment is None or needed_from is None:
        return False
    number = file.segment.number
    return number < needed_from and not any(number in span for span in needed)
