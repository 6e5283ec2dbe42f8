"""The journal: what stands in it is read back, whatever tore it, and it never fails a request."""

from __future__ import annotations

import os
import resource
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest
from event_harness import record
from hypothesis import given, settings
from hypothesis import strategies as st

from dreamseed_cli.gateway.events.files import Position, segment_path, segment_sizes
from dreamseed_cli.gateway.events.journal import Journal
from dreamseed_cli.gateway.events.lines import ACCEPTED, Accepted, accepted_line, ended_line, read_line
from dreamseed_cli.gateway.events.reading import left_open, parse_batch, read_lines
from dreamseed_cli.gateway.events.record import Outcome, RequestRecord


def accepted(event_id: str, user_id: str = "user-1") -> Accepted:
    """A request that was let in a thousand seconds after the epoch."""
    return Accepted(event_id, f"of-{event_id}", user_id, "standard", "question", "m", 1000.0, simulated=True)


def stored(folder: Path) -> list[str]:
    """The event ids of all ends in the journal, in order."""
    found = []
    for number in segment_sizes(folder):
        at = Position(number, 0)
        while data := read_lines(folder, at, size=64):
            batch = parse_batch(at, data)
            found += [msgspec.json.decode(each, type=RequestRecord).event_id for each in batch.records]
            at = batch.after
    return found


def unfinished(folder: Path) -> list[str]:
    """The event ids of what a dead gateway left open."""
    return [each.event_id for each in left_open(folder, segment_sizes(folder))]


def test_what_was_written_is_read_back(tmp_path: Path) -> None:
    """Ends in their order; what has an end is not open."""
    journal = Journal(tmp_path)
    for number in range(20):
        journal.accept(accepted(f"e{number}"))
    for number in (3, 1, 2):
        journal.finish(record(f"e{number}"))
    assert stored(tmp_path) == ["e3", "e1", "e2"]
    assert unfinished(tmp_path) == [f"e{number}" for number in range(20) if number not in {1, 2, 3}]
    journal.close()


def test_a_lost_request_keeps_what_was_known(tmp_path: Path) -> None:
    """It failed, because its gateway was lost, at the journal's last write."""
    journal = Journal(tmp_path)
    journal.accept(accepted("e1", "user-7"))
    journal.close()
    os.utime(segment_path(tmp_path, 1), (1012.5, 1012.5))
    (lost,) = left_open(tmp_path, [1])
    assert (lost.outcome, lost.reason, lost.duration_s) == (Outcome.FAILED, "gateway_lost", 12.5)
    assert (lost.user_id, lost.request_id, lost.arrived_at, lost.simulated) == (
        "user-7",
        "of-e1",
        1000.0,
        True,
    )


@settings(deadline=None)
@given(st.lists(st.tuples(st.text(min_size=1, max_size=8), st.text(max_size=40)), max_size=12), st.data())
def test_any_prefix_of_the_journal_is_a_prefix_of_its_records(
    events: list[tuple[str, str]], data: st.DataObject
) -> None:
    """Wherever a power cut tore it: the whole lines before are read, nothing else is."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        journal = Journal(folder)
        for event_id, user in events:
            journal.finish(record(event_id, user_id=user))
        journal.close()
        path = segment_path(folder, 1)
        if not events:
            assert not path.exists()
            return
        written = path.read_bytes()
        cut = data.draw(st.integers(0, len(written)))
        path.write_bytes(written[:cut])
        whole = written[:cut].count(b"\n")
        assert stored(folder) == [event_id for event_id, _ in events][:whole]


@settings(deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 255))
def test_a_changed_byte_is_noticed(place: int, change: int) -> None:
    """Whichever byte of a line a disk got wrong, the line is not taken for another."""
    line = bytearray(accepted_line(accepted("e1"))[:-1])
    line[place % len(line)] ^= change
    found = read_line(bytes(line))
    # The checksum's own digits may change their case, which changes nothing.
    assert found is None or found == (ACCEPTED, accepted_line(accepted("e1"))[10:-1])


def test_damaged_lines_are_counted_and_passed_over(tmp_path: Path) -> None:
    """One bad line costs one event, not those around it."""
    lines = [ended_line(record(f"e{number}")) for number in range(3)]
    lines[1] = lines[1].replace(b"standard", b"stanDard")
    segment_path(tmp_path, 1).write_bytes(b"".join(lines))
    start = Position(1, 0)
    batch = parse_batch(start, read_lines(tmp_path, start))
    assert batch.damaged == 1
    assert stored(tmp_path) == ["e0", "e2"]
    assert left_open(tmp_path, [1]) == []


def test_old_segments_can_be_deleted_while_a_request_runs(tmp_path: Path) -> None:
    """What is open is carried into the next segment: the newest alone tells of it."""
    journal = Journal(tmp_path, segment_bytes=2000)
    journal.accept(accepted("long"))
    for number in range(20):
        journal.finish(record(f"e{number}"))
    *old, newest = segment_sizes(tmp_path)
    assert len(old) >= 3
    assert [each.event_id for each in left_open(tmp_path, [newest])] == ["long"]
    journal.finish(record("long"))
    assert unfinished(tmp_path) == []
    assert stored(tmp_path).count("long") == 1
    journal.close()


def test_every_process_writes_segments_of_its_own(tmp_path: Path) -> None:
    """A torn end of an earlier one is never written after, and numbers go on after the checkpoint's."""
    for _ in range(2):
        journal = Journal(tmp_path)
        journal.finish(record("e"))
        journal.close()
    later = Journal(tmp_path)
    later.begin_after(7)
    later.finish(record("e"))
    later.close()
    assert list(segment_sizes(tmp_path)) == [1, 2, 8]


