"""The live recovery point: what could be restored now, and what nightly dumps cannot promise."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dreamseed_cli.backup.names import Heartbeat
from dreamseed_cli.backup.rpo import (
    Archive,
    Base,
    LiveRpo,
    archive_timeout_s,
    live_rpo,
    share_of_moments_over,
    worst_loss_s,
)
from dreamseed_cli.backup.wal_names import (
    DEFAULT_SEGMENT_BYTES,
    Fork,
    SegmentRange,
    TimelineHistory,
    WalSegment,
)
from dreamseed_cli.core.errors import UsageError

NOW = datetime(2025, 11, 10, 12, tzinfo=UTC)
SIZE = DEFAULT_SEGMENT_BYTES
BASE = Base(NOW - timedelta(hours=9), 1, end_lsn=10 * SIZE + 256, archive_from_lsn=10 * SIZE + 40)
TARGET_S = 900.0


def ago(minutes: float, lsn: int, timeline: int = 1) -> Heartbeat:
    """Where the WAL stood so many minutes ago."""
    return Heartbeat(NOW - timedelta(minutes=minutes), timeline, lsn)


def status(
    numbers: list[int],
    beats: list[Heartbeat],
    base: Base | None = BASE,
    history: TimelineHistory | None = None,
) -> LiveRpo:
    """The live RPO with these segments archived."""
    segments = [WalSegment(1, number) for number in numbers]
    return live_rpo(base, Archive(segments, history or TimelineHistory(1)), beats, NOW, TARGET_S)


def test_the_rpo_is_the_age_of_the_newest_heartbeat_that_is_durable() -> None:
    """Segments 10 to 12 are there: the heartbeat in segment 12 counts, the one in 13 does not yet."""
    found = status([10, 11, 12], [ago(20, 11 * SIZE), ago(7, 12 * SIZE + 9), ago(1, 13 * SIZE + 4096)])
    assert found.rpo_s == 7 * 60
    assert found.restorable_lsn == 13 * SIZE
    assert found.behind_bytes == 4096
    assert not found.over_target


def test_an_idle_server_keeps_its_rpo_by_heartbeats_alone() -> None:
    """Nothing new is written: an hour after the last segment, the loss is the last heartbeat's age."""
    found = status([10], [ago(60, 11 * SIZE), ago(0.5, 11 * SIZE + 40)])
    assert found.rpo_s == 30


def test_a_gap_ends_what_can_be_restored() -> None:
    """Segments behind a hole are worth nothing until it is filled; the hole is named, unless a push that is
    under way leaves such a one.
    """
    beats = [ago(30, 11 * SIZE), ago(1, 15 * SIZE)]
    for behind, gaps in (([13, 14], ()), ([13, 14, 15], (SegmentRange(11, 12),)), ([12, 19], None)):
        found = status([10, *behind], beats)
        assert found.gaps == ((SegmentRange(11, 11), SegmentRange(13, 18)) if gaps is None else gaps)
        assert (found.rpo_s, found.restorable_lsn, found.over_target) == (1800, 11 * SIZE, True)


def test_without_archived_wal_the_backup_alone_counts() -> None:
    """Nothing behind the backup: all work since is lost."""
    for numbers in ([], [3, 4]):
        found = status(numbers, [ago(1, 12 * SIZE)])
        assert (found.rpo_s, found.gaps, found.over_target) == (9 * 3600, (), True)


def test_without_a_good_backup_everything_is_lost() -> None:
    """WAL without a base restores nothing, however new."""
    found = status([10, 11], [ago(0, 12 * SIZE)], base=None)
    assert found.rpo_s is None
    assert found.over_target


def test_a_dump_is_carried_no_further_by_wal() -> None:
    """With a logical backup the newest, its snapshot is what is restored."""
    found = status([10, 11], [ago(0, 12 * SIZE)], base=Base(NOW - timedelta(hours=2)))
    assert found.rpo_s == 7200


def test_wal_follows_a_promotion() -> None:
    """After a fork in segment 12 the new timeline's segments count; the old one's later ones do not."""
    history = TimelineHistory(2, (Fork(1, 12 * SIZE + 500),))
    segments = [WalSegment(1, n) for n in (10, 11, 12, 13, 14)] + [WalSegment(2, n) for n in (12, 13)]
    beats = [
        ago(9, 13 * SIZE, timeline=1),
        ago(4, 13 * SIZE, timeline=2),
        ago(1, 14 * SIZE + 999, timeline=2),
    ]
    found = live_rpo(BASE, Archive(segments, history), beats, NOW, TARGET_S)
    assert (found.restorable_lsn, found.rpo_s) == (14 * SIZE, 240)


def test_a_backup_of_an_abandoned_timeline_is_carried_no_further() -> None:
    """The backup ended after the fork: the new timeline's WAL does not apply to it."""
    history = TimelineHistory(2, (Fork(1, 9 * SIZE),))
    segments = [WalSegment(2, n) for n in (9, 10, 11)]
    found = live_rpo(BASE, Archive(segments, history), [ago(1, 11 * SIZE, 2)], NOW, TARGET_S)
    assert found.restorable_lsn == BASE.end_lsn


def test_heartbeats_from_the_future_promise_nothing() -> None:
    """A clock that ran ahead must not hide a growing loss."""
    assert status([10, 11, 12], [ago(16, 11 * SIZE), ago(-60, 11 * SIZE)]).rpo_s == 16 * 60


def test_a_backup_from_the_future_is_told() -> None:
    """With a base after now one clock is wrong, and no figure is given."""
    found = status([], [], base=Base(NOW + timedelta(days=40)))
    assert (found.rpo_s, found.over_target) == (None, True)
    assert "clock" in found.note


@given(
    st.lists(st.tuples(st.integers(0, 600), st.integers(10 * SIZE, 16 * SIZE)), max_size=8),
    st.sets(st.integers(10, 15)),
    st.integers(10, 15),
)
@settings(max_examples=150, deadline=None)
def test_more_archived_wal_never_makes_it_worse(
    sampled: list[tuple[int, int]], numbers: set[int], more: int
) -> None:
    """One more durable segment restores at least as much."""
    beats = [ago(minutes, lsn) for minutes, lsn in sampled]
    before, after = status(sorted(numbers), beats), status(sorted(numbers | {more}), beats)
    assert before.rpo_s is not None
    assert after.rpo_s is not None
    assert after.rpo_s <= before.rpo_s


def test_a_nightly_dump_is_over_fifteen_minutes_at_almost_all_moments() -> None:
    """Contradiction 7: (24 h - 15 min) / 24 h of all moments; a dump that takes time makes it worse."""
    assert share_of_moments_over(86_400, 0, 900) == pytest.approx(0.9896, abs=5e-5)
    assert share_of_moments_over(86_400, 600, 900) == pytest.approx(1 - 300 / 86_400)
    assert share_of_moments_over(86_400, 3_600, 900) == 1.0
    assert share_of_moments_over(300, 60, 900) == 0.0
    assert worst_loss_s(86_400, 600) == 87_000


@pytest.mark.parametrize("wrong", [(0, 0, 1), (1, -1, 1), (1, 0, -1)])
def test_impossible_intervals_are_refused(wrong: tuple[float, float, float]) -> None:
    """An interval of nothing has no moments."""
    with pytest.raises(UsageError):
        share_of_moments_over(*wrong)


def test_the_archive_timeout_leaves_room_for_the_upload_and_a_retry() -> None:
    """Waiting and uploading together stay under the target."""
    assert archive_timeout_s(900, 60) == 560
    with pytest.raises(UsageError, match="cannot be kept"):
        archive_timeout_s(60, 60)
