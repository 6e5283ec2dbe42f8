"""The local folder as a store: durable, proven, safe against rivals, and never below a lost mount."""

import errno
import hashlib
import os
import resource
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from flipped import flipped

from dreamseed_cli.backup.store.base import Limits, Rights, Store
from dreamseed_cli.backup.store.errors import (
    ObjectConflict,
    ObjectCorrupt,
    ObjectMissing,
    StoreAbsent,
    StoreError,
    StoreFull,
    StoreRefused,
    StoreUnreachable,
)
from dreamseed_cli.backup.store.files import os_errors
from dreamseed_cli.backup.store.local import MARKER, LocalFolder
from dreamseed_cli.backup.store.open import StoreSettings, open_store
from dreamseed_cli.backup.store.steady import SteadyStore
from dreamseed_cli.core.errors import UsageError

LIMITS = Limits(total_s=20, tries=3, first_wait_s=0.001, most_wait_s=0.002, most_bytes=3_000_000)
DATA = os.urandom(1_500_000)
SHA256 = hashlib.sha256(DATA).hexdigest()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the store is."""
    return tmp_path / "disk" / "backups"


@pytest.fixture
def store(folder: Path) -> Store:
    """An empty one."""
    return open_store(f"local:{folder}", StoreSettings(limits=LIMITS), create=True)


def files(folder: Path) -> set[str]:
    """All files below, drafts and the marker included."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_put_and_get(store: Store, folder: Path) -> None:
    """What was put comes back, under a name that is its path, readable by its owner alone."""
    stored = store.put("wal/0001", DATA)
    assert (stored.size, stored.sha256, stored.proof) == (len(DATA), SHA256, "read_back")
    assert datetime.now(UTC) - stored.uploaded < timedelta(minutes=1)
    assert store.get("wal/0001") == store.get("wal/0001", SHA256) == DATA
    assert (folder / "wal/0001").stat().st_mode & 0o777 == 0o600
    assert files(folder) == {MARKER, "wal/0001"}


def test_an_empty_object(store: Store) -> None:
    """No bytes are bytes too."""
    assert store.put("empty", b"").size == 0
    assert store.get("empty", hashlib.sha256(b"").hexdigest()) == b""


def test_fetch_into_a_file(store: Store, tmp_path: Path) -> None:
    """The file appears with the right bytes, also in place of an older one, and nothing lies beside it."""
    store.put("part", DATA)
    target = tmp_path / "target"
    target.mkdir()
    (target / "part").write_bytes(b"older")
    store.fetch("part", target / "part", SHA256)
    assert (target / "part").read_bytes() == DATA
    assert files(target) == {"part"}


def test_a_corrupt_fetch_leaves_no_file(store: Store, folder: Path, tmp_path: Path) -> None:
    """Bytes that are not those asked for never get a name."""
    store.put("part", DATA)
    damage(folder / "part")
    target = tmp_path / "target"
    target.mkdir()
    with pytest.raises(ObjectCorrupt, match="SHA-256"):
        store.fetch("part", target / "part", SHA256)
    assert files(target) == set()


def damage(path: Path) -> None:
    """Flip a bit, as a failing disk would."""
    path.write_bytes(flipped(path.read_bytes()))


def test_a_flipped_bit_is_found(store: Store, folder: Path) -> None:
    """A bit that flipped on the disk is found by reading against the hash, and by putting the same again."""
    store.put("part", DATA)
    damage(folder / "part")
    with pytest.raises(ObjectCorrupt):
        store.get("part", SHA256)
    with pytest.raises(ObjectConflict):
        store.put("part", DATA)


def test_the_same_again_is_fine_and_writes_nothing(store: Store, folder: Path) -> None:
    """A repeated put is told as stored, from the bytes that are already there."""
    first = store.put("wal/0001", DATA)
    inode = (folder / "wal/0001").stat().st_ino
    assert store.put("wal/0001", DATA) == first
    assert (folder / "wal/0001").stat().st_ino == inode


