"""Proves a backup once more: every object is read again, and opened where the private key is there."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from dreamseed_cli.backup.catalog import Catalog, Entry
from dreamseed_cli.backup.keys import Identity, WrongKey
from dreamseed_cli.backup.manifest import Level, Manifest
from dreamseed_cli.backup.names import Kind, NameInvalid, parse_backup_id, verification_name
from dreamseed_cli.backup.pipeline import Downloader, Told, reread
from dreamseed_cli.backup.pool import Pool
from dreamseed_cli.backup.store.base import Store
from dreamseed_cli.core.errors import DreamseedError, UsageError


@dataclass(frozen=True, slots=True)
class Verified:
    """errors: what is wrong with which object; none: all is as it was uploaded. opened: decrypted too."""

    backup_id: str
    errors: tuple[DreamseedError, ...]
    objects: int
    stored_bytes: int
    opened: bool

    @property
    def good(self) -> bool:
        return not self.errors


def verify(
    store: Store,
    manifest: Manifest,
    identities: Sequence[Identity],
    now: datetime,
    *,
    threads: int = 2,
    told: Told = lambda _plain, _stored: None,
) -> Verified:
    """Read everything of a backup again and compare; a good one gets a record of it.

    identities: none compares the stored bytes only, which needs no key. WrongKey if they open none of it.
    """
    opened = bool(identities)
    errors = (
        _open_all(Downloader(store, manifest, identities, told=told), threads)
        if opened
        else reread(store, manifest, threads=threads, told=told)
    )
    backup_id = manifest.identity.backup_id
    if not errors:
        record_proof(store, backup_id, Level.REREAD, now)
    blobs = [blob for folder in manifest.folders for blob in folder.blobs]
    return Verified(
        backup_id,
        errors,
        objects=len(manifest.parts) + len(blobs),
        stored_bytes=manifest.stored_bytes + sum(blob.stored_size for blob in blobs),
        opened=opened,
    )


def record_proof(store: Store, backup_id: str, level: Level, now: datetime) -> None:
    """Say for good what was proven of a backup."""
    store.put(verification_name(backup_id, now, level), b"")


def choose(catalog: Catalog, wanted: str | None, kind: Kind | None = None) -> Entry:
    """The good backup that is meant: by its id, the start of one, or the newest (None, `latest`).

    kind: of the newest, if there is one of it. UsageError if there is none, several, or only a damaged one:
    it names the next older good one.
    """
    if wanted in {None, "latest"}:
        newest = catalog.newest(kind) or catalog.newest()
        if newest is None:
            raise UsageError("there is no good backup", remedy="Make one: dreamseed backup.")
        return newest
    found = [entry for entry in catalog.backups if entry.id.startswith(str(wanted))]
    if len(found) == 1:
        return found[0]
    if found:
        raise UsageError(f"{len(found)} backups begin so", place=str(wanted), remedy="Give the whole id.")
    raise _none_such(catalog, str(wanted))


def offer(catalog: Catalog, backup_id: str) -> str:
    """What to do about a damaged backup. One of its kind comes first: the other kind restores into something
    else, and loses something else.
    """
    kind = parse_backup_id(backup_id).kind
    older = list(_older(catalog, backup_id))
    best = next((entry for entry in older if entry.manifest.identity.kind is kind), next(iter(older), None))
    return f"The next older good one is {best.id}." if best else "There is no older good one."


def _older(catalog: Catalog, backup_id: str) -> Iterator[Entry]:
    """The good ones, newest first."""
    entry = catalog.next_older(backup_id)
    while entry is not None:
        yield entry
        entry = catalog.next_older(entry.id)


def _none_such(catalog: Catalog, wanted: str) -> UsageError:
    damaged = next((entry for entry in catalog.damaged if entry.id == wanted), None)
    if damaged is not None:
        causes = "; ".join(str(error) for error in damaged.errors[:3])
        return UsageError(f"this backup is damaged: {causes}", place=wanted, remedy=offer(catalog, wanted))
    if any(run.id == wanted for run in catalog.incomplete):
        return UsageError(
            "this run never finished: it is no backup", place=wanted, remedy="See dreamseed backup list."
        )
    try:
        parse_backup_id(wanted)
    except NameInvalid as error:
        return UsageError(error.cause, place=wanted, remedy=error.remedy)
    return UsageError("the store has no such backup", place=wanted, remedy="See dreamseed backup list.")


def _open_all(downloader: Downloader, threads: int) -> tuple[DreamseedError, ...]:
    manifest = downloader.manifest
    blobs = [blob for folder in manifest.folders for blob in folder.blobs]
    tries: list[Callable[[], object]] = [
        *(lambda part=part: downloader.part(part) for part in manifest.parts),
        *(lambda blob=blob: downloader.blob(blob) for blob in blobs),
    ]
    with Pool(threads, "verify") as pool:
        return tuple(error for error in pool.map(_failure, tries) if error is not None)


def _failure(attempt: Callable[[], object]) -> DreamseedError | None:
    try:
        attempt()
    except WrongKey:
        raise  # of the key, not of the object
    except DreamseedError as error:
        return error
    return None
