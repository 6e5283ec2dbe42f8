"""From settings and a connection string to a run, a look, a pruning: for commands and the schedule."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from dreamseed_cli.backup.catalog import read_catalog
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
        """One run. Everything that can be missing is asked for before anything is read."""
        settings, table = self.settings, self.settings.table
        recipients, folders = tuple(settings.recipients()), settings.folders()
        store, cold = settings.open(), settings.open_cold()
        source: Source = make_source(kind, self.dsn())
        progress = Progress(sys.stderr, source.expected_bytes())
        wish = Wish(recipients, table.compression_level, table.threads, pin, progress.told)

        def copy(manifest: Manifest) -> None:
            if cold is not None:
                copy_backup(store, cold, manifest, threads=table.threads)

        try:
            after = After(self.prune, copy if cold is not None else None)
            return run_backup(store, source, wish, after, _taking(folders, recipients))
        finally:
            progress.end()
            store.close()
            if cold is not None:
                cold.close()

    def rehearse(self, kind: Kind) -> Ready:
        """Ask for everything that a run needs, and store nothing."""
        settings = self.settings
        recipients, folders = tuple(settings.recipients()), tuple(settings.folders())
        expected = make_source(kind, self.dsn()).expected_bytes() or 0
        store = settings.open()
        try:
            return Ready(expected, recipients, folders, len(read_catalog(store).backups))
        finally:
            store.close()

    def prune(self) -> Pruned:
        """Delete what no rule keeps, with the key that may."""
        store = self.settings.open("prune")
        try:
            return prune(store, plan_pruning(store, self.settings.rules, utc_now()))
        finally:
            store.close()

    def status(self) -> Status:
        """How things stand in the store."""
        settings = self.settings
        store = settings.open()
        try:
            return read_status(store, settings.identities_if_any(), utc_now(), settings.table.rpo_target_s)
        finally:
            store.close()

    def look(self) -> LiveRpo | None:
        """A heartbeat first, if backups are physical: logical ones reach no further with any WAL."""
        if self.settings.table.kind == "physical":
            store = self.settings.open()
            try:
                beat(self.dsn(), store, utc_now)
            finally:
                store.close()
        return self.status().rpo


def _taking(folders: Mapping[str, Path], recipients: Sequence[str]) -> TakeFolders:
    def take(uploader: Uploader, known: Sequence[Manifest]) -> tuple[tuple[Folder, ...], tuple[Stream, ...]]:
        blobs = known_blobs(known, recipients)
        saved = [backup_folder(name, path, uploader, blobs) for name, path in folders.items()]
        return tuple(one.folder for one in saved), tuple(one.stream for one in saved)

    return take


def end_in_order() -> None:
    """SIGTERM, which systemd sends, ends a run as Ctrl-C does: with its children, and recorded as failed."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
