"""How much would be lost now: the live recovery point, computed from what is durable in the store.

What was archived reaches up to some LSN without a hole. A heartbeat says where the server's WAL stood at a
moment. All that was written before the latest heartbeat at or below that LSN could be restored: its age is
the RPO. While the server is idle, a new heartbeat at the same LSN keeps it near zero. Two traps for whoever
takes heartbeats: a checkpoint's record counts as WAL but triggers no archive_timeout, so that an idle server
can stay some bytes ahead of the archive until `pg_switch_wal()`; and a heartbeat must be timed before its LSN
is read, or it promises too much.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from dreamseed_cli.backup.names import Heartbeat
from dreamseed_cli.backup.wal_names import (
    DEFAULT_SEGMENT_BYTES,
    SegmentRange,
    TimelineHistory,
    WalSegment,
    gaps,
)
from dreamseed_cli.core.errors import UsageError

FUTURE_SLACK: Final = timedelta(seconds=5)
"""How far in the future a heartbeat may lie before it proves nothing."""

SIDE_BY_SIDE: Final = 4
"""How many segments a push stores at a time. It begins none before all but the newest of these are in: what
is missing when it is cut off has less than so many behind it.
"""

SEGMENT_HEADER_BYTES: Final = 40
"""XLogLongPageHeaderData: an LSN this far into a segment has nothing of the segment behind it yet."""


@dataclass(frozen=True, slots=True)
class Base:
    """The newest good backup, from which a restore would begin.

    moment: what it restores without any archived WAL. end_lsn: where that lies; None for a logical one, which
    no WAL can carry further. archive_from_lsn: where the archive must take over: end_lsn if the backup
    brings its own WAL along, else its start. timeline: its own.
    """

    moment: datetime
    timeline: int = 1
    end_lsn: int | None = None
    archive_from_lsn: int = 0


@dataclass(frozen=True, slots=True)
class LiveRpo:
    """The recovery point as it is now. All computed from times and LSNs in the store.

    rpo_s: seconds of work that would be lost; None: everything. restorable_until: the moment before which
    nothing is. restorable_lsn: the end of the WAL without a hole. gaps: missing segments, with archived ones
    behind them; not what a push that is not over leaves missing. behind_bytes: WAL not yet durable, as of the
    newest heartbeat. note: why not to trust it.
    """

    rpo_s: float | None
    restorable_until: datetime | None
    restorable_lsn: int | None
    behind_bytes: int | None
    gaps: tuple[SegmentRange, ...]
    target_s: float
    note: str = ""

    @property
    def over_target(self) -> bool:
        return self.rpo_s is None or self.rpo_s > self.target_s


@dataclass(frozen=True, slots=True)
class Archive:
    """What is durable in the store. history: of the timeline that the server is on."""

    segments: Iterable[WalSegment]
    history: TimelineHistory
    segment_bytes: int = DEFAULT_SEGMENT_BYTES


def live_rpo(
    base: Base | None, archive: Archive, beats: Iterable[Heartbeat], now: datetime, target_s: float
) -> LiveRpo:
    """The age of the newest byte that could be restored at `now`; target_s: §E3 wants 900."""
    if base is None:
        return LiveRpo(None, None, None, None, (), target_s, note="there is no good backup")
    if base.end_lsn is None:
        return _aged(base.moment, None, None, (), now, target_s)
    reached = reach(base, base.end_lsn, archive)
    lsn = reached.lsn
    # A heartbeat from a clock that ran ahead would promise an RPO of zero until then.
    past = [beat for beat in beats if beat.at <= now + FUTURE_SLACK]
    durable = [beat.at for beat in past if _is_durable(beat, lsn, archive)]
    newest = max(past, key=lambda beat: beat.at, default=None)
    behind = None if newest is None else max(newest.lsn - lsn, 0)
    holes = () if is_unfinished(reached.holes, reached.last) else reached.holes
    return _aged(max([base.moment, *durable]), lsn, behind, holes, now, target_s)


@dataclass(frozen=True, slots=True)
class Reach:
    """How far recovery finds WAL. lsn: up to there without a hole. last: the number of the last segment that
    is there on its way; -1: none is, or none of use.
    """

    lsn: int
    holes: tuple[SegmentRange, ...] = ()
    last: int = -1


def reach(base: Base, end_lsn: int, archive: Archive) -> Reach:
    """From the base along the archive's history. Pure."""
    size = archive.segment_bytes
    present = {
        segment.number
        for segment in archive.segments
        if segment == archive.history.segment_at(segment.number, size)
    }
    first = base.archive_from_lsn // size
    last = max(present, default=-1)
    if last < first or not archive.history.covers(base.timeline, end_lsn):
        return Reach(end_lsn)
    holes = tuple(gaps(present, first, last))
    reached = (holes[0].first if holes else last + 1) * size
    return Reach(max(reached, end_lsn), holes, last)


def is_unfinished(holes: Sequence[SegmentRange], last: int) -> bool:
    """Whether a push that was cut off, or is not over, leaves such holes before the last segment that is
    there. PostgreSQL asks for segments in order: none of those behind such a hole was acknowledged.
    """
    return bool(holes) and last - holes[0].first < SIDE_BY_SIDE


def _is_durable(beat: Heartbeat, lsn: int, archive: Archive) -> bool:
    """Whether recovery along this history passes the heartbeat's LSN, on the heartbeat's own timeline."""
    header = SEGMENT_HEADER_BYTES if lsn % archive.segment_bytes == 0 else 0
    return beat.lsn <= lsn + header and archive.history.covers(beat.timeline, beat.lsn)


def _aged(
    until: datetime,
    lsn: int | None,
    behind: int | None,
    holes: tuple[SegmentRange, ...],
    now: datetime,
    target_s: float,
) -> LiveRpo:
    age_s = (now - until).total_seconds()
    if age_s < -FUTURE_SLACK.total_seconds():
        note = f"the newest backup is of {until:%Y-%m-%d %H:%M}, after now: a clock is wrong"
        return LiveRpo(None, until, lsn, behind, holes, target_s, note=note)
    return LiveRpo(max(age_s, 0.0), until, lsn, behind, holes, target_s)


def share_of_moments_over(interval_s: float, run_s: float, target_s: float) -> float:
    """The share of all moments at which a disaster would lose more than the target, with backups alone.

    interval_s: between two backups' snapshots; run_s: from a snapshot until it can be restored. At a moment
    the newest usable snapshot is run_s to run_s + interval_s old, evenly spread. Contradiction 7 of the
    document: §E2's nightly dump against §E3's 15 minutes.
    """
    if interval_s <= 0 or run_s < 0 or target_s < 0:
        raise UsageError("an interval must be above 0, a run and a target not below", place="backup interval")
    within_s = min(max(target_s - run_s, 0.0), interval_s)
    return 1.0 - within_s / interval_s


def worst_loss_s(interval_s: float, run_s: float) -> float:
    """Seconds of work lost at worst: just before the next backup can be restored."""
    return interval_s + run_s


def archive_timeout_s(target_s: float, upload_s: float) -> int:
    """The `archive_timeout` that keeps the RPO under its target, in whole seconds.

    upload_s: from a segment's end until it is durable, at worst. A byte waits for at most one timeout and one
    upload. A third of the rest is left for a retry. UsageError if the target is too small for that.
    """
    timeout = int((target_s - upload_s) * 2 / 3)
    if timeout < 1:
        raise UsageError(
            f"an RPO of {target_s:g} s cannot be kept when a segment takes {upload_s:g} s to become durable",
            place="backup.rpo_target_s",
            remedy="Raise the target, or use a faster store.",
        )
    return timeout
