"""`archive_command`: acknowledged only when durable, pushed ahead, refused loudly, nothing ever dropped."""

from __future__ import annotations

import errno
import os
import threading
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from backup_commands import command
from faulty_store import STORE_FAULTS, FaultyStore, StoreFault
from flipped import flipped
from wal_files import SIZE, SYSTEM, PgWal, content, segment

from dreamseed_cli.backup.keys import Identity
from dreamseed_cli.backup.names import CLUSTERS, wal_name
from dreamseed_cli.backup.owner import claim, owners
from dreamseed_cli.backup.rpo import SIDE_BY_SIDE, LiveRpo
from dreamseed_cli.backup.seal import sha256
from dreamseed_cli.backup.store.base import Limits, Store, Stored
from dreamseed_cli.backup.store.errors import (
    ObjectConflict,
    ObjectCorrupt,
    StoreError,
    StoreFull,
    StoreUnreachable,
)
from dreamseed_cli.backup.store.open import StoreSettings, open_store
from dreamseed_cli.backup.wal import index
from dreamseed_cli.backup.wal.archive import read_file, read_listing, the_one
from dreamseed_cli.backup.wal.index import ProvenIndex
from dreamseed_cli.backup.wal.outage import (
    Alert,
    ArchiveState,
    Backlog,
    as_of,
    note_failure,
    read_state,
    ready_files,
)
from dreamseed_cli.backup.wal.push import Archiving, PushBusy, _alone, failures_noted, push
from dreamseed_cli.backup.wal.segment import NotASegment, OtherCluster
from dreamseed_cli.backup.wal.settings import UPLOAD_S, push_limits, settings_for
from dreamseed_cli.backup.wal_names import WalNameError, check_segment_bytes, parse_wal_file
from dreamseed_cli.core.errors import MissingError, UsageError

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
    """Into the store, nothing ahead; this host knows whose it is."""
    claim(store, str(SYSTEM))
    ProvenIndex(tmp_path / "state" / "wal-proven.json", store.name).owned_by(str(SYSTEM))
    return Archiving(store, [KEY.key.to_public()], tmp_path / "state", ahead=0)


def _archived(store: Store, name: str) -> bytes:
    found = the_one(store, parse_wal_file(name, SIZE))
    assert found is not None
    return read_file(store, found, [KEY])


def _faulty(to: Archiving, faults: dict[int, StoreFault] | None = None) -> tuple[Archiving, FaultyStore]:
    faulty = FaultyStore(to.store, faults)
    return Archiving(faulty, to.recipients, to.state, threads=to.threads, ahead=to.ahead), faulty


@pytest.mark.parametrize("name", ["000000010000000000000001", "nowhere/000000010000000000000001"])
def test_a_file_that_is_not_there(pg_wal: PgWal, to: Archiving, name: str) -> None:
    """As typed by a person in another folder: the remedy says where PostgreSQL calls it."""
    with pytest.raises(MissingError, match="no such WAL file") as caught:
        push(pg_wal.folder / name, to)
    assert caught.value.remedy is not None
    assert "data directory" in caught.value.remedy


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


def test_two_servers_at_the_same_moment_are_not_both_acknowledged(
    pg_wal: PgWal, to: Archiving, tmp_path: Path
) -> None:
    """Both look before either stores: the one that is later finds the other's bytes beside its own."""
    path = pg_wal.ready_segment(5)
    theirs = PgWal(tmp_path / "rival").ready(path.name, content(segment(5), b"other"))
    rival = Archiving(to.store, to.recipients, tmp_path / "rivals-state", ahead=0)

    class LettingIn(FaultyStore):
        """Another server pushes between our look and our put."""

        def put(self, name: str, data: bytes) -> Stored:
            assert not push(theirs, rival).known
            return super().put(name, data)

    ours = replace(to, store=LettingIn(to.store))
    with pytest.raises(ObjectConflict, match=path.name):
        push(path, ours)
    with pytest.raises(ObjectConflict, match=path.name):
        push(path, to)


@pytest.mark.parametrize("data", [b"", b"x" * SIZE, content(segment(6))], ids=["empty", "foreign", "moved"])
def test_what_is_no_such_segment_is_refused(pg_wal: PgWal, to: Archiving, data: bytes) -> None:
    """Nothing is acknowledged that recovery could not use."""
    pg_wal.ready_segment(9)
    with pytest.raises(NotASegment):
        push(pg_wal.ready(segment(5).name, data), to)


def _stranger(store: Store, tmp_path: Path, system: int = SYSTEM + 1) -> tuple[Path, Archiving]:
    """A segment of another cluster, on a host that never pushed."""
    path = PgWal(tmp_path / f"pg_wal-{system}").ready(segment(6).name, content(segment(6), system=system))
    return path, Archiving(store, [KEY.key.to_public()], tmp_path / f"state-{system}", ahead=0)


