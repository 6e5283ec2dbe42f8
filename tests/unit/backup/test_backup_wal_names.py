"""WAL names, LSNs, gaps and timelines, as PostgreSQL has them."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dreamseed_cli.backup.wal_names import (
    MIB,
    Fork,
    SegmentRange,
    TimelineHistory,
    WalKind,
    WalNameError,
    WalSegment,
    format_lsn,
    gaps,
    parse_lsn,
    parse_wal_file,
    runs,
)

SIZES = st.sampled_from([MIB << power for power in range(11)])
LSNS = st.integers(0, (1 << 64) - 1)


@given(LSNS)
@settings(max_examples=100)
def test_lsn_round_trip(lsn: int) -> None:
    """An LSN survives being printed and read."""
    assert parse_lsn(format_lsn(lsn)) == lsn


@given(LSNS, st.integers(1, 0xFFFFFFFF), SIZES)
@settings(max_examples=200)
def test_segment_round_trip(lsn: int, timeline: int, size: int) -> None:
    """The segment of an LSN holds it, and its name gives it back, at every segment size."""
    segment = WalSegment.holding(lsn, timeline, size)
    assert segment.start_lsn <= lsn < segment.end_lsn
    assert WalSegment.parse(segment.name, size) == segment


def test_names_are_postgresqls() -> None:
    """`SELECT pg_walfile_name('16/B374D848')` on timeline 1, with 16 MiB and with 64 MiB segments."""
    lsn = parse_lsn("16/B374D848")
    assert WalSegment.holding(lsn, 1).name == "0000000100000016000000B3"
    assert WalSegment.holding(lsn, 1, 64 * MIB).name == "00000001000000160000002C"


def test_the_next_segment_crosses_the_log_id() -> None:
    """FF is followed by 00 of the next id, at 16 MiB; at 1 GiB already 03 is."""
    assert WalSegment.parse("0000000100000000000000FF").next().name == "000000010000000100000000"
    assert WalSegment.parse("000000010000000000000003", 1024 * MIB).next().name == "000000010000000100000000"


def test_a_stop_lsn_on_a_boundary_needs_the_segment_before() -> None:
    """The byte at a boundary is the next segment's first; what ends there needs only the one before."""
    boundary = parse_lsn("0/3000000")
    assert WalSegment.holding(boundary, 1).number == 3
    assert WalSegment.ending_at(boundary, 1).number == 2


@pytest.mark.parametrize(
    ("name", "kind", "number"),
    [
        ("000000020000000000000007", WalKind.SEGMENT, 7),
        ("000000020000000000000007.partial", WalKind.PARTIAL, 7),
        ("000000020000000000000007.00000028.backup", WalKind.LABEL, 7),
        ("00000002.history", WalKind.HISTORY, None),
    ],
)
def test_archived_files_are_told_apart(name: str, kind: WalKind, number: int | None) -> None:
    """Every kind of file that archive_command is given is known, with its timeline and segment."""
    file = parse_wal_file(name)
    assert (file.kind, file.timeline, file.segment and file.segment.number) == (kind, 2, number)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "00000002",
        "000000020000000000000100",
        "00000002000000000000000a",
        "000000000000000000000001",
        "000000020000000000000007.01000000.backup",
        "000000020000000000000007.partial.partial",
        "../0000002.history",
    ],
)
def test_other_names_are_refused(name: str) -> None:
    """Lower case, another segment size's numbers, timeline 0, offsets outside a segment, paths."""
    with pytest.raises(WalNameError):
        parse_wal_file(name)


@pytest.mark.parametrize("text", ["", "16", "16/", "/1", "G/1", "1/123456789", " 1/1", "1/1\n"])
def test_what_is_no_lsn_is_refused(text: str) -> None:
    """Nothing is guessed from half an LSN."""
    with pytest.raises(WalNameError):
        parse_lsn(text)


@pytest.mark.parametrize("size", [0, MIB - 1, 3 * MIB, 2048 * MIB])
def test_segment_sizes_are_initdbs(size: int) -> None:
    """Only what `initdb --wal-segsize` takes is a segment size."""
    with pytest.raises(WalNameError):
        WalSegment.holding(0, 1, size)


@given(st.sets(st.integers(0, 60)), st.integers(0, 60), st.integers(0, 60))
@settings(max_examples=200)
def test_gaps_and_what_is_there_make_up_the_whole(numbers: set[int], one: int, other: int) -> None:
    """Every number of the range lies in a gap or is there, never both; neither gaps nor runs touch."""
    first, last = sorted((one, other))
    missing = gaps(numbers, first, last)
    for number in range(first, last + 1):
        assert (number in numbers) != any(number in gap for gap in missing)
    for found in (missing, runs(numbers)):
        assert all(b.first > a.last + 1 for a, b in pairwise(found))
    assert sum(map(len, runs(numbers))) == len(numbers)


def test_a_gap_of_any_length_costs_nothing() -> None:
    """A hole of 2^40 segments is one range."""
    assert gaps([0, 1 << 40], 0, 1 << 40) == [SegmentRange(1, (1 << 40) - 1)]


HISTORY = "1\t0/5000098\tno recovery target specified\n\n# a comment\n2\t0/9000000\tbefore 2025-11-10\n"


def test_a_history_says_where_timelines_fork() -> None:
    """With the server's own reason; comments and empty lines are none."""
    history = TimelineHistory.parse("00000003.history", HISTORY)
    assert history.forks == (
        Fork(1, parse_lsn("0/5000098"), "no recovery target specified"),
        Fork(2, parse_lsn("0/9000000"), "before 2025-11-10"),
    )


def test_recovery_reads_the_newer_file_where_a_fork_lies() -> None:
    """The segment of a fork is read from the timeline that begins in it."""
    history = TimelineHistory.parse("00000003.history", HISTORY)
    assert [history.segment_at(number).timeline for number in (4, 5, 8, 9)] == [1, 2, 2, 3]


def test_a_backup_beyond_a_fork_does_not_lead_to_the_new_timeline() -> None:
    """What was written on the old timeline after the fork is on no way to the new one."""
    history = TimelineHistory.parse("00000003.history", HISTORY)
    assert history.covers(1, parse_lsn("0/5000098"))
    assert not history.covers(1, parse_lsn("0/5000099"))
    assert history.covers(3, parse_lsn("0/9000001"))
    assert not history.covers(4, parse_lsn("0/A000000"))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("00000003.history", "3\t0/5000098\tits own parent\n"),
        ("00000003.history", "2\t0/5000098\tx\n1\t0/6000000\tdescending\n"),
        ("00000003.history", "1\t0/6000000\tx\n2\t0/5000098\tback in the WAL\n"),
        ("00000003.history", "one\t0/5000098\tx\n"),
        ("00000003.history", "1 0/5000098 no tabs\n"),
        ("000000010000000000000001", "1\t0/5000098\tnot a history\n"),
    ],
)
def test_a_history_postgresql_would_refuse_is_refused(name: str, text: str) -> None:
    """A damaged history is named, never half read."""
    with pytest.raises(WalNameError):
        TimelineHistory.parse(name, text)
