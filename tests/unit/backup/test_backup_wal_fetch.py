"""`restore_command`: 1 only for what is proven absent; a recovery never ends early because a store failed."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from faulty_store import STORE_FAULTS, FaultyStore, StoreFault
from wal_files import SIZE, SYSTEM, PgWal, content, segment

from dreamseed_cli.backup.keys import Identity
from dreamseed_cli.backup.names import wal_name
from dreamseed_cli.backup.seal import seal, sha256
from dreamseed_cli.backup.store.base import Limits, Store
from dreamseed_cli.backup.store.open import StoreSettings, open_store
from dreamseed_cli.backup.wal.fetch import ABSENT_EXIT, STOP_EXIT, Fetching, run_fetch
from dreamseed_cli.backup.wal.settings import restore_command
from dreamseed_cli.backup.wal_names import parse_wal_file

KEY = Identity.create()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A local one that tries once."""
    settings = StoreSettings(limits=Limits(tries=1, total_s=10))
    return open_store(f"local:{tmp_path / 'store'}", settings, create=True)


@pytest.fixture
def to(tmp_path: Path) -> Path:
    """`%p`."""
    PgWal(tmp_path / "pg_wal")
    return tmp_path / "pg_wal" / "RECOVERYXLOG"


def _put(store: Store, name: str, data: bytes) -> str:
    found = wal_name(parse_wal_file(name, SIZE), sha256(data))
    store.put(found, seal(data, [KEY.key.to_public()]).cipher)
    return found


def _put_segments(store: Store, *numbers: int, timeline: int = 1) -> None:
    for number in numbers:
        _put(store, segment(number, timeline).name, content(segment(number, timeline)))


def _fetch(store: Store, name: str, to: Path, ahead: int = 0, end: str | None = None) -> tuple[int, str]:
    said: list[str] = []
    source = Fetching(store, [KEY], to.parents[1] / "spool", ahead=ahead, size=SIZE, end=end)
    return run_fetch(name, to, source, said.append), " ".join(said)


def test_a_segment_comes_whole(store: Store, to: Path) -> None:
    """What was archived is what recovery gets."""
    _put_segments(store, 5)
    assert _fetch(store, segment(5).name, to) == (0, "")
    assert to.read_bytes() == content(segment(5))


def test_absent_at_the_end(store: Store, to: Path) -> None:
    """Behind the last segment, and histories of timelines that never were: recovery may end or go on."""
    _put_segments(store, 5)
    for name in (segment(6).name, "00000002.history", "00000001.history", segment(5, 2).name):
        assert _fetch(store, name, to)[0] == ABSENT_EXIT
    assert not to.exists()


def test_a_gap_is_no_end(store: Store, to: Path) -> None:
    """A later segment proves that this one existed: recovery must not open the server without it."""
    _put_segments(store, 5, 7)
    code, said = _fetch(store, segment(6).name, to)
    assert code == STOP_EXIT
    assert segment(7).name in said


def test_behind_the_end_that_restore_saw_nothing_is_a_gap(store: Store, to: Path) -> None:
    """What a push stored side by side proves nothing there; before it, on another timeline, and where the end
    is no segment, all is as ever.
    """
    _put_segments(store, 4, 6, 8)
    _put_segments(store, 8, timeline=2)
    for name, end, code in (
        (segment(7).name, segment(7).name, ABSENT_EXIT),
        (segment(7).name, segment(5).name, ABSENT_EXIT),
        (segment(8).name, segment(5).name, 0),
        (segment(5).name, segment(7).name, STOP_EXIT),
        (segment(7, 2).name, segment(5).name, STOP_EXIT),
        (segment(7).name, "5", STOP_EXIT),
    ):
        assert _fetch(store, name, to, end=end)[0] == code


def test_a_gap_that_the_backup_fills(store: Store, to: Path) -> None:
    """What the backup brought along in pg_wal, PostgreSQL takes from there; a recycled file does not do."""
    _put_segments(store, 5, 7)
    own = to.parent / segment(6).name
    own.write_bytes(content(segment(3)))
    assert _fetch(store, segment(6).name, to)[0] == STOP_EXIT
    own.write_bytes(content(segment(6)))
    assert _fetch(store, segment(6).name, to)[0] == ABSENT_EXIT


def test_a_missing_history_is_no_end(store: Store, to: Path) -> None:
    """Segments of a timeline prove that it had a history."""
    _put_segments(store, 5)
    _put_segments(store, 6, timeline=2)
    assert _fetch(store, "00000002.history", to)[0] == STOP_EXIT


def test_an_empty_store_proves_nothing(store: Store, to: Path) -> None:
    """A wrong bucket or prefix must not look like an archive's end."""
    code, said = _fetch(store, segment(5).name, to)
    assert code == STOP_EXIT
    assert "no WAL at all" in said


def test_two_contents_under_one_name(store: Store, to: Path) -> None:
    """Which is right, nobody here can know."""
    _put_segments(store, 5)
    _put(store, segment(5).name, content(segment(5), b"other"))
    assert _fetch(store, segment(5).name, to)[0] == STOP_EXIT


def test_misplaced_bytes(store: Store, to: Path) -> None:
    """Bytes that are sealed and proven, but of another segment."""
    _put(store, segment(5).name, content(segment(9)))
    assert _fetch(store, segment(5).name, to)[0] == STOP_EXIT
    assert not to.exists()


def test_a_wrong_key(store: Store, to: Path) -> None:
    """A key that opens nothing ends no recovery."""
    _put_segments(store, 5)
    source = Fetching(store, [Identity.create()], to.parents[1] / "spool", size=SIZE)
    assert run_fetch(segment(5).name, to, source, lambda _: None) == STOP_EXIT


