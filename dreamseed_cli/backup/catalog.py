"""What a store holds: its backups, newest first, and what only looks like one."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from dreamseed_cli.backup.manifest import (
    Blob,
    Level,
    Manifest,
    ManifestInvalid,
    ManifestTooNew,
    Proof,
    StoredPart,
    oldest_first,
    parse_manifest,
)
from dreamseed_cli.backup.names import (
    BACKUPS,
    BLOBS,
    PINS,
    VERIFICATIONS,
    Kind,
    NameInvalid,
    blob_name,
    manifest_name,
    parse_backup_object,
    parse_pin,
    parse_verification,
    part_name,
)
from dreamseed_cli.backup.pool import Pool
from dreamseed_cli.backup.retention import Backup
from dreamseed_cli.backup.store.base import Store, Stored
from dreamseed_cli.backup.store.errors import ObjectCorrupt, ObjectMissing, StoreRefused
from dreamseed_cli.backup.wal_names import SegmentRange, WalSegment, parse_lsn
from dreamseed_cli.core.errors import DreamseedError, ErrorGroup

_READERS: Final = 8
"""Manifests read at once: a far store answers slowly, not often."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A backup whose database is there whole, as far as names, sizes and its manifest tell.

    proof: the highest that is recorded, in the manifest or later. pinned: likewise. lost: contents of its
    folders that are missing or changed, by their plain SHA-256. Many backups share one: were they no backups
    any more, one lost picture would take all databases along, and retention the WAL behind them.
    """

    manifest: Manifest
    proof: Proof
    pinned: bool
    lost: Mapping[str, DreamseedError] = field(default_factory=dict)

    @property
    def id(self) -> str:
        return self.manifest.identity.backup_id

    def for_retention(self) -> Backup:
        """What retention needs to know of it."""
        identity = self.manifest.identity
        return Backup(
            id=self.id,
            sequence=identity.sequence,
            kind=identity.kind,
            started=self.manifest.span.started,
            level=self.proof.level,
            wal=_wal_range(self.manifest),
            cluster=identity.system_identifier,
        )


@dataclass(frozen=True, slots=True)
class Damaged:
    """A manifest is there, but it cannot be trusted, or parts that it names are missing or changed."""

    id: str
    errors: tuple[DreamseedError, ...]


@dataclass(frozen=True, slots=True)
class Incomplete:
    """Parts without a manifest: a run that is under way, or one that failed. No backup."""

    id: str
    objects: tuple[str, ...]
    size: int
    newest_upload: datetime


@dataclass(frozen=True, slots=True)
class Catalog:
    """backups: newest first, by sequence number. foreign: names under `backups/` that are not ours."""

    backups: tuple[Entry, ...] = ()
    damaged: tuple[Damaged, ...] = ()
    incomplete: tuple[Incomplete, ...] = ()
    foreign: tuple[str, ...] = ()

    def newest(self, kind: Kind | None = None) -> Entry | None:
        """The newest good backup, of a kind if one is given."""
        return next((entry for entry in self.backups if kind in {None, entry.manifest.identity.kind}), None)

    def next_older(self, backup_id: str) -> Entry | None:
        """The good backup to offer when this one turns out to be damaged: the newest that is older.

        A damaged id is placed by its stamp, since its sequence number cannot be read. For one whose folders
        are not whole, one whose folders are.
        """
        ids = [entry.id for entry in self.backups]
        if backup_id in ids:
            at = ids.index(backup_id)
            older = self.backups[at + 1 :]
            return next((entry for entry in older if not (self.backups[at].lost and entry.lost)), None)
        return next((entry for entry in self.backups if entry.id < backup_id), None)


@dataclass(slots=True)
class _Listing:
    """The objects of one backup id."""

    manifest: Stored | None = None
    parts: dict[int, Stored] = field(default_factory=dict)

    @property
    def objects(self) -> list[Stored]:
        return list(self.parts.values())


def read_catalog(store: Store, known: Iterable[Manifest] = ()) -> Catalog:
    """List and read all manifests. Store errors other than a missing or corrupt object are raised.

    Parts and folders' contents are compared by name and size, and by digest where the store tells one; they
    are not downloaded.
    known: manifests read before, which never change: they are listed again, and not fetched.
    """
    read = {manifest.identity.backup_id: manifest for manifest in known}
    listings, foreign = _list_backups(store)
    proofs, pins = _proofs(store), _pins(store)
    complete = [id_ for id_, listing in listings.items() if listing.manifest is not None]
    asked = [id_ for id_ in complete if id_ not in read]
    with Pool(_READERS, "catalog") as pool:
        fetched = dict(zip(asked, pool.map(_reader(store), asked), strict=True))
    manifests = {id_: fetched.get(id_) or read[id_] for id_ in complete}
    blobs = _list_blobs(store, manifests.values())
    good: list[Entry] = []
    damaged: list[Damaged] = []
    for id_, found in manifests.items():
        errors = _part_errors(found, listings[id_], store.name) if isinstance(found, Manifest) else found
        if isinstance(found, Manifest) and not errors:
            proof, pinned = _highest([found.proof, *proofs[id_]]), found.pinned or id_ in pins
            good.append(Entry(found, proof, pinned, _lost(found, blobs, store.name)))
        else:
            damaged.append(Damaged(id_, tuple(errors)))
    return Catalog(
        backups=tuple(sorted(good, key=_age_order, reverse=True)),
        damaged=tuple(sorted(damaged, key=lambda entry: entry.id, reverse=True)),
        incomplete=tuple(
            _incomplete(id_, listings[id_]) for id_ in sorted(listings.keys() - set(complete), reverse=True)
        ),
        foreign=tuple(foreign),
    )


def hidden(store: Store, runs: Iterable[str]) -> frozenset[str]:
    """Of the ids of unfinished runs, those whose manifest another program hid: shown again, they are backups
    again. StoreRefused where the key may not list versions.
    """
    return frozenset(id_ for id_ in runs if not all(one.marker for one in store.versions(manifest_name(id_))))


def hidden_if_told(store: Store, catalog: Catalog) -> frozenset[str]:
    """The same for a list to people: none where the key may not ask."""
    with suppress(StoreRefused):
        return hidden(store, (run.id for run in catalog.incomplete))
    return frozenset()


def _list_backups(store: Store) -> tuple[dict[str, _Listing], list[str]]:
    listings: defaultdict[str, _Listing] = defaultdict(_Listing)
    foreign: list[str] = []
    for stored in store.list(BACKUPS):
        try:
            found = parse_backup_object(stored.name)
        except NameInvalid:
            foreign.append(stored.name)
            continue
        if found.part is None:
            listings[found.backup_id].manifest = stored
        else:
            listings[found.backup_id].parts[found.part] = stored
    return dict(listings), foreign


def _list_blobs(store: Store, found: Iterable[Manifest | tuple[DreamseedError, ...]]) -> dict[str, Stored]:
    """Folders' contents by name; not asked for where no backup has any."""
    if not any(one.folders for one in found if isinstance(one, Manifest)):
        return {}
    return {stored.name: stored for stored in store.list(BLOBS)}