def test_another_clusters_wal_is_refused(pg_wal: PgWal, to: Archiving, tmp_path: Path) -> None:
    """Its segments have the names of ours: recovery and retention would take them for each other."""
    path, theirs = _stranger(to.store, tmp_path)
    for _ in range(2):
        with pytest.raises(OtherCluster, match=f"{SYSTEM}, and this one is {SYSTEM + 1}") as refused:
            push(path, theirs)
        assert "backup.store" in refused.value.remedy
    # This host's own pg_wal was replaced by a new cluster's: what it knows does not let that through.
    with pytest.raises(OtherCluster):
        push(path, replace(theirs, state=to.state))
    assert read_listing(to.store, SIZE).segments == ()
    assert not push(pg_wal.ready_segment(5), to).known


def test_a_promoted_standby_goes_on(to: Archiving, tmp_path: Path) -> None:
    """Another host, another timeline, and the same cluster: the store is asked whose it is once."""
    standby = PgWal(tmp_path / "standby")
    host = Archiving(to.store, to.recipients, tmp_path / "standbys-state", ahead=0)
    watched, faulty = _faulty(host)
    for number in (6, 7):
        push(standby.ready_segment(number, timeline=2), watched)
    assert [name for method, name in faulty.calls if name.startswith(CLUSTERS)] == [CLUSTERS]


def test_two_clusters_at_the_same_moment_do_not_both_claim_a_store(store: Store, tmp_path: Path) -> None:
    """Both look before either claims it: the one that is later sees both."""
    path, ours = _stranger(store, tmp_path)

    class LettingIn(FaultyStore):
        """Another cluster claims the store between our look and our claim."""

        def put(self, name: str, data: bytes) -> Stored:
            claim(store, str(SYSTEM))
            return super().put(name, data)

    with pytest.raises(OtherCluster):
        push(path, replace(ours, store=LettingIn(store)))


@pytest.mark.parametrize("fault", [fault for fault in STORE_FAULTS if fault != "missing"])
def test_faults_while_a_store_is_claimed(store: Store, tmp_path: Path, fault: StoreFault) -> None:
    """The next call claims it, and archives."""
    for number in range(3):
        path, host = _stranger(store, tmp_path, system=SYSTEM)
        host = replace(host, state=tmp_path / f"{number}")
        with suppress(StoreError):
            push(path, _faulty(host, {number: fault})[0])
        push(path, host)
        assert owners(store) == {str(SYSTEM)}
        assert _archived(store, path.name) == path.read_bytes()
        (tmp_path / "store" / CLUSTERS / str(SYSTEM)).unlink()
        path.parent.rename(tmp_path / f"done-{number}")


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
    stored.write_bytes(flipped(stored.read_bytes()))
    with pytest.raises(ObjectCorrupt):
        push(path, faulty)
    stored.unlink()
    push(path, faulty)
    assert _archived(to.store, path.name) == path.read_bytes()


