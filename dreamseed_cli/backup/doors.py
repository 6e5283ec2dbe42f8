"""From settings and a connection string to a run, a look, a pruning: for commands and the schedule."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from dreamseed_cli.backup.archiver import Archiver, read_archiver
from dreamseed_cli.backup.catalog import Catalog, Entry, read_catalog
from dreamseed_cli.backup.cold import copy_backup
from dreamseed_cli.backup.folders import backup_folder, known_blobs
from dreamseed_cli.backup.heartbeat import beat
from dreamseed_cli.backup.manifest import Folder, Manifest, Stream
from dreamseed_cli.backup.names import Kind
from dreamseed_cli.backup.pipeline import Uploader
from dreamseed_cli.backup.progress import Progress
from dreamseed_cli.backup.prune import Pruned, plan_pruning, prune
from dreamseed_cli.backup.rpo import LiveRpo
from dreamseed_cli.backup.run import After, Report, TakeFolders, Wish, run_backup
from dreamseed_cli.backup.settings import Settings
from dreamseed_cli.backup.source import Source
from dreamseed_cli.backup.sources import make_source
from dreamseed_cli.backup.status import Status, read_status
from dreamseed_cli.backup.wal.outage import read_state


def utc_now() -> datetime:
    """The moment it is."""
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Ready:
    """What a run would begin with. expected_bytes: plain, about. backups: good ones so far."""

    expected_bytes: int
    recipients: tuple[str, ...]
    folders: tuple[str, ...]
    backups: int


@dataclass(frozen=True, slots=True)
class Doors:
    """dsn: asked for only where it is needed: listing and pruning work while the server is down."""

    settings: Settings
    dsn: Callable[[], str]

    def backup(self, kind: Kind, *, pin: bool = False) -> Report:
        """One run. What it needs is asked for before anything is read; what the second copy needs, once there
        is a backup: a key that is missing there must not keep one from being made.
        """
        settings, table = self.settings, self.settings.table
        recipients, folders = tuple(settings.recipients()), settings.folders()
        store = settings.open()
        source: Source = self._source(kind)
        progress = Progress(sys.stderr, source.expected_bytes())
        wish = Wish(recipients, table.compression_level, table.threads, pin, progress.told)

        def copy(manifest: Manifest) -> None:
            cold = settings.open_cold()
            if cold is None:
                return
            try:
                copy_backup(store, cold, manifest, threads=table.threads)
            finally:
                cold.close()

        try:
            after = After(self.prune, copy if table.cold is not None else None)
            return run_backup(store, source, wish, after, _taking(folders, recipients))
        finally:
            progress.end()
            store.close()

    def rehearse(self, kind: Kind) -> Ready:
        """Ask for everything that a run needs, and store nothing."""
        settings = self.settings
        recipients, folders = tuple(settings.recipients()), tuple(settings.folders())
        expected = self._source(kind).expected_bytes() or 0
        store = settings.open()
        try:
            return Ready(expected, recipients, folders, len(read_catalog(store).backups))
        finally:
            store.close()

    def _source(self, kind: Kind) -> Source:
        settings = self.settings
        return make_source(kind, self.dsn(), settings.temp, digests=settings.table.digests)

    def prune(self, catalog: Catalog) -> Pruned:
        """Delete what no rule keeps, with the key that may. catalog: just read."""
        store = self.settings.open("prune")
        try:
            return prune(store, plan_pruning(store, self.settings.rules, utc_now(), catalog=catalog))
        finally:
            store.close()

    def status(self) -> Status:
        """How things stand in the store."""
        settings = self.settings
        store = settings.open()
        try:
            archiving = read_state(settings.wal_state)
            identities, target_s = settings.identities_if_any(), settings.table.rpo_target_s
            return read_status(store, identities, utc_now, target_s, archiving)
        finally:
            store.close()

    def archiver(self) -> Archiver | None:
        """How the server's archiver does; None where backups are logical, or the server archives nothing."""
        return read_archiver(self.dsn()) if self._physical else None

    def beat(self) -> None:
        """A heartbeat, if backups are physical: logical ones reach no further with any WAL."""
        if not self._physical:
            return
        store = self.settings.open()
        try:
            beat(self.dsn(), store, utc_now)
        finally:
            store.close()

    def look(self) -> LiveRpo:
        """What would be lost now. The store tells it, also while the server is down."""
        return self.status().rpo

    @property
    def _physical(self) -> bool:
        return self.settings.table.kind == "physical"


def _taking(folders: Mapping[str, Path], recipients: Sequence[str]) -> TakeFolders:
    def take(uploader: Uploader, known: Sequence[Entry]) -> tuple[tuple[Folder, ...], tuple[Stream, ...]]:
        blobs = known_blobs(known, recipients)
        saved = [backup_folder(name, path, uploader, blobs) for name, path in folders.items()]
        return tuple(one.folder for one in saved), tuple(one.stream for one in saved)

    return take
