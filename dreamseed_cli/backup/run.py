"""One backup run, step by step. The manifest goes up last: whatever ends a run earlier leaves no backup.

1. read the catalogue    2. stream the parts    3. the manifest    4. look at it as a restore would
5. delete what no rule keeps    6. the second copy.  5 and 6 happen only after 4, and what fails in them is
reported beside a backup that exists.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

from dreamseed_cli import __version__
from dreamseed_cli.backup.catalog import Catalog, Entry, read_catalog
from dreamseed_cli.backup.keys import parse_recipients
from dreamseed_cli.backup.logical.digests import METHOD
from dreamseed_cli.backup.manifest import (
    Compression,
    Folder,
    Identity,
    Level,
    Manifest,
    Proof,
    Span,
    Stream,
    Versions,
    next_sequence,
)
from dreamseed_cli.backup.names import manifest_name, new_backup_id
from dreamseed_cli.backup.owner import check_backup
from dreamseed_cli.backup.pipeline import Told, Uploader
from dreamseed_cli.backup.prune import Pruned
from dreamseed_cli.backup.source import Produced, Source
from dreamseed_cli.backup.store.base import Store
from dreamseed_cli.backup.verify import record_proof
from dreamseed_cli.core.errors import DreamseedError, ErrorGroup

TakeFolders = Callable[[Uploader, Sequence[Entry]], tuple[tuple[Folder, ...], tuple[Stream, ...]]]
"""Stores the folders' contents, and gives what the manifest says of them and the streams of their indexes. It
is given the good backups, whose contents are not stored again.
"""


def _utc_now() -> datetime:
    return datetime.now(UTC)


def _no_folders(
    _uploader: Uploader, _known: Sequence[Entry]
) -> tuple[tuple[Folder, ...], tuple[Stream, ...]]:
    return (), ()


@dataclass(frozen=True, slots=True)
class Wish:
    """How a run is wanted. recipients: public keys. now: a moment; seconds: a clock that no one sets."""

    recipients: tuple[str, ...]
    level: int = 3
    threads: int = 2
    pin: bool = False
    told: Told = lambda _plain, _stored: None
    now: Callable[[], datetime] = _utc_now
    seconds: Callable[[], float] = time.monotonic


@dataclass(frozen=True, slots=True)
class After:
    """What follows a backup that exists; None: left out. prune: is given all that the store holds."""

    prune: Callable[[Catalog], Pruned] | None = None
    copy_to_cold: Callable[[Manifest], None] | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """A backup that exists. seconds: by step. problems: what failed after it, each named."""

    manifest: Manifest
    seconds: dict[str, float]
    pruned: Pruned | None = None
    problems: tuple[DreamseedError, ...] = ()

    @property
    def id(self) -> str:
        return self.manifest.identity.backup_id

    @property
    def bytes_per_s(self) -> float:
        """Plain bytes a second, from the first step to the manifest."""
        return self.manifest.plain_bytes / max(self.manifest.span.duration_s, 1e-9)


@dataclass(slots=True)
class _Steps:
    """Takes each step's time."""

    clock: Callable[[], float]
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        begun = self.clock()
        try:
            yield
        finally:
            self.seconds[name] = self.clock() - begun


def run_backup(
    store: Store,
    source: Source,
    wish: Wish,
    after: After | None = None,
    take_folders: TakeFolders = _no_folders,
) -> Report:
    """Make one backup, under the runs' lock. Whatever is raised, there is no new backup: parts without a
    manifest at most, which a later run deletes. OtherCluster for a physical one of another cluster.
    """
    steps = _Steps(wish.seconds)
    with steps.step("catalogue"):
        known = read_catalog(store).backups
        foreign = check_backup(store, source.kind, source.system_identifier(), known)
    manifest, problems = _make(store, source, wish, take_folders, known, steps)
    if foreign is not None:
        problems.append(foreign)
    with steps.step("check"):
        catalog = _check(store, manifest, known, wish)
    pruned: Pruned | None = None
    after = after or After()
    if after.prune is not None:
        with steps.step("retention"), _collected(problems):
            pruned = after.prune(catalog)
    if after.copy_to_cold is not None:
        with steps.step("cold copy"), _collected(problems):
            after.copy_to_cold(manifest)
    return Report(manifest, steps.seconds, pruned, tuple(problems))


def _make(
    store: Store,
    source: Source,
    wish: Wish,
    take_folders: TakeFolders,
    known: Sequence[Entry],
    steps: _Steps,
) -> tuple[Manifest, list[DreamseedError]]:
    started, begun = wish.now(), wish.seconds()
    recipients = parse_recipients(wish.recipients, place="recipients")
    backup_id = new_backup_id(source.kind, started)
    with (
        steps.step("streams"),
        Uploader(
            store, backup_id, recipients, threads=wish.threads, level=wish.level, told=wish.told
        ) as uploader,
    ):
        produced = source.produce(uploader)
        folders, indexes = take_folders(uploader, known)
        parts = uploader.parts()
    ended = wish.now()
    manifest = Manifest(
        identity=_identity(backup_id, source, produced, _sequence(known)),
        versions=Versions(
            dreamseed=__version__, server=produced.server, server_version_num=produced.server_version_num
        ),
        span=Span(started=started, ended=ended, duration_s=wish.seconds() - begun),
        wal=produced.wal,
        producers=produced.producers,
        streams=(*produced.streams, *indexes),
        parts=parts,
        databases=produced.databases,
        extensions=produced.extensions,
        roles=produced.roles,
        tables=produced.tables,
        digest_method=METHOD,
        content=produced.content,
        folders=folders,
        compression=Compression(level=wish.level),
        recipients=wish.recipients,
        proof=Proof(level=Level.REREAD, at=ended),
        pinned=wish.pin,
    )
    with steps.step("manifest"):
        store.put(manifest_name(backup_id), manifest.to_bytes())
    return manifest, list(produced.problems)


def _sequence(known: Sequence[Entry]) -> int:
    return next_sequence(entry.manifest.identity.sequence for entry in known)


def _identity(backup_id: str, source: Source, produced: Produced, sequence: int) -> Identity:
    return Identity(
        backup_id=backup_id,
        kind=source.kind,
        sequence=sequence,
        system_identifier=produced.system_identifier,
        cluster=produced.cluster,
        host=socket.gethostname() or "unknown",
    )


def _check(store: Store, manifest: Manifest, known: Sequence[Entry], wish: Wish) -> Catalog:
    """The catalogue, read anew, must show it whole: only then is it recorded, and may older ones go."""
    backup_id = manifest.identity.backup_id
    catalog = read_catalog(store, [entry.manifest for entry in known])
    damaged = next((entry for entry in catalog.damaged if entry.id == backup_id), None)
    if damaged is not None:
        raise ErrorGroup(damaged.errors)
    made = next((entry for entry in catalog.backups if entry.id == backup_id), None)
    if made is not None and made.lost:
        raise ErrorGroup(tuple(made.lost.values()))
    if made is None:
        raise DreamseedError(
            "the backup was uploaded, and the store does not list it",
            place=f"{store.name}: {manifest_name(backup_id)}",
            remedy="Run dreamseed backup list, then back up again.",
        )
    record_proof(store, backup_id, Level.REREAD, wish.now())
    return catalog


@contextmanager
def _collected(problems: list[DreamseedError]) -> Iterator[None]:
    """The backup exists whatever happens now; but it is not passed over in silence."""
    try:
        yield
    except DreamseedError as error:
        problems.extend(error.causes())
