"""Every object of a store flipped, cut off, swapped, deleted or hidden: named, never taken for good."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from backup_runs import KEYS, Clock, PlayedSource, settings, wish
from faulty_store import FaultyStore
from flipped import flipped
from memory_store import MemoryStore

from dreamseed_cli.backup import recover
from dreamseed_cli.backup.catalog import Catalog, Damaged, Entry, read_catalog
from dreamseed_cli.backup.folders import (
    REREAD_RUNS,
    backup_folder,
    known_blobs,
)
from dreamseed_cli.backup.keys import Identity, WrongKey
from dreamseed_cli.backup.logical.proof import DigestsDiffer
from dreamseed_cli.backup.manifest import Folder, Stream
from dreamseed_cli.backup.names import BLOBS, Kind
from dreamseed_cli.backup.physical.recovery import Goal
from dreamseed_cli.backup.physical.verify import CopyDiffers
from dreamseed_cli.backup.pipeline import Downloader, Uploader
from dreamseed_cli.backup.preview import skipped_for
from dreamseed_cli.backup.recover import BackupDamaged, Recovery
from dreamseed_cli.backup.restore_folders import FolderInvalid, restore_folder
from dreamseed_cli.backup.run import run_backup
from dreamseed_cli.backup.source import Produced
from dreamseed_cli.backup.store.base import Store, Stored
from dreamseed_cli.backup.store.errors import ObjectCorrupt, ObjectMissing
from dreamseed_cli.backup.tar import TarBroken
from dreamseed_cli.backup.verify import choose, offer, verify
from dreamseed_cli.core.errors import DreamseedError, ErrorGroup, UsageError

ROWS = (b"some rows", b"more rows")
FILES = {"a.bin": b"a picture", "b.bin": b"another one"}
Damage = Callable[[MemoryStore, str], None]


class SmallParts(PlayedSource):
    """Its stream becomes several parts."""

    def produce(self, uploader: Uploader) -> Produced:
        usual, uploader.part_bytes = uploader.part_bytes, 6
        try:
            return super().produce(uploader)
        finally:
            uploader.part_bytes = usual


class Silent(MemoryStore):
    """Its listing tells no digests, as a folder's does not."""

    def list(self, prefix: str) -> Iterator[Stored]:
        return iter([replace(stored, sha256=None) for stored in super().list(prefix)])


@dataclass(frozen=True)
class Kept:
    """Two good backups in a store: the ids, the older one first. uploads: the folder that was taken along."""

    store: MemoryStore
    older: str
    newer: str
    uploads: Path


@pytest.fixture
def memory() -> Iterator[Path]:
    """A folder that is in no hurry to any disk: hundreds of restored files are synced here."""
    with tempfile.TemporaryDirectory(prefix="ds-damage-", dir="/dev/shm") as name:
        yield Path(name)


@pytest.fixture
def kept(memory: Path) -> Kept:
    """The second one has new rows, an old file and a new one."""
    return kept_in(MemoryStore(), memory)


def kept_in(store: MemoryStore, memory: Path) -> Kept:
    """See kept()."""
    clock = Clock()
    uploads = memory / "uploads"
    uploads.mkdir()
    (uploads / "a.bin").write_bytes(FILES["a.bin"])
    older = backed_up(store, clock, uploads, ROWS[:1])
    clock.pass_days(1)
    (uploads / "b.bin").write_bytes(FILES["b.bin"])
    return Kept(store, older, backed_up(store, clock, uploads, ROWS), uploads)


def backed_up(store: Store, clock: Clock, uploads: Path, rows: tuple[bytes, ...]) -> str:
    """The id of a new backup."""

    def take(uploader: Uploader, known: Sequence[Entry]) -> tuple[tuple[Folder, ...], tuple[Stream, ...]]:
        saved = backup_folder("uploads", uploads, uploader, known_blobs(known, KEYS.recipients))
        return (saved.folder,), (saved.stream,)

    return run_backup(store, SmallParts(rows), wish(clock), take_folders=take).id