def test_a_full_disk_leaves_no_older_note_of_what_was_sealed(
    pg_wal: PgWal, to: Archiving, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stored, its answer lost, not noted: beside an older try's note it would look damaged for good."""
    path = pg_wal.ready_segment(5)
    with pytest.raises(StoreUnreachable):
        push(path, _faulty(to, {1: "unreachable"})[0])
    assert (to.state / "wal-proven.json").exists()

    def full(*_: object) -> None:
        raise StoreFull("no room")

    with monkeypatch.context() as patched:
        patched.setattr(index, "write_json", full)
        with pytest.raises(StoreUnreachable):
            push(path, _faulty(to, {1: "lost"})[0])
    assert not push(path, to).known
    assert _archived(to.store, path.name) == path.read_bytes()


def test_the_lock_of_a_full_disk_is_the_folder(to: Archiving, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no file can be made, one push at a time still."""
    opened = os.open

    def full(path: str | Path, flags: int, *mode: int) -> int:
        if flags & os.O_CREAT:
            raise OSError(errno.ENOSPC, "No space left on device")
        return opened(path, flags, *mode)

    monkeypatch.setattr(os, "open", full)
    to.state.mkdir(exist_ok=True)
    with _alone(to.state), pytest.raises(PushBusy), _alone(to.state):
        pass


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


def test_a_state_that_is_older_than_the_wal_is_no_good_news() -> None:
    """Where pushes cannot even begin, nothing is noted: then what was fine long ago says nothing."""
    state = ArchiveState(NOW, None, 0, "", "", Backlog(0, 0, 10**11, 10**12, None))

    def after(minutes: float, rpo_s: float | None, behind: int | None) -> Alert:
        rpo = LiveRpo(rpo_s, NOW, 0, behind, (), 900)
        return as_of(state, rpo, NOW + timedelta(minutes=minutes)).alert

    assert after(16, 960, SIZE) is Alert.FAILING
    assert after(16, None, SIZE) is Alert.FAILING
    assert after(14, 960, SIZE) is Alert.OK
    assert after(16, 960, 0) is Alert.OK
    assert after(4000, 10, SIZE) is Alert.OK


def test_what_fails_before_a_push_begins_is_noted(pg_wal: PgWal, tmp_path: Path) -> None:
    """A profile that is wrong, no keys, a bug: with what the disk has left, as a push's own failure is."""
    path = str(pg_wal.ready_segment(5))
    for count, (profile, kind) in enumerate({"no-such": "usage", "laptop": "no_key"}.items(), 1):
        code, errors = command(tmp_path / "home", "wal", "push", path, "--profile", profile)
        assert (code != 0, errors[0]["kind"]) == (True, kind)
        state = read_state(tmp_path / "home" / "wal")
        assert state is not None
        assert (state.failures, state.kind, state.backlog.files) == (count, kind, 1)
    with pytest.raises(ZeroDivisionError), failures_noted(Path(path), tmp_path / "home" / "wal"):
        _ = 1 / 0
    state = read_state(tmp_path / "home" / "wal")
    assert state is not None
    assert (state.failures, state.error) == (3, "ZeroDivisionError: division by zero")


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


def test_the_largest_segment_is_no_too_large_object() -> None:
    """1 GiB that does not compress: zstd adds a 256th at most, age 16 bytes to 64 KiB, and its header."""
    most = 1 << 30
    check_segment_bytes(most)
    assert Limits().most_bytes > most + (most >> 8) + (most >> 16) * 16 + 4096


@pytest.mark.parametrize("target_s", [90.0, 900.0, 7200.0])
def test_a_push_that_hangs_leaves_time_for_one_that_succeeds(target_s: float) -> None:
    """archive_timeout, a push whose three calls hang to their limits, and an upload fit into the target, but
    for the little that any store may take to answer.
    """
    limits = push_limits(target_s)
    timeout_s = int(settings_for(["push"], target_s)["archive_timeout"])
    assert timeout_s + 3 * limits.total_s + UPLOAD_S <= max(target_s, 3 * 6.0 + timeout_s + UPLOAD_S)
    assert limits.connect_s <= limits.call_s <= limits.total_s / 2
    assert limits.call_s <= Limits().call_s
    assert limits.total_s <= Limits().total_s


def test_a_slow_line_gets_longer_with_every_failure() -> None:
    """Or its segments would never be archived; what is silent is still given up as soon."""
    calls = [push_limits(900, failures) for failures in range(4)]
    assert [round(limits.total_s) for limits in calls] == [93, 187, 373, 600]
    assert {round(limits.call_s) for limits in calls} == {23}
    assert push_limits(900, 100_000).total_s == 600
    assert push_limits(1).total_s == 6


@pytest.mark.parametrize("failing", [5, 6, 8])
def test_what_a_cut_off_push_leaves_missing_is_told_from_a_gap(
    pg_wal: PgWal, to: Archiving, failing: int
) -> None:
    """However long one of them takes or whatever refuses it: less than SIDE_BY_SIDE lie behind it."""
    paths = [pg_wal.ready_segment(number) for number in range(5, 20)]
    others_are_done = threading.Event()

    class Slow(FaultyStore):
        """One of the segments is refused, after everything else that was begun is in."""

        def put(self, name: str, data: bytes) -> Stored:
            if segment(failing).name in name:
                others_are_done.wait(0.5)
                raise StoreUnreachable("gone", place="store")
            return super().put(name, data)

    for _ in range(2):
        with suppress(StoreUnreachable):
            push(paths[0], replace(to, store=Slow(to.store), ahead=16))
        there = {found.number for found in read_listing(to.store, SIZE).segments}
        assert there <= set(range(5, failing + SIDE_BY_SIDE)) - {failing}
        assert there >= set(range(5, failing))
    push(paths[failing - 5], replace(to, ahead=16))
    assert {found.number for found in read_listing(to.store, SIZE).segments} >= set(range(5, failing + 1))


def test_neighbours_are_left_once_the_store_is_away(pg_wal: PgWal, to: Archiving) -> None:
    """The file itself is durable: its answer does not wait for ten others to find out the same."""
    path = pg_wal.ready_segment(5)
    for number in range(6, 16):
        pg_wal.ready_segment(number)
    ahead, faulty = _faulty(
        Archiving(to.store, to.recipients, to.state, threads=1, ahead=10),
        dict.fromkeys(range(3, 100), "unreachable"),
    )
    assert push(path, ahead).ahead == ()
    assert len(faulty.calls) < 3 + 10
