"""`archive_command`: acknowledged only when durable, pushed ahead, refused loudly, nothing ever dropped."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from faulty_store import STORE_FAULTS, FaultyStore, StoreFault
from wal_files import SIZE, PgWal, content, segment

from dreamseed_cli.backup.keys import Identity
from dreamseed_cli.backup.names import wal_name
from dreamseed_cli.backup.seal import sha256
from dreamseed_cli.backup.store.base import Limits, Store
from dreamseed_cli.backup.store.errors import ObjectConflict, ObjectCorrupt, StoreError, StoreUnreachable
from dreamseed_cli.backup.store.open import StoreSettings, open_store
from dreamseed_cli.backup.wal.archive import read_file, read_listing, the_one
from dreamseed_cli.backup.wal.outage import (
    Alert,
    ArchiveState,
    Backlog,
    note_failure,
    read_state,
    ready_files,
)
from dreamseed_cli.backup.wal.push import Archiving, PushBusy, _alone, push
from dreamseed_cli.backup.wal.segment import NotASegment
from dreamseed_cli.backup.wal.settings import settings_for
from dreamseed_cli.backup.wal_names import WalNameError, parse_wal_file
from dreamseed_cli.core.errors import UsageError

NOW = datetime(2025, 11, 10, 3, tzinfo=UTC)
KEY = Identity.create()


@pytest.fixture
def pg_wal(tmp_path: Path) -> PgWal:
    """An empty one."""
    return PgWal(tmp_path / "pg_wal")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A local one that tries once."""
    settings = StoreSettings(limits=Limits(tries=1, total_s=10))
    return open_store(f"local:{tmp_path / 'store'}", settings, create=True)


@pytest.fixture
def to(store: Store, tmp_path: Path) -> Archiving:
    """Into the store, nothing ahead."""
    return Archiving(store, [KEY.key.to_public()], tmp_path / "state", ahead=0)


def _archived(store: Store, name: str) -> bytes:
    found = the_one(store, parse_wal_file(name, SIZE))
    assert found is not None
    return read_file(store, found, [KEY])


def _faulty(to: Archiving, faults: dict[int, StoreFault] | None = None) -> tuple[Archiving, FaultyStore]:
    faulty = FaultyStore(to.store, faults)
    return Archiving(faulty, to.recipients, to.state, threads=to.threads, ahead=to.ahead), faulty


@pytest.mark.parametrize(
    "name",
    ["00000002.history", "000000010000000000000007.00000028.backup", "000000010000000000000007.partial"],
)
def test_every_kind_of_file(pg_wal: PgWal, to: Archiving, name: str) -> None:
    """Histories, labels and unfinished segments are archived like segments."""
    pg_wal.ready_segment(9)
    data = content(segment(7)) if name.endswith(".partial") else b"1\t0/7000028\tno recovery target\n"
    push(pg_wal.ready(name, data), to)
    assert _archived(to.store, name) == data


def test_waiting_files_are_pushed_ahead(pg_wal: PgWal, to: Archiving) -> None:
    """One call pushes what waits behind its own file; the calls for these ask the store nothing."""
    paths = [pg_wal.ready_segment(number) for number in range(5, 10)]
    ahead, faulty = _faulty(Archiving(to.store, to.recipients, to.state, ahead=3))
    first = push(paths[0], ahead)
    assert first.ahead == tuple(path.name for path in paths[1:4])
    calls = len(faulty.calls)
    for path in paths[1:4]:
        assert push(path, ahead).known
    assert len(faulty.calls) == calls
    assert not push(paths[4], ahead).known
    assert [found.number for found in read_listing(to.store, SIZE).segments] == [5, 6, 7, 8, 9]