def test_a_name_that_is_none(store: Store, to: Path) -> None:
    """Nothing but WAL is fetched, from nowhere but the archive."""
    assert _fetch(store, "../../etc/passwd", to)[0] == STOP_EXIT


def test_every_other_error_stops(store: Store, tmp_path: Path) -> None:
    """Also one of the operating system's: no folder to write to."""
    _put_segments(store, 5)
    assert _fetch(store, segment(5).name, tmp_path / "gone" / "pg_wal" / "x")[0] == STOP_EXIT


@pytest.mark.parametrize("fault", [fault for fault in STORE_FAULTS if fault != "missing"])
def test_faults_never_look_like_an_absence(store: Store, to: Path, fault: StoreFault) -> None:
    """At every call, for a segment that is there and one that is not: a fault stops recovery, or the answer
    is the true one.
    """
    _put_segments(store, 5, 6)
    for number, truth in ((5, 0), (7, ABSENT_EXIT)):
        for call in range(3):
            to.unlink(missing_ok=True)
            code, _ = _fetch(FaultyStore(store, {call: fault}), segment(number).name, to)
            assert code in {truth, STOP_EXIT}
            assert to.exists() == (code == 0)
            if code == 0:
                assert to.read_bytes() == content(segment(number))


def test_a_store_that_hides_one_object(store: Store, to: Path) -> None:
    """A hidden or deleted segment inside the archive is a gap."""
    _put_segments(store, 5, 6)
    assert _fetch(FaultyStore(store, {0: "missing"}), segment(5).name, to)[0] == STOP_EXIT


def test_segments_come_ahead(store: Store, to: Path) -> None:
    """The next ones lie ready, proven; a segment from the spool asks the store nothing."""
    _put_segments(store, 5, 6, 7)
    faulty = FaultyStore(store)
    assert _fetch(faulty, segment(5).name, to, ahead=2)[0] == 0
    calls = len(faulty.calls)
    for number in (6, 7):
        assert _fetch(faulty, segment(number).name, to, ahead=2)[0] == 0
        assert to.read_bytes() == content(segment(number))
    assert len(faulty.calls) == calls


def test_a_spool_that_rots(store: Store, to: Path) -> None:
    """What changed in the spool is fetched again; what is not wanted any more goes."""
    _put_segments(store, 5, 6, 20)
    _fetch(store, segment(5).name, to, ahead=1)
    (spooled,) = _spooled(to)
    spooled.write_bytes(spooled.read_bytes()[:-1])
    assert _fetch(store, segment(6).name, to, ahead=1)[0] == 0
    assert to.read_bytes() == content(segment(6))
    _fetch(store, segment(5).name, to, ahead=1)
    _fetch(store, segment(20).name, to, ahead=1)
    assert not _spooled(to)


def test_no_recovery_is_given_what_another_fetched_ahead(tmp_path: Path) -> None:
    """Two clusters with a store each, or one with two stores, restored on one host: names alone are equal."""
    stores = [open_store(f"local:{tmp_path / name}", create=True) for name in ("a", "b")]
    for store, fill in zip(stores, (b"a", b"b"), strict=True):
        for number in (5, 6):
            _put(store, segment(number).name, content(segment(number), fill))
    places = [tmp_path / name / "pg_wal" / "RECOVERYXLOG" for name in ("one", "two")]
    for place in places:
        PgWal(place.parent)
    source = Fetching(stores[0], [KEY], tmp_path / "spool", ahead=1, size=SIZE)
    for number in (5, 6):
        for store, place, fill in zip(stores, places, (b"a", b"b"), strict=True):
            assert run_fetch(segment(number).name, place, replace(source, store=store), print) == 0
            assert place.read_bytes() == content(segment(number), fill)


def test_another_clusters_segment_stops_recovery(store: Store, to: Path) -> None:
    """Whole, proven, at its place in the WAL, and not this cluster's."""
    _put_segments(store, 5)
    control = to.parents[1] / "global" / "pg_control"
    control.parent.mkdir()
    for system, code in ((78, STOP_EXIT), (SYSTEM, 0)):
        control.write_bytes(struct.pack("=Q", system) + bytes(100))
        assert _fetch(store, segment(5).name, to)[0] == code
        assert to.exists() == (code == 0)


def test_an_ended_recoverys_spool_goes(store: Store, to: Path) -> None:
    """Another recovery removes it a day later, and no sooner."""
    _put_segments(store, 5, 6)
    old, young = (to.parents[1] / "spool" / name for name in ("old", "young"))
    for folder in (old, young):
        folder.mkdir(parents=True)
    os.utime(old, (time.time() - 90_000,) * 2)
    _fetch(store, segment(5).name, to, ahead=1)
    assert (old.exists(), young.exists()) == (False, True)


def _spooled(to: Path) -> list[Path]:
    return [path for path in (to.parents[1] / "spool").rglob("*") if path.is_file()]


@pytest.mark.parametrize(
    ("ends", "seen"), [(0, 0), (ABSENT_EXIT, 1), (1, 126), (2, 126), (126, 126), (255, 126)]
)
def test_what_postgresql_sees(ends: int, seen: int) -> None:
    """The shell's part: 1 only from our own code for absence. A Python that cannot start exits with 1 too."""
    command = restore_command([sys.executable, "-S", "-c", f"import os; os._exit({ends})"])
    command = command.replace("%f", "f").replace("%p", "p").replace("%%", "%")
    assert subprocess.run(["/bin/sh", "-c", command], check=False).returncode == seen