def restored(
    store: Store, backup_id: str | None, to: Path, key: Identity = KEYS.daily
) -> tuple[bytes, dict[str, bytes]]:
    """All that a restore gives: the stream, and the files by name."""
    entry = choose(read_catalog(store), backup_id)
    download = Downloader(store, entry.manifest, [key])
    rows = b"".join(download.stream("played"))
    restore_folder(entry.manifest.folders[0], download, to)
    return rows, {path.name: path.read_bytes() for path in to.iterdir()}


def flip(store: MemoryStore, name: str) -> None:
    """A bit in the middle."""
    store.objects[name] = flipped(store.objects[name])


def truncate(store: MemoryStore, name: str) -> None:
    """Its last byte is gone."""
    store.objects[name] = store.objects[name][:-1]


def swap(store: MemoryStore, name: str) -> None:
    """With another one of its kind."""
    kind = name.split("/", maxsplit=1)[0]
    others = [
        other
        for other in sorted(store.objects)
        if other.split("/")[0] == kind
        and other != name
        and other.endswith(".json") == name.endswith(".json")
        and store.objects[other] != store.objects[name]
    ]
    store.objects[name], store.objects[others[0]] = store.objects[others[0]], store.objects[name]


def delete(store: MemoryStore, name: str) -> None:
    """All of it is gone."""
    del store.objects[name]


def objects_of(kept: Kept) -> list[str]:
    """All that hold something."""
    return [name for name, data in sorted(kept.store.objects.items()) if data]


@pytest.mark.parametrize("damage", [flip, truncate, swap, delete])
def test_damage_of_any_object_is_named_and_what_is_good_comes_back(
    kept: Kept, damage: Damage, memory: Path
) -> None:
    """Each backup gives back all that it held or an error: other bytes, never. Both are lost at no place but
    the one where both need the same object; and the next run makes a good one, its files too.
    """
    good = {
        kept.older: (ROWS[0], {"a.bin": FILES["a.bin"]}),
        kept.newer: (b"".join(ROWS), FILES),
    }
    whole = dict(kept.store.objects)
    for number, name in enumerate(objects_of(kept)):
        kept.store.objects = dict(whole)
        damage(kept.store, name)
        came = {id_: outcome(kept.store, id_, memory / f"{number}-{id_}") for id_ in good}
        failed = [id_ for id_, found in came.items() if isinstance(found, DreamseedError)]
        assert all(came[id_] == good[id_] for id_ in good.keys() - failed), name
        assert failed, f"nobody noticed {name}"
        assert len(failed) == 1 or name.startswith("blobs/") or damage is swap, name
        clock = Clock()
        clock.pass_days(2)
        after = backed_up(kept.store, clock, kept.uploads, ROWS)
        assert choose(read_catalog(kept.store), None).id == after
        assert restored(kept.store, after, memory / f"{number}-next") == (b"".join(ROWS), FILES), name


@pytest.mark.parametrize("damage", [truncate, delete])
def test_a_lost_content_takes_no_database_along(kept: Kept, damage: Damage) -> None:
    """Those backups say what of their folders is lost, and their databases still come back."""
    for name in [name for name in objects_of(kept) if name.startswith(BLOBS)]:
        damage(kept.store, name)
    catalog = read_catalog(kept.store)
    for id_, rows, lost in ((kept.older, ROWS[:1], 1), (kept.newer, ROWS, 2)):
        entry = choose(catalog, id_)
        assert len(entry.lost) == lost
        assert all(BLOBS + sha256 in error.place for sha256, error in entry.lost.items())
        assert stream(kept.store, id_) == b"".join(rows)
    assert catalog.next_older(kept.newer) is None