def test_a_neighbours_fault_is_not_this_files(pg_wal: PgWal, to: Archiving) -> None:
    """A damaged neighbour is refused at its own call only."""
    path = pg_wal.ready_segment(5)
    broken = pg_wal.ready(segment(6).name, content(segment(6))[:-1])
    ahead = Archiving(to.store, to.recipients, to.state, ahead=3)
    assert push(path, ahead).ahead == ()
    with pytest.raises(NotASegment, match="1048575 bytes"):
        push(broken, ahead)


def test_the_same_file_again_is_fine(pg_wal: PgWal, to: Archiving) -> None:
    """PostgreSQL may ask again after a crash, also when this host has forgotten what it proved."""
    path = pg_wal.ready_segment(5)
    push(path, to)
    assert push(path, to).known
    (to.state / "wal-proven.json").unlink()
    assert not push(path, to).known
    assert len(list(to.store.list("wal/"))) == 1


def test_other_bytes_are_refused(pg_wal: PgWal, to: Archiving) -> None:
    """The same name with other bytes is a conflict, and what is archived stays."""
    before = push(pg_wal.ready_segment(5), to)
    path = pg_wal.ready(before.name, content(segment(5), b"other"))
    with pytest.raises(ObjectConflict, match=before.name):
        push(path, to)
    assert _archived(to.store, before.name) == content(segment(5))
    state = read_state(to.state)
    assert state is not None
    assert (state.kind, state.alert) == ("object_conflict", Alert.FAILING)


@pytest.mark.parametrize("data", [b"", b"x" * SIZE, content(segment(6))], ids=["empty", "foreign", "moved"])
def test_what_is_no_such_segment_is_refused(pg_wal: PgWal, to: Archiving, data: bytes) -> None:
    """Nothing is acknowledged that recovery could not use."""
    pg_wal.ready_segment(9)
    with pytest.raises(NotASegment):
        push(pg_wal.ready(segment(5).name, data), to)


def test_foreign_names_are_refused(pg_wal: PgWal, to: Archiving) -> None:
    """What PostgreSQL never archives is not taken."""
    with pytest.raises(WalNameError):
        push(pg_wal.ready("000000010000000000000005.old", b""), to)


@pytest.mark.parametrize("fault", STORE_FAULTS)
def test_faults_at_every_call(pg_wal: PgWal, to: Archiving, fault: StoreFault) -> None:
    """Whatever the store does at whichever call: if it was acknowledged, it can be read back; if not, the
    next call succeeds, or it says that damage is stored.
    """
    for number in range(4):
        path = pg_wal.ready_segment(number + 5)
        faulty, calls = _faulty(to, {number: fault})
        try:
            push(path, faulty)
        except StoreError:
            assert len(calls.calls) > number
            calls.faults.clear()
            push(path, faulty)
        assert _archived(to.store, path.name) == path.read_bytes()


def test_an_answer_that_was_lost(pg_wal: PgWal, to: Archiving) -> None:
    """Stored, but the call died before it was told: the next proves what is there, and stores it once."""
    path = pg_wal.ready_segment(5)
    faulty, calls = _faulty(to, {1: "lost"})
    with pytest.raises(StoreUnreachable):
        push(path, faulty)
    assert not push(path, faulty).known
    assert [method for method, _ in calls.calls] == ["list", "put", "list", "get", "put"]
    assert push(path, faulty).known


def test_damage_after_a_lost_answer_is_not_acknowledged(pg_wal: PgWal, to: Archiving, tmp_path: Path) -> None:
    """The digest that was noted before the upload tells a damaged object from ours, without a private key."""
    path = pg_wal.ready_segment(5)
    faulty, _ = _faulty(to, {1: "lost"})
    with pytest.raises(StoreUnreachable):
        push(path, faulty)
    name = wal_name(parse_wal_file(path.name, SIZE), sha256(path.read_bytes()))
    stored = tmp_path / "store" / name
    stored.write_bytes(stored.read_bytes()[:-1] + b"\0")
    with pytest.raises(ObjectCorrupt):
        push(path, faulty)
    stored.unlink()
    push(path, faulty)
    assert _archived(to.store, path.name) == path.read_bytes()