def test_a_full_journal_drops_new_events_and_finishes_the_accepted(tmp_path: Path) -> None:
    """Its size is bounded; what was let in before still gets its end; every dropped event is counted once."""
    lost: list[None] = []
    journal = Journal(tmp_path, limit_bytes=3000, on_lost=lambda: lost.append(None))
    journal.accept(accepted("early"))
    for number in range(20):
        journal.finish(record(f"e{number}"))
    written = stored(tmp_path)
    assert 0 < len(written) < 20
    assert len(lost) == 20 - len(written)
    assert sum(segment_sizes(tmp_path).values()) <= 3000
    journal.finish(record("early"))
    assert stored(tmp_path) == [*written, "early"]
    journal.close()


def test_an_event_dropped_at_its_beginning_is_lost_once(tmp_path: Path) -> None:
    """Its end is dropped, too; that is one event."""
    lost: list[None] = []
    journal = Journal(tmp_path, limit_bytes=10, on_lost=lambda: lost.append(None))
    journal.accept(accepted("e1"))
    journal.finish(record("e1"))
    assert (stored(tmp_path), len(lost)) == ([], 1)
    journal.close()


@contextmanager
def _disk_of(size: int) -> Iterator[None]:
    """No file of this process may grow beyond `size`: the kernel takes a part of a write, then none."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_costs_events_and_nothing_else(tmp_path: Path) -> None:
    """The write it cuts short is counted as lost, damages no other, and when there is room it goes on."""
    lost: list[None] = []
    journal = Journal(tmp_path, on_lost=lambda: lost.append(None))
    size = len(ended_line(record("e0")))
    with _disk_of(size * 2 + size // 2):
        for number in range(5):
            journal.finish(record(f"e{number}"))
    assert len(lost) == 3
    journal.finish(record("later"))
    assert stored(tmp_path) == ["e0", "e1", "later"]
    journal.close()


def test_a_disk_that_is_full_from_the_start(tmp_path: Path) -> None:
    """Nothing can be opened: events are counted as lost until it can."""
    lost: list[None] = []
    folder = tmp_path / "journal"
    folder.mkdir()
    journal = Journal(folder, on_lost=lambda: lost.append(None))
    folder.rename(tmp_path / "away")
    journal.accept(accepted("e1"))
    journal.finish(record("e1"))
    journal.accept(accepted("e2"))
    (tmp_path / "away").rename(folder)
    journal.finish(record("e2"))
    assert (stored(folder), len(lost)) == (["e2"], 1)
    journal.close()


def test_the_disk_is_synchronised_beside_the_writing(tmp_path: Path) -> None:
    """A thread forces segments to the disk while they are written and changed: no file is closed under it."""
    journal = Journal(tmp_path, segment_bytes=4000)
    writing = threading.Event()
    writing.set()

    def sync() -> None:
        while writing.is_set():
            journal.sync()

    thread = threading.Thread(target=sync)
    thread.start()
    for number in range(500):
        journal.finish(record(f"e{number}"))
    writing.clear()
    thread.join()
    journal.close()
    assert len(stored(tmp_path)) == 500
    assert not [path for path in _open_files() if path.startswith(str(tmp_path))]


def test_text_that_is_no_unicode_costs_its_event_only(tmp_path: Path) -> None:
    """A lone surrogate cannot be written as JSON."""
    lost: list[None] = []
    journal = Journal(tmp_path, on_lost=lambda: lost.append(None))
    journal.accept(accepted("e1", "\ud800"))
    journal.finish(record("e1", user_id="\ud800"))
    journal.finish(record("e2"))
    assert (stored(tmp_path), len(lost)) == (["e2"], 1)
    journal.close()


def _open_files() -> list[str]:
    found = []
    for entry in Path("/proc/self/fd").iterdir():
        try:
            found.append(str(entry.readlink()))
        except OSError:
            continue
    return found


@pytest.mark.parametrize("line", [b"", b"x", b"zzzzzzzz E{}", b"00000000 E{}", b"0" * 400])
def test_garbage_is_no_line(line: bytes) -> None:
    """Whatever stands there, reading it raises nothing."""
    assert read_line(line) is None
