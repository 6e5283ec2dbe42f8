"""Whether a restore can reach its goal, told before anything is fetched: recovery itself finds out last."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Final

from dreamseed_cli.backup.names import Heartbeat
from dreamseed_cli.backup.physical.content import Archived
from dreamseed_cli.backup.physical.recovery import Goal
from dreamseed_cli.backup.wal_names import SegmentRange, WalSegment, format_lsn, parse_lsn
from dreamseed_cli.core.errors import UsageError

_STEP: Final = timedelta(seconds=1)
"""Of the moments in heartbeats' names: each may have been as much later."""

_OPTIONS: Final = {"latest": "--into", "time": "--time", "lsn": "--lsn", "name": "--point"}
"""Of the command, by the kind of goal."""


def check_goal(goal: Goal, archived: Archived | None, beats: Iterable[Heartbeat], now: datetime) -> str:
    """A warning where the archive may not reach the goal; empty where it does, or nothing tells. Pure.

    UsageError where it proves that it does not. archived: None: no WAL is. beats: where the server's WAL
    stood at which moments. Where a name lies is for pointed.find_base to find.
    """
    if archived is None:
        if goal.kind in {"time", "lsn", "name"}:
            raise no_archive(goal)
        return ""
    if goal.kind == "lsn" and isinstance(goal.value, str) and parse_lsn(goal.value) > archived.lsn:
        raise _beyond(f"--lsn {goal.value}", archived)
    if goal.kind == "time" and isinstance(goal.value, datetime):
        return _check_time(goal.value, archived, beats, now)
    if goal.kind == "latest" and archived.hole is not None:
        return _check_end(archived, archived.hole, beats)
    return ""


def no_archive(goal: Goal) -> UsageError:
    """For a goal that takes archived WAL, where there is none."""
    return UsageError(
        "no WAL is archived in this store: only the backup's own end can be reached",
        place=_OPTIONS[goal.kind],
        remedy="Leave it out, or archive WAL from now on: dreamseed wal settings.",
    )


def _check_time(moment: datetime, archived: Archived, beats: Iterable[Heartbeat], now: datetime) -> str:
    """Recovery to a moment ends at the first commit behind it: without one, PostgreSQL opens nothing."""
    place = f"--time {moment.isoformat()}"
    if moment > now:
        raise UsageError("this moment is yet to come", place=place, remedy="Leave it out: all that there is.")
    on_the_way = [beat for beat in beats if _passes(archived, beat)]
    if any(beat.at + _STEP <= moment and beat.lsn >= archived.lsn for beat in on_the_way):
        raise _beyond(place, archived)
    if any(beat.at > moment and beat.lsn <= archived.lsn for beat in on_the_way):
        return ""
    return (
        f"Whether the archive, which ends at {format_lsn(archived.lsn)}, reaches {moment.isoformat()} is not "
        "known: if recovery finds no commit behind that moment, it fails; then leave out --time."
    )


def _check_end(archived: Archived, hole: SegmentRange, beats: Iterable[Heartbeat]) -> str:
    """Recovery to the archive's end asks for what is missing, and fails there; but for the segment in which
    the backup ends, of which it has its own part, and takes that for the end; and but for what an unfinished
    push left, which is the end.
    """
    missing = archived.history.segment_at(hole.first, archived.segment_bytes).name
    if archived.lsn > hole.first * archived.segment_bytes:
        return f"{missing} is missing in the archive: only the backup's own end is reached."
    if archived.unfinished:
        last = archived.history.segment_at(archived.last, archived.segment_bytes).name
        return (
            f"{missing} is missing in the archive, which goes on to {last}: recovery ends before it, at "
            f"{format_lsn(archived.lsn)}. A host that is lost in the middle of a push leaves it so, and what "
            "lies behind was then never acknowledged. Whatever the reason, nothing behind it can be restored."
        )
    passed = sorted({beat.lsn for beat in beats if _passes(archived, beat) and beat.lsn <= archived.lsn})
    # Behind all but the last of these there surely is WAL for recovery to stop at.
    such = f", such as --lsn {format_lsn(passed[-2])}" if len(passed) > 1 else ""
    raise UsageError(
        f"{missing} is missing in the archive, which goes on behind it: recovery to its end would fail there",
        place=format_lsn(archived.lsn),
        remedy=f"Give a place or a moment before that{such}, or a newer backup.",
    )


def _passes(archived: Archived, beat: Heartbeat) -> bool:
    return archived.history.covers(beat.timeline, beat.lsn)


def _beyond(place: str, archived: Archived) -> UsageError:
    at = format_lsn(archived.lsn)
    missing = ""
    if archived.hole is not None:
        size = archived.segment_bytes
        segment: WalSegment = archived.history.segment_at(archived.hole.first, size)
        missing = f": {segment.name} is missing"
    return UsageError(
        f"the archive ends at {at}, before that{missing}",
        place=place,
        remedy="Choose an earlier goal, or leave it out: the archive's end is then restored to.",
    )