def _proofs(store: Store) -> defaultdict[str, list[Proof]]:
    proofs: defaultdict[str, list[Proof]] = defaultdict(list)
    for stored in store.list(VERIFICATIONS):
        try:
            found = parse_verification(stored.name)
            proofs[found.backup_id].append(Proof(level=Level(found.level), at=found.at))
        except (NameInvalid, ValueError):
            continue  # a level that a newer version may know proves nothing to this one
    return proofs


def _pins(store: Store) -> set[str]:
    pins: set[str] = set()
    for stored in store.list(PINS):
        try:
            pins.add(parse_pin(stored.name))
        except NameInvalid:
            continue
    return pins


def _reader(store: Store) -> Callable[[str], Manifest | tuple[DreamseedError, ...]]:
    """Reads one manifest, or says why it cannot be trusted."""

    def read(backup_id: str) -> Manifest | tuple[DreamseedError, ...]:
        name = manifest_name(backup_id)
        try:
            manifest = parse_manifest(store.get(name), place=f"{store.name}: {name}")
        except (ObjectMissing, ObjectCorrupt, ManifestInvalid, ManifestTooNew, ErrorGroup) as error:
            return tuple(error.causes())
        if manifest.identity.backup_id != backup_id:
            told = manifest.identity.backup_id
            return (ManifestInvalid(f"it is the manifest of {told}", place=f"{store.name}: {name}"),)
        return manifest

    return read


def _part_errors(manifest: Manifest, listing: _Listing, store: str) -> tuple[DreamseedError, ...]:
    """Parts that are missing, of another size, or of another digest than the manifest says."""
    return tuple(
        error
        for part in manifest.parts
        if (error := _part_error(part, listing.parts.get(part.index), manifest, store)) is not None
    )


def _part_error(
    part: StoredPart, stored: Stored | None, manifest: Manifest, store: str
) -> DreamseedError | None:
    place = f"{store}: {part_name(manifest.identity.backup_id, part.index)}"
    return _object_error(part, stored, f"a part of '{part.stream}'", place)


def _lost(manifest: Manifest, stored: Mapping[str, Stored], store: str) -> dict[str, DreamseedError]:
    """Contents of its folders that are missing, of another size, or of another digest than it says."""
    lost: dict[str, DreamseedError] = {}
    for folder in manifest.folders:
        for blob in folder.blobs:
            name = blob_name(blob.plain_sha256)
            what = f"content of the folder '{folder.name}'"
            error = _object_error(blob, stored.get(name), what, f"{store}: {name}")
            if error is not None:
                lost[blob.plain_sha256] = error
    return lost


def _object_error(
    told: StoredPart | Blob, stored: Stored | None, what: str, place: str
) -> DreamseedError | None:
    """told: what the manifest says of it. stored: what the store lists; None: nothing."""
    if stored is None:
        return ObjectMissing(f"{what} is not in the store", place=place)
    if stored.size != told.stored_size:
        return ObjectCorrupt(f"it has {stored.size} bytes, the manifest says {told.stored_size}", place=place)
    if stored.sha256 not in {None, told.cipher_sha256}:
        return ObjectCorrupt("its SHA-256 is not the one in the manifest", place=place)
    return None


def _incomplete(backup_id: str, listing: _Listing) -> Incomplete:
    objects = listing.objects
    return Incomplete(
        id=backup_id,
        objects=tuple(stored.name for stored in objects),
        size=sum(stored.size for stored in objects),
        newest_upload=max(stored.uploaded for stored in objects),
    )


def _highest(proofs: Iterable[Proof]) -> Proof:
    """The highest level, and when it was last proven."""
    return max(proofs, key=lambda proof: (proof.level.rank, proof.at.timestamp() if proof.at else 0.0))


def _age_order(entry: Entry) -> tuple[int, datetime, str]:
    return oldest_first(entry.manifest.span.started, entry.manifest.identity.sequence, entry.id)


def _wal_range(manifest: Manifest) -> SegmentRange | None:
    wal = manifest.wal
    if wal is None:
        return None
    first = WalSegment.holding(parse_lsn(wal.start_lsn), wal.timeline, wal.segment_bytes)
    last = WalSegment.ending_at(parse_lsn(wal.stop_lsn), wal.timeline, wal.segment_bytes)
    return SegmentRange(first.number, max(first.number, last.number))