@pytest.mark.parametrize("other", [DATA[:-1], flipped(DATA), b""])
def test_other_bytes_under_the_same_name_are_refused(store: Store, other: bytes) -> None:
    """What is stored is never overwritten, be the rival longer, shorter or of equal length."""
    store.put("wal/0001", DATA)
    with pytest.raises(ObjectConflict, match="wal/0001"):
        store.put("wal/0001", other)
    assert store.get("wal/0001") == DATA


def test_missing_objects(store: Store, tmp_path: Path) -> None:
    """What is not there is missing to get and fetch, None to stat, and no error to delete."""
    store.put("a/b", DATA)
    for name in ("nothing", "a/nothing", "a", "a/b/c"):
        with pytest.raises(ObjectMissing):
            store.get(name)
        assert store.stat(name) is None
        store.delete(name)
    with pytest.raises(ObjectMissing):
        store.fetch("nothing", tmp_path / "x", SHA256)
    assert store.get("a/b") == DATA


def test_listing(store: Store, folder: Path) -> None:
    """Names come in their order, only those of the prefix, and no drafts."""
    for name in ("wal/02", "wal/01", "wal0", "backups/x/manifest", "wal/1/3"):
        store.put(name, name.encode())
    (folder / "wal/.02.abc.part").write_bytes(b"draft")
    assert [stored.name for stored in store.list("wal/")] == ["wal/01", "wal/02", "wal/1/3"]
    assert [stored.name for stored in store.list("wal")] == ["wal/01", "wal/02", "wal/1/3", "wal0"]
    assert [stored.size for stored in store.list("backups/x/m")] == [len("backups/x/manifest")]
    assert [stored.name for stored in store.list("none/")] == []
    assert len(list(store.list(""))) == 5


def test_delete(store: Store) -> None:
    """A deleted object is gone, and its name is free for other bytes."""
    store.put("a", DATA)
    store.delete("a")
    assert store.stat("a") is None
    assert store.put("a", b"other").size == 5


def test_old_drafts_are_removed(store: Store, folder: Path) -> None:
    """What a killed writer left is removed after its time; what another is writing now is not."""
    store.put("a/b", DATA)
    old, young = folder / "a/.c.00.part", folder / "a/.d.00.part"
    for path in (old, young):
        path.write_bytes(b"half")
    now = datetime.now(UTC)
    os.utime(old, (now.timestamp() - 90_000,) * 2)
    assert store.cancel_unfinished(86_400, now) == 1
    assert files(folder) == {MARKER, "a/b", "a/.d.00.part"}


def test_an_unmounted_disk_is_no_store(store: Store, folder: Path) -> None:
    """Without the marker every call fails, and nothing is written below the mount point."""
    store.put("a", DATA)
    for path in (folder / "a", folder / MARKER):
        path.unlink()
    for call in (lambda: store.put("b", DATA), lambda: store.get("a"), lambda: list(store.list(""))):
        with pytest.raises(StoreAbsent, match="Mount the disk"):
            call()
    assert files(folder) == set()


def test_making_a_store_again_keeps_it(store: Store, folder: Path) -> None:
    """`create` on a store that has objects changes nothing."""
    store.put("a", DATA)
    again = open_store(f"local:{folder}", create=True)
    assert again.get("a") == DATA


