"""Folders come back as they were, and equal content is stored once."""

import json
import os
import random
import shutil
import socket
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest
from backup_kills import killed
from faulty_store import STORE_FAULTS, FaultyStore, StoreFault
from logical_backups import KEYS, manifest_of, new_downloader, new_uploader
from memory_store import MemoryStore

from dreamseed_cli.backup import ending
from dreamseed_cli.backup.catalog import Entry
from dreamseed_cli.backup.cold import copy_backup
from dreamseed_cli.backup.folders import (
    REREAD_RUNS,
    FolderChanging,
    Item,
    Known,
    backup_folder,
    known_blobs,
)
from dreamseed_cli.backup.keys import NewKeys, parse_recipients
from dreamseed_cli.backup.manifest import Manifest, parse_manifest
from dreamseed_cli.backup.names import BLOBS, blob_name, manifest_name
from dreamseed_cli.backup.physical.folder import TargetTaken, held
from dreamseed_cli.backup.pipeline import Downloader, Uploader, reread
from dreamseed_cli.backup.restore_folders import (
    MARKER,
    FolderInvalid,
    RestoredFolders,
    restore_folder,
    restore_folders,
)
from dreamseed_cli.backup.store.base import Store, Stored
from dreamseed_cli.backup.store.errors import ObjectCorrupt, StoreError
from dreamseed_cli.backup.store.open import open_store
from dreamseed_cli.core.errors import UsageError

PART = 1000
WEIGHTS = random.Random(5).randbytes(3500)  # noqa: S311


