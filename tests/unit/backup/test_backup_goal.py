"""A goal that the archive does not reach is told before anything is fetched."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from dreamseed_cli.backup.goal import check_goal
from dreamseed_cli.backup.names import Heartbeat
from dreamseed_cli.backup.physical.content import Archived
from dreamseed_cli.backup.physical.recovery import Goal
from dreamseed_cli.backup.wal_names import MIB, SegmentRange, TimelineHistory
from dreamseed_cli.core.errors import UsageError

NOW = datetime(2025, 11, 10, 3, tzinfo=UTC)
ENDS = Archived(5 * MIB, TimelineHistory(1), SegmentRange(5, 6), MIB, last=9)


def ago(minutes: float) -> datetime:
    """So many minutes before now."""
    return NOW - timedelta(minutes=minutes)


def checked(goal: Goal, *beats: Heartbeat, archived: Archived | None = ENDS) -> str:
    """What is told of the goal now."""
    return check_goal(goal, archived, beats, NOW)


def test_an_lsn_behind_the_archives_end_is_refused() -> None:
    """With where it ends, and what is missing there."""
    with pytest.raises(UsageError, match=r"ends at 0/500000.*000000010000000000000005 is missing"):
        checked(Goal("lsn", "0/500001"))
    assert checked(Goal("lsn", "0/4FFFFF")) == ""


def test_a_moment_that_heartbeats_prove_out_of_reach_is_refused() -> None:
    """The server was beyond the archive's end before it; on another timeline that proves nothing."""
    beyond = Heartbeat(ago(20), 1, 5 * MIB + 100)
    with pytest.raises(UsageError, match="the archive ends at"):
        checked(Goal("time", ago(10)), beyond)
    with pytest.raises(UsageError, match="yet to come"):
        checked(Goal("time", ago(-10)))
    forked = Archived(5 * MIB, TimelineHistory.parse("00000002.history", f"1\t0/{4 * MIB:X}\twhy\n"))
    assert "not known" in checked(Goal("time", ago(10)), beyond, archived=forked)


def test_a_moment_that_heartbeats_prove_in_reach_is_fine() -> None:
    """The archive holds WAL of later moments; between the two, it is only said that nobody knows."""
    beats = (Heartbeat(ago(40), 1, 4 * MIB), Heartbeat(ago(20), 1, 5 * MIB + 100))
    assert checked(Goal("time", ago(50)), *beats) == ""
    assert "not known" in checked(Goal("time", ago(30)), *beats)


def test_the_end_of_an_archive_with_a_hole_is_refused() -> None:
    """With a place before it that there surely is WAL behind, if heartbeats tell one."""
    beats = (
        Heartbeat(ago(30), 1, 4 * MIB),
        Heartbeat(ago(20), 1, 4 * MIB + 9),
        Heartbeat(ago(9), 1, 6 * MIB),
    )
    with pytest.raises(UsageError, match=r"000000010000000000000005 is missing.*such as --lsn 0/400000,"):
        checked(Goal(), *beats)
    with pytest.raises(UsageError, match="before that, or a newer backup"):
        checked(Goal(), beats[0])
    own = replace(ENDS, lsn=5 * MIB + 100)
    assert "only the backup's own end is reached" in checked(Goal(), *beats, archived=own)
    assert checked(Goal(), *beats, archived=replace(ENDS, hole=None)) == ""


def test_what_an_unfinished_push_left_is_the_end_of_the_archive() -> None:
    """It is told loudly, and no reason to refuse; one segment more behind it is."""
    told = checked(Goal(), archived=replace(ENDS, last=8))
    assert "000000010000000000000005 is missing" in told
    assert "goes on to 000000010000000000000008" in told
    assert "recovery ends before it, at 0/500000" in told
    with pytest.raises(UsageError, match="is missing"):
        checked(Goal(), archived=ENDS)
    with pytest.raises(UsageError, match="ends at 0/500000"):
        checked(Goal("lsn", "0/500001"), archived=replace(ENDS, last=8))


@pytest.mark.parametrize(
    ("archived", "end"),
    [(ENDS, 5), (replace(ENDS, hole=None), 10), (Archived(3 * MIB + 9, TimelineHistory(1), None, MIB), 3)],
)
def test_where_recovery_is_to_take_what_is_missing_for_the_end(archived: Archived, end: int) -> None:
    """At the hole, behind the last segment, or in the one in which the backup ends where none is archived."""
    assert archived.end.number == end


@pytest.mark.parametrize("goal", [Goal("immediate"), Goal("name", "x")])
def test_other_goals_are_not_judged(goal: Goal) -> None:
    """The backup's end is always reached, and where a name lies is looked for elsewhere."""
    assert checked(goal) == ""


@pytest.mark.parametrize("goal", [Goal("lsn", "0/500001"), Goal("time", NOW), Goal("name", "x")])
def test_without_an_archive_only_the_backups_end_is_reached(goal: Goal) -> None:
    """The preview says it already."""
    with pytest.raises(UsageError, match="no WAL is archived"):
        checked(goal, archived=None)
    assert checked(Goal("immediate"), archived=None) == checked(Goal(), archived=None) == ""
