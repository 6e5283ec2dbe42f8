"""A restore from choosing the backup to recording what it proved; damage names the next older good backup."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from dreamseed_cli.backup.catalog import Catalog, Entry, read_catalog
from dreamseed_cli.backup.doors import utc_now
from dreamseed_cli.backup.folders import restore_folder
from dreamseed_cli.backup.keys import Identity
from dreamseed_cli.backup.logical.restore import RestoreReport, Target, restore_logical
from dreamseed_cli.backup.manifest import Level
from dreamseed_cli.backup.names import Kind
from dreamseed_cli.backup.physical.recovery import Goal
from dreamseed_cli.backup.physical.restore import Restored, Wish, restore_physical
from dreamseed_cli.backup.pipeline import Downloader
from dreamseed_cli.backup.preview import Preview, base_for, preview
from dreamseed_cli.backup.programs import programs_for
from dreamseed_cli.backup.seal import SealBroken
from dreamseed_cli.backup.settings import Settings
from dreamseed_cli.backup.status import read_status
from dreamseed_cli.backup.store.base import Store
from dreamseed_cli.backup.store.errors import ObjectCorrupt, ObjectMissing
from dreamseed_cli.backup.verify import offer, record_proof
from dreamseed_cli.backup.wal.archive import read_listing
from dreamseed_cli.backup.wal.settings import restore_command
from dreamseed_cli.core.errors import DreamseedError, FailedError, UsageError
from dreamseed_cli.services.postgres import USER

Say = Callable[[str], None]

_USUAL_SUPERUSER: Final = "postgres"
"""What initdb calls it on most systems; our own server calls it otherwise."""


class BackupDamaged(FailedError):
    """A part is missing or changed: this backup cannot be restored."""

    kind = "backup_damaged"


@dataclass(frozen=True, slots=True)
class Recovery:
    """A restore that was looked at and not begun."""

    settings: Settings
    store: Store
    catalog: Catalog
    entry: Entry
    goal: Goal
    identities: Sequence[Identity]

    @classmethod
    def look(cls, settings: Settings, key_file: Path | None, wanted: str | None, goal: Goal) -> Recovery:
        """Choose the backup. Raises UsageError (none fits, damaged), NoKey, and the store's errors."""
        identities = settings.identities(key_file)
        store = settings.open()
        catalog = read_catalog(store)
        entry = base_for(catalog, wanted, goal)
        if entry.manifest.identity.kind is Kind.LOGICAL and goal.kind != "latest":
            raise UsageError(
                "a logical backup restores to its own moment only",
                place=entry.id,
                remedy="Choose a physical one: dreamseed backup list.",
            )
        return cls(settings, store, catalog, entry, goal, identities)

    @property
    def physical(self) -> bool:
        return self.entry.manifest.identity.kind is Kind.PHYSICAL

    def preview(self) -> Preview:
        """Nothing is changed by it."""
        target_s = self.settings.table.rpo_target_s
        rpo = read_status(self.store, self.identities, utc_now(), target_s).rpo if self.physical else None
        return preview(self.entry, self.goal, rpo)

    def physical_into(self, folder: Path, wal_fetch: Sequence[str], say: Say) -> Restored:
        """Unpack, verify, recover; the backup is then recorded as restored. See restore_physical."""
        archive = read_listing(self.store).segments
        goal = self.goal if archive or self.goal.kind != "latest" else Goal("immediate")
        command = restore_command(wal_fetch) if archive else None
        manifest = self.entry.manifest
        user = USER if USER in manifest.roles else _USUAL_SUPERUSER
        programs = programs_for(manifest.versions.server_version_num)
        with self._damage_explained():
            wish = Wish(folder, goal, command, user, programs)
            done = restore_physical(self._downloader(), wish, say)
        self._record(Level.RESTORED, say)
        return done

    def logical_into(
        self, dsn: str, names: dict[str, str] | None, replace: frozenset[str], say: Say
    ) -> RestoreReport:
        """Restore and compare every table's digest; recorded as proven if all databases were restored."""
        target = Target(dsn, names, globals=names is None, replace=replace)
        with self._damage_explained():
            done = restore_logical(
                self.entry.manifest, self._downloader(), target, Path(tempfile.gettempdir())
            )
        if {name for name, _ in done.databases} >= {one.name for one in self.entry.manifest.databases}:
            self._record(Level.DIGESTS_EQUAL, say)
        return done

    def folders_into(self, to: Path) -> dict[str, int]:
        """Every folder of the backup below `to`, by its name; how many files each. See restore_folder."""
        with self._damage_explained():
            return {
                folder.name: restore_folder(folder, self._downloader(), to / folder.name)
                for folder in self.entry.manifest.folders
            }

    def _downloader(self) -> Downloader:
        threads = self.settings.table.threads
        return Downloader(self.store, self.entry.manifest, self.identities, threads=threads)

    def _record(self, level: Level, say: Say) -> None:
        """The restore is done whether or not the store takes the record of it."""
        try:
            record_proof(self.store, self.entry.id, level, utc_now())
        except DreamseedError as error:
            say(f"The proof could not be recorded: {error}")

    @contextmanager
    def _damage_explained(self) -> Iterator[None]:
        try:
            yield
        except (ObjectMissing, ObjectCorrupt, SealBroken) as error:
            raise BackupDamaged(
                error.cause, place=error.place, remedy=offer(self.catalog, self.entry.id)
            ) from error