def test_a_run_whose_folders_the_store_does_not_list_is_no_success(kept: Kept) -> None:
    """They were stored, and are gone when the run looks at its backup as a restore would."""

    class Forgetting(Silent):
        """Loses folders' contents as soon as a manifest is there."""

        def put(self, name: str, data: bytes) -> Stored:
            stored = super().put(name, data)
            if name.endswith("manifest.json"):
                self.objects = {
                    name: data for name, data in self.objects.items() if not name.startswith(BLOBS)
                }
            return stored

    with pytest.raises(ErrorGroup, match="content of the folder 'uploads'"):
        backed_up(Forgetting(), Clock(), kept.uploads, ROWS)


def test_a_flipped_content_that_no_listing_shows_is_mended_within_a_month(memory: Path) -> None:
    """Where a listing tells sizes only, each content is read again in one of so many runs; what is stored
    anew then stays the one that is named, though the damaged one is still there, also when no backup names
    that one any more.
    """
    kept = kept_in(Silent(), memory)
    for name in [name for name in objects_of(kept) if name.startswith(BLOBS)]:
        flip(kept.store, name)
    with pytest.raises(DreamseedError):
        restored(kept.store, None, memory / "damaged")
    clock = Clock()
    newest = backed_up_for_a_month(kept, clock)
    assert restored(kept.store, newest, memory / "mended")[1] == FILES
    older = [entry.id for entry in read_catalog(kept.store).backups if entry.id != newest]
    for name in [name for name in kept.store.objects if any(id_ in name for id_ in older)]:
        delete(kept.store, name)
    newest = backed_up_for_a_month(kept, clock)
    assert restored(kept.store, newest, memory / "still")[1] == FILES


def backed_up_for_a_month(kept: Kept, clock: Clock) -> str:
    """Each content's turn to be read again comes; the id of the last backup."""
    for _ in range(REREAD_RUNS):
        clock.pass_days(1)
        newest = backed_up(kept.store, clock, kept.uploads, ROWS)
    return newest


def outcome(store: Store, backup_id: str, to: Path) -> tuple[bytes, dict[str, bytes]] | DreamseedError:
    """What a restore gives, or its error."""
    try:
        return restored(store, backup_id, to)
    except DreamseedError as error:
        return error


def test_a_damaged_newest_names_itself_and_the_older_one(kept: Kept) -> None:
    """Whichever of its parts, or its manifest, is damaged in a way that a listing shows. Taking the older one
    instead is no silent choice.
    """
    whole = dict(kept.store.objects)
    names = [name for name in objects_of(kept) if kept.newer in name]
    assert len(names) >= 3  # its manifest and two parts
    for name in names:
        kept.store.objects = dict(whole)
        truncate(kept.store, name)
        catalog = read_catalog(kept.store)
        chosen = choose(catalog, None)
        assert chosen.id == kept.older
        (skipped,) = skipped_for(catalog, chosen, None, Goal())
        assert skipped.id == kept.newer
        assert name in str(skipped.errors[0])
        with pytest.raises(UsageError, match=kept.older) as caught:
            choose(catalog, kept.newer)
        assert name in str(caught.value)


def test_only_what_a_restore_would_have_begun_with_is_called_skipped(kept: Kept) -> None:
    """Not a damaged one when somebody named another, nor an older one, nor a logical one on the way to a
    moment; a damaged physical one only for goals behind its start.
    """
    chosen = choose(read_catalog(kept.store), kept.older)
    newer, before = "20251111T030000Z-physical-00000001", "20251109T030000Z-physical-00000002"
    logical = kept.newer
    ids = (newer, logical, before)
    catalog = Catalog(damaged=tuple(Damaged(id_, (ObjectMissing("gone"),)) for id_ in ids))

    def skipped(wanted: str | None, goal: Goal) -> set[str]:
        return {one.id for one in skipped_for(catalog, chosen, wanted, goal)}

    assert skipped("latest", Goal()) == {newer, logical}
    assert skipped(kept.older, Goal()) == set()
    assert skipped(None, Goal("name", "a-point")) == {newer}
    stamp = datetime(2025, 11, 11, 3, tzinfo=UTC)
    assert skipped(None, Goal("time", stamp)) == {newer}
    assert skipped(None, Goal("time", stamp - timedelta(seconds=1))) == set()