@contextmanager
def files_no_larger_than(size: int) -> Iterator[None]:
    """As on a disk that is nearly full: the system takes a part of a write, then no more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_no_room(store: Store, folder: Path) -> None:
    """A write that the system cuts off in the middle: named, nothing stays, and later it works."""
    with files_no_larger_than(1_000_000), pytest.raises(StoreFull):
        store.put("wal/0001", DATA)
    assert files(folder) == {MARKER}
    assert store.put("wal/0001", DATA).proof == "read_back"


def test_no_room_for_a_fetch(store: Store, tmp_path: Path) -> None:
    """A full target is named as the place, not the store that was read."""
    store.put("part", DATA)
    target = tmp_path / "restored"
    with files_no_larger_than(1_000_000), pytest.raises(StoreFull) as caught:
        store.fetch("part", target, SHA256)
    assert caught.value.place == str(target)
    assert not target.exists()


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.ENOSPC, StoreFull),
        (errno.EDQUOT, StoreFull),
        (errno.EACCES, StoreRefused),
        (errno.EROFS, StoreRefused),
        (errno.ENOENT, StoreAbsent),
        (errno.EIO, StoreError),
    ],
)
def test_the_systems_errors_are_named(number: int, kind: type[StoreError]) -> None:
    """Full, forbidden, gone and broken are different errors with different remedies."""
    with pytest.raises(StoreError) as caught, os_errors("/mnt/disk/a"):
        raise OSError(number, os.strerror(number))
    assert type(caught.value) is kind
    assert caught.value.place == "/mnt/disk/a"
    assert caught.value.remedy


def test_too_large_an_object(store: Store, folder: Path) -> None:
    """Objects are held in memory: a larger one is neither put nor got."""
    with pytest.raises(UsageError):
        store.put("a", bytes(LIMITS.most_bytes + 1))
    with (folder / "huge").open("wb") as file:
        file.truncate(LIMITS.most_bytes + 1)
    with pytest.raises(ObjectCorrupt, match="more than any object"):
        store.get("huge")


def test_rights(store: Store) -> None:
    """A folder of ours can be read, written and deleted in."""
    assert store.rights() == Rights(read=True, write=True, list=True, delete=True)


def test_rivals_with_other_bytes(store: Store, folder: Path) -> None:
    """Of many who put different bytes under one name at once, one wins and all others are told."""
    start = threading.Barrier(8)

    def put(number: int) -> bool:
        start.wait()
        try:
            store.put("wal/0001", bytes([number]) * 100_000)
        except ObjectConflict:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(put, range(8)))
    assert won.count(True) == 1
    assert store.get("wal/0001") == bytes([won.index(True)]) * 100_000
    assert files(folder) == {MARKER, "wal/0001"}


def test_rivals_with_the_same_bytes(store: Store) -> None:
    """Many who put the same all succeed."""
    with ThreadPoolExecutor(8) as pool:
        stored = set(pool.map(lambda _: store.put("wal/0001", DATA).sha256, range(8)))
    assert stored == {SHA256}


class _Forgetful(LocalFolder):
    """A disk that says it has written, and has not."""

    def write(self, name: str, data: bytes, sha256: str) -> None:
        super().write(name, bytes(len(data)), sha256)


class _Losing(LocalFolder):
    """A disk that loses what it was given."""

    def write(self, name: str, data: bytes, sha256: str) -> None:
        """Nothing."""


@pytest.mark.parametrize("kind", [_Forgetful, _Losing])
def test_a_lying_disk_is_found_out(folder: Path, kind: type[LocalFolder]) -> None:
    """A put that did not store what it was given never succeeds, however often it is tried."""
    backend = kind(folder)
    backend.create()
    with pytest.raises(ObjectCorrupt):
        SteadyStore(backend, LIMITS).put("a", DATA)


class _Hanging(LocalFolder):
    """A share whose server does not answer."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.gate = threading.Event()

    @contextmanager
    def _marker(self, mode: int = os.O_RDONLY) -> Iterator[int]:
        self.gate.wait(20)
        with super()._marker(mode) as fd:
            yield fd


def test_a_hanging_share_does_not_hang_us(folder: Path) -> None:
    """Every call on it ends within the limit."""
    backend = _Hanging(folder)
    backend.create()
    store = SteadyStore(backend, Limits(total_s=0.05))
    calls = (
        lambda: store.put("a", b"x"),
        lambda: store.get("a"),
        lambda: store.stat("a"),
        lambda: list(store.list("")),
        lambda: store.delete("a"),
    )
    for call in calls:
        with pytest.raises(StoreUnreachable, match="no end within"):
            call()
    backend.gate.set()