@pytest.fixture
def store() -> MemoryStore:
    """An empty store."""
    return MemoryStore()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder with all that a folder can have."""
    root = tmp_path / "models"
    (root / "a" / "empty folder").mkdir(parents=True)
    (root / "a" / "weights").write_bytes(WEIGHTS)
    (root / "copy").write_bytes(WEIGHTS)
    (root / "nothing").touch()
    (root / "기억 \n").write_text("text")
    (root / os.fsdecode(b"\xff")).write_text("no text for a name")
    (root / "link").symlink_to("a")
    (root / "copy").chmod(0o640)
    os.utime(root / "a", ns=(1, 1_700_000_000_123_456_789))
    return root


def save(store: Store, root: Path, *known: Manifest) -> Manifest:
    """A backup of the folder."""
    with new_uploader(store, part_bytes=PART) as uploader:
        entries = [Entry(manifest, manifest.proof, pinned=False) for manifest in known]
        saved = backup_folder("models", root, uploader, known_blobs(entries, KEYS.recipients))
        return manifest_of(uploader.backup_id, [saved.stream], uploader.parts(), folders=[saved.folder])


def load(store: Store, manifest: Manifest, to: Path) -> int:
    """Restore it; how many files."""
    return restore_folder(manifest.folders[0], new_downloader(store, manifest), to).files


def content(root: Path) -> dict[str, object]:
    """Everything below a folder that a backup keeps."""
    found: dict[str, object] = {}
    for path in root.rglob("*"):
        status = path.lstat()
        what = str(path.readlink()) if path.is_symlink() else path.read_bytes() if path.is_file() else None
        times = 0 if path.is_symlink() else status.st_mtime_ns
        found[str(path.relative_to(root))] = (what, status.st_mode, times)
    return found


def load_all(store: Store, manifest: Manifest, to: Path) -> RestoredFolders:
    """Restore it as the command does."""
    return restore_folders(new_downloader(store, manifest), to, lambda _text: None)


def test_a_folder_comes_back(store: MemoryStore, root: Path, tmp_path: Path) -> None:
    """Files, folders, links, names that are no text, modes and times."""
    manifest = save(store, root)
    assert load(store, manifest, tmp_path / "back") == 5 == manifest.folders[0].files
    assert content(tmp_path / "back") == content(root)
    assert reread(store, manifest) == ()


def test_equal_content_is_stored_once(store: MemoryStore, root: Path) -> None:
    """Within a backup, and from one to the next."""
    first = save(store, root)
    assert len(list(store.list(BLOBS))) == len(first.folders[0].blobs) == 4 + 2  # a WEIGHTS, two texts
    assert save(store, root, first).folders[0].blobs == first.folders[0].blobs
    assert len(list(store.list(BLOBS))) == 6


@pytest.mark.parametrize("kind", ["memory", "local"])
def test_a_content_that_went_and_came_back_is_copied(
    kind: str, store: MemoryStore, root: Path, tmp_path: Path
) -> None:
    """Sealed anew it is other bytes: the second store keeps the first ones, and its manifest names them."""
    cold: Store = MemoryStore() if kind == "memory" else open_store(f"local:{tmp_path / 'cold'}", create=True)
    first = save(store, root)
    copy_backup(store, cold, first)
    for blob in first.folders[0].blobs:
        store.delete(blob_name(blob.plain_sha256))
    again = save(store, root)
    assert again.folders[0].blobs != first.folders[0].blobs
    sent = copy_backup(store, cold, again)
    assert sent == sum(part.stored_size for part in again.parts)
    there = parse_manifest(cold.get(manifest_name(again.identity.backup_id)), place="")
    assert there.folders[0].blobs == first.folders[0].blobs
    assert reread(cold, there) == ()
    load(cold, there, tmp_path / "back")
    assert content(tmp_path / "back") == content(root)
    cold.close()


def test_each_content_is_read_again_in_one_of_so_many_runs(store: MemoryStore, root: Path) -> None:
    """A run reads but its share, and asks nothing about the rest."""
    first = save(store, root)
    watched = FaultyStore(store)
    for sequence in range(1, REREAD_RUNS + 1):
        identity = first.identity.model_copy(update={"sequence": sequence})
        save(watched, root, first.model_copy(update={"identity": identity}))
    asked = [call for call in watched.calls if call[1].startswith(BLOBS)]
    blobs = first.folders[0].blobs
    assert sorted(asked) == sorted(("get", BLOBS + blob.plain_sha256) for blob in blobs)


def test_what_an_unfinished_run_left_is_taken_if_it_is_whole(
    store: MemoryStore, root: Path, tmp_path: Path
) -> None:
    """Equal content sealed twice is never equal; one that was cut off is stored again under another name."""
    save(store, root)
    blobs = [name for name in store.objects if name.startswith(BLOBS)]
    save(store, root)
    assert blobs == [name for name in store.objects if name.startswith(BLOBS)]
    for name in blobs:
        store.objects[name] = store.objects[name][:-1]
    load(store, save(store, root), tmp_path / "back")
    assert content(tmp_path / "back") == content(root)


def test_new_keys_give_new_blobs(store: MemoryStore, root: Path, tmp_path: Path) -> None:
    """A backup to new keys opens with them alone, although the content was there for the old ones."""
    save(store, root)
    keys = NewKeys.create()
    recipients = parse_recipients(keys.recipients, place="test")
    with Uploader(store, "20251110T030000Z-logical-00000000", recipients, part_bytes=PART) as uploader:
        saved = backup_folder("models", root, uploader, Known())
        manifest = manifest_of(uploader.backup_id, [saved.stream], uploader.parts(), folders=[saved.folder])
    downloader = Downloader(store, manifest, [keys.recovery])
    restore_folder(manifest.folders[0], downloader, tmp_path / "back")
    assert content(tmp_path / "back") == content(root)


@pytest.mark.parametrize("fault", STORE_FAULTS)
def test_a_fault_at_every_call(store: MemoryStore, root: Path, tmp_path: Path, fault: StoreFault) -> None:
    """The error comes out, or the backup is whole; later runs can use what a failed one has stored."""
    for at in range(8):
        faulty = FaultyStore(store, {at: fault})
        with suppress(StoreError):
            assert reread(store, save(faulty, root)) == ()
    load(store, save(store, root), tmp_path / "back")
    assert content(tmp_path / "back") == content(root)


def test_a_damaged_blob_is_named(store: MemoryStore, root: Path, tmp_path: Path) -> None:
    """And the file whose piece it was does not appear."""
    manifest = save(store, root)
    sha256 = manifest.folders[0].blobs[0].plain_sha256
    store.objects[BLOBS + sha256] = store.objects[BLOBS + sha256][:-1]
    with pytest.raises(ObjectCorrupt) as caught:
        load(store, manifest, tmp_path / "back")
    assert caught.value.place == BLOBS + sha256
    assert len(reread(store, manifest)) == 1


def test_what_has_no_content_is_told(store: MemoryStore, root: Path) -> None:
    """A socket is skipped, and said to be."""
    with socket.socket(socket.AF_UNIX) as server, new_uploader(store) as uploader:
        server.bind(str(root / "s"))
        assert backup_folder("models", root, uploader, Known()).skipped == (str(root / "s"),)


def test_a_file_that_keeps_changing(root: Path) -> None:
    """It is no backup of anything."""

    class Writing(MemoryStore):
        """Another program writes to the file each time a piece of it is stored."""

        def put(self, name: str, data: bytes) -> Stored:
            with (root / "a" / "weights").open("ab") as file:
                file.write(os.urandom(10))
            return super().put(name, data)

    with new_uploader(Writing(), part_bytes=PART) as uploader, pytest.raises(FolderChanging) as caught:
        backup_folder("models", root, uploader, Known())
    assert caught.value.place == str(root / "a" / "weights")


@pytest.mark.parametrize("path", ["../out", "/etc/out", "a/../../out", ""])
def test_nothing_lies_outside(store: MemoryStore, root: Path, tmp_path: Path, path: str) -> None:
    """A list that would write elsewhere is refused before anything is written."""
    item = Item(path=path, mode=0o600, modified_ns=0, size=0, pieces=(), link=None)
    line = json.dumps({name: getattr(item, name) for name in Item.__slots__}).encode()
    with new_uploader(store) as uploader:
        saved = backup_folder("models", root, uploader, Known())
        stream = uploader.stream("forged", [line])
        folder = saved.folder.model_copy(update={"index_stream": "forged"})
        manifest = manifest_of(uploader.backup_id, [saved.stream, stream], uploader.parts(), folders=[folder])
    with pytest.raises(FolderInvalid):
        load(store, manifest, tmp_path / "x" / "back")
    assert list((tmp_path / "x").rglob("*")) == [tmp_path / "x" / "back"]


def test_refusals(store: MemoryStore, root: Path, tmp_path: Path) -> None:
    """A folder that is not there, and a target that is not empty."""
    manifest = save(store, root)
    with pytest.raises(UsageError, match="no such folder"), new_uploader(store) as uploader:
        backup_folder("models", tmp_path / "none", uploader, Known())
    with pytest.raises(UsageError, match="not empty"):
        load(store, manifest, root)


def test_a_restore_that_is_killed_goes_on(store: MemoryStore, root: Path, tmp_path: Path) -> None:
    """At every call of the store: what is proven to lie there is kept, and only the rest is fetched."""
    manifest = save(store, root)
    watched = FaultyStore(store)
    load_all(watched, manifest, tmp_path / "once")
    assert not (tmp_path / "once" / MARKER).exists()
    kept = []
    for call in range(len(watched.calls)):
        to = tmp_path / f"killed-{call}"
        assert killed(partial(load_all, FaultyStore(store, {call: "killed"}), manifest, to))
        assert (to / MARKER).exists()
        again = FaultyStore(store)
        done = load_all(again, manifest, to)
        assert done.resumed
        assert content(to / "models") == content(root)
        assert list(to.iterdir()) == [to / "models"]
        kept.append((done.kept, len(again.calls)))
    assert kept[0] == (0, len(watched.calls))
    assert kept == sorted(kept, key=lambda one: (one[0], -one[1]))
    assert kept[-1][0] >= len(WEIGHTS)
    assert kept[-1][1] < len(watched.calls)


def test_what_lies_there_is_trusted_only_if_it_is_the_backups(
    store: MemoryStore, root: Path, tmp_path: Path
) -> None:
    """Changed content is fetched, what the backup does not have goes, and types and modes are its own."""
    manifest, to = save(store, root), tmp_path / "to"
    last = len(manifest.folders[0].blobs)
    assert killed(partial(load_all, FaultyStore(store, {last: "killed"}), manifest, to))
    there = to / "models"
    (there / "copy").unlink(missing_ok=True)
    (there / "copy").mkdir()
    (there / "copy" / "inner").touch()
    (there / "a" / "weights").unlink(missing_ok=True)
    (there / "a" / "weights").write_bytes(WEIGHTS[:-1] + bytes([WEIGHTS[-1] ^ 1]))
    (there / "a" / "weights").chmod(0)
    (there / "a" / "not the backup's").touch()
    (there / "a").chmod(0o500)
    (there / "nothing").unlink(missing_ok=True)
    (there / "nothing").symlink_to(root / "copy")
    load_all(store, manifest, to)
    assert content(there) == content(root)


def test_what_lies_there_is_not_read_to_the_end_when_told_to_end(
    store: MemoryStore, root: Path, tmp_path: Path
) -> None:
    """It may be large; the next one can still go on from it."""
    manifest, to = save(store, root), tmp_path / "to"
    last = len(manifest.folders[0].blobs)
    assert killed(partial(load_all, FaultyStore(store, {last: "killed"}), manifest, to))
    before, work, watched = ending.current(), ending.Work(), FaultyStore(store)
    get = watched.get

    def told_behind_the_list(name: str, sha256: str | None = None) -> bytes:
        data = get(name, sha256)
        work.tell()
        return data

    watched.get = told_behind_the_list  # type: ignore[method-assign]
    ending.follow(work)
    try:
        with pytest.raises(KeyboardInterrupt):
            load_all(watched, manifest, to)
    finally:
        ending.follow(before)
    assert not [name for _, name in watched.calls if name.startswith(BLOBS)]
    assert load_all(store, manifest, to).kept


def test_a_folder_that_no_restore_began_is_left_alone(store: MemoryStore, root: Path, tmp_path: Path) -> None:
    """Neither without a mark nor beside one that does not name it; nor beside another restore."""
    manifest = save(store, root)
    (tmp_path / "to" / "models").mkdir(parents=True)
    own = tmp_path / "to" / "models" / "own"
    own.touch()
    for mark in (None, "", "configs\n"):
        if mark is not None:
            (tmp_path / "to" / MARKER).write_text(mark)
        with pytest.raises(UsageError):
            load_all(store, manifest, tmp_path / "to")
        assert list((tmp_path / "to" / "models").iterdir()) == [own]
    with held(tmp_path / "new"), pytest.raises(TargetTaken):
        load_all(store, manifest, tmp_path / "new")


def test_too_little_space_is_told_before_anything_is_fetched(
    store: MemoryStore, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of all the folders; what an interrupted restore has written counts."""
    manifest = save(store, root)
    last = len(manifest.folders[0].blobs)
    assert killed(partial(load_all, FaultyStore(store, {last: "killed"}), manifest, tmp_path / "to"))
    size = manifest.folders[0].size
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: shutil._ntuple_diskusage(0, 0, size - 1))
    watched = FaultyStore(store)
    with pytest.raises(UsageError, match="bytes are needed"):
        load_all(watched, manifest, tmp_path / "new")
    assert watched.calls == []
    assert load_all(watched, manifest, tmp_path / "to").kept