def test_an_older_backup_of_the_same_kind_is_offered_first(kept: Kept) -> None:
    """A logical one goes into no folder, and no WAL takes it further: it stands in for a physical one only
    where there is no other.
    """
    catalog = read_catalog(kept.store)
    damaged = "20251112T030000Z-physical-00000001"
    assert offer(catalog, damaged) == f"The next older good one is {kept.newer}."
    newer, older = catalog.backups
    identity = older.manifest.identity.model_copy(update={"kind": Kind.PHYSICAL})
    physical = replace(older, manifest=older.manifest.model_copy(update={"identity": identity}))
    mixed = Catalog(backups=(newer, physical))
    assert offer(mixed, damaged) == f"The next older good one is {kept.older}."
    assert offer(mixed, damaged.replace("physical", "logical")) == f"The next older good one is {kept.newer}."
    assert offer(mixed, kept.older) == "There is no older good one."


@pytest.mark.parametrize(
    "damage",
    [ObjectMissing, ObjectCorrupt, TarBroken, CopyDiffers, DigestsDiffer, FolderInvalid],
)
def test_a_restore_that_finds_damage_names_it_and_the_older_backup(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: type[DreamseedError]
) -> None:
    """Whatever shows it, and with the remedy that it had."""
    host, clock = settings(tmp_path / "home"), Clock()
    uploads = tmp_path / "uploads"
    uploads.mkdir()
    older = backed_up(host.open(), clock, uploads, ROWS)
    clock.pass_days(1)
    backed_up(host.open(), clock, uploads, ROWS)

    def broken(*_: object) -> None:
        raise damage("other bytes", place="there", remedy="Use nothing of it.")

    monkeypatch.setattr(recover, "restore_folders", broken)
    with pytest.raises(BackupDamaged) as caught:
        Recovery.look(host, None, None, Goal()).folders_into(tmp_path / "to", print)
    assert caught.value.to_data() == {
        "kind": "backup_damaged",
        "place": "there",
        "cause": f"other bytes ({damage.kind})",
        "remedy": f"Use nothing of it. The next older good one is {older}.",
    }


def test_verify_names_every_damaged_object(kept: Kept) -> None:
    """All at once; neither a record of a proof nor anything else is written."""
    manifest = choose(read_catalog(kept.store), None).manifest
    names = [name for name in objects_of(kept) if f"{kept.newer}/parts" in name or name.startswith("blobs/")]
    for name in names:
        flip(kept.store, name)
    before = set(kept.store.objects)
    for keys in ([], [KEYS.daily]):
        done = verify(kept.store, manifest, keys, Clock().now)
        assert sorted(error.place.split(": ")[-1].removeprefix("memory/") for error in done.errors) == names
    assert set(kept.store.objects) == before


def test_hidden_objects_are_missing_ones(kept: Kept) -> None:
    """An object that a store stops showing, at whichever call: an error, or another good backup."""
    watched = FaultyStore(kept.store)
    stream(watched, kept.newer)
    for call in range(len(watched.calls)):
        hiding = FaultyStore(kept.store, {call: "missing"})
        try:
            assert stream(hiding, kept.newer) == b"".join(ROWS)
        except (ObjectMissing, UsageError):
            continue


def stream(store: Store, backup_id: str) -> bytes:
    """The rows of a backup."""
    entry = choose(read_catalog(store), backup_id)
    return b"".join(Downloader(store, entry.manifest, [KEYS.daily]).stream("played"))


def test_a_wrong_key_opens_neither_rows_nor_files(kept: Kept, memory: Path) -> None:
    """And says that it is the key."""
    with pytest.raises(WrongKey):
        restored(kept.store, None, memory / "wrong", Identity.create())
    assert restored(kept.store, None, memory / "right", KEYS.recovery)[1] == FILES