def test_one_push_at_a_time(pg_wal: PgWal, to: Archiving) -> None:
    """A second one, by hand perhaps, is refused at once."""
    path = pg_wal.ready_segment(5)
    with _alone(to.state), pytest.raises(PushBusy):
        push(path, to)


def test_two_days_of_outage(pg_wal: PgWal, to: Archiving) -> None:
    """Each call fails with one line, the row of failures is counted, nothing is dropped, and it recovers."""
    start = NOW.timestamp()
    paths = [pg_wal.ready_segment(5 + hour, since=start + hour * 3600) for hour in range(4)]
    down = FaultyStore(to.store, dict.fromkeys(range(100), "unreachable"))
    broken = Archiving(down, to.recipients, to.state, ahead=0)
    for hour in range(48):
        with pytest.raises(StoreUnreachable) as failure:
            push(paths[0], broken, lambda hour=hour: NOW + timedelta(hours=hour))  # type: ignore[misc]
        assert "\n" not in str(failure.value)
    state = read_state(to.state)
    assert state is not None
    assert (state.failures, state.failing_since, state.backlog.files) == (48, NOW, 4)
    assert all(path.exists() for path in paths)
    push(paths[0], to)
    mended = read_state(to.state)
    assert mended is not None
    assert (mended.alert, mended.failures) == (Alert.OK, 0)


def test_the_alert_comes_long_before_the_disk_is_full() -> None:
    """At 1 MB a second, 150 GB last less than two days: that is an alert; 200 GB are not yet."""

    def state(free: int, growth: float | None) -> ArchiveState:
        return ArchiveState(NOW, NOW, 1, "", "", Backlog(9, 9 * SIZE, free, 10**12, growth))

    assert state(150 * 10**9, 10**6).alert is Alert.DISK
    assert state(200 * 10**9, 10**6).alert is Alert.FAILING
    assert state(200 * 10**9, None).alert is Alert.FAILING
    assert state(99 * 10**9, None).alert is Alert.DISK


def test_growth_is_measured_from_the_files(pg_wal: PgWal, to: Archiving) -> None:
    """Bytes that became ready over the time they took, histories first in line."""
    for minute in range(3):
        pg_wal.ready_segment(5 + minute, since=1000.0 + 60 * minute)
    pg_wal.ready("00000002.history", b"", since=1000.0)
    assert [ready.name[:8] for ready in ready_files(pg_wal.folder)][0:2] == ["00000002", "00000001"]
    with pytest.raises(StoreUnreachable):
        push(pg_wal.folder / segment(5).name, _faulty(to, dict.fromkeys(range(9), "unreachable"))[0])
    state = read_state(to.state)
    assert state is not None
    assert state.backlog.growth_bytes_s == 3 * SIZE / 120


def test_a_damaged_state_is_no_obstacle(pg_wal: PgWal, to: Archiving) -> None:
    """State and index are aids: without them, the store is asked."""
    to.state.mkdir()
    for name in ("wal-state.json", "wal-proven.json"):
        (to.state / name).write_text("{")
    assert read_state(to.state) is None
    push(pg_wal.ready_segment(5), to)
    error = StoreUnreachable("gone", place="b2")
    backlog = Backlog(0, 0, 1, 1, None)
    assert note_failure(to.state, error, backlog, NOW).failing_since == NOW


def test_settings_for_an_rpo() -> None:
    """archive_timeout leaves time for the upload and a retry; the command is safe for the shell."""
    settings = settings_for(["/opt/a b/dreamseed", "wal", "push", "--at", "5%"], target_s=900)
    assert settings["archive_timeout"] == "560"
    assert settings["archive_command"] == "'/opt/a b/dreamseed' wal push --at 5%% %p"
    with pytest.raises(UsageError):
        settings_for(["dreamseed"], target_s=30)
