"""A restore from choosing the backup to recording what it proved; damage names the next older good backup."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from dreamseed_cli.backup.catalog import Catalog, Damaged, Entry, read_catalog
from dreamseed_cli.backup.doors import utc_now
from dreamseed_cli.backup.goal import check_goal, no_archive
from dreamseed_cli.backup.keys import Identity
from dreamseed_cli.backup.logical.proof import DigestsDiffer
from dreamseed_cli.backup.logical.restore import RestoreReport, Target, restore_logical
from dreamseed_cli.backup.manifest import Level
from dreamseed_cli.backup.names import Kind
from dreamseed_cli.backup.physical.content import Archived, stop_to_compare
from dreamseed_cli.backup.physical.recovery import Goal
from dreamseed_cli.backup.physical.restore import Restored, Wish, restore_physical
from dreamseed_cli.backup.physical.soundness import NO_AMCHECK, amcheck
from dreamseed_cli.backup.physical.verify import CopyDiffers
from dreamseed_cli.backup.pipeline import Downloader
from dreamseed_cli.backup.pointed import Archive, find_base
from dreamseed_cli.backup.preview import Preview, base_for, loss, preview, preview_folders, skipped_for
from dreamseed_cli.backup.programs import check_extensions, programs_for
from dreamseed_cli.backup.progress import Progress
from dreamseed_cli.backup.records import read_rates, write_rate
from dreamseed_cli.backup.restore_folders import FolderInvalid, RestoredFolders, restore_folders
from dreamseed_cli.backup.rpo import LiveRpo, live_rpo, reach
from dreamseed_cli.backup.seal import SealBroken
from dreamseed_cli.backup.settings import Settings
from dreamseed_cli.backup.status import archive_for, base_of, read_heartbeats
from dreamseed_cli.backup.store.base import Store
from dreamseed_cli.backup.store.errors import ObjectCorrupt, ObjectMissing
from dreamseed_cli.backup.tar import TarBroken
from dreamseed_cli.backup.verify import offer, record_proof
from dreamseed_cli.backup.wal.archive import Listing, read_listing
from dreamseed_cli.backup.wal.points import Point
from dreamseed_cli.backup.wal.settings import restore_command
from dreamseed_cli.backup.wal_names import DEFAULT_SEGMENT_BYTES
from dreamseed_cli.core.errors import DreamseedError, FailedError, UsageError
from dreamseed_cli.services.postgres import USER

Say = Callable[[str], None]

_USUAL_SUPERUSER: Final = "postgres"
"""What initdb calls it on most systems; our own server calls it otherwise."""


_DAMAGE: Final = (
    ObjectMissing,
    ObjectCorrupt,
    SealBroken,
    TarBroken,
    CopyDiffers,
    DigestsDiffer,
    FolderInvalid,
)
"""What a restore raises when the backup is to blame, and another one may do."""


class BackupDamaged(FailedError):
    """A part is missing or changed, or not what it should be: this backup cannot be restored."""

    kind = "backup_damaged"


def _amcheck(dsn: str) -> str:
    """What it found, or what stands for it."""
    sound = amcheck(dsn)
    return f"{NO_AMCHECK}: the files' checksums stand for it" if sound is None else f"amcheck: {sound}"


@dataclass(frozen=True, slots=True)
class Recovery:
    """A restore that was looked at and not begun. skipped: see preview.skipped_for. point: where a named goal
    lies, as the archive tells.
    """

    settings: Settings
    store: Store
    catalog: Catalog
    entry: Entry
    goal: Goal
    identities: Sequence[Identity]
    skipped: tuple[Damaged, ...] = ()
    point: Point | None = None

    @classmethod
    def look(
        cls,
        settings: Settings,
        key_file: Path | None,
        wanted: str | None,
        goal: Goal,
        kind: Kind | None = None,
    ) -> Recovery:
        """Choose the backup; kind: see base_for.

        Raises UsageError (none fits, damaged, no such point), NoKey, the store's.
        """
        identities = settings.identities(key_file)
        store = settings.open()
        catalog = read_catalog(store)
        entry = base_for(catalog, wanted, goal, kind)
        if entry.manifest.identity.kind is Kind.LOGICAL and goal.kind != "latest":
            raise UsageError(
                "a logical backup restores to its own moment only",
                place=entry.id,
                remedy="Choose a physical one: dreamseed backup list.",
            )
        recovery = cls(settings, store, catalog, entry, goal, identities)
        if goal.kind == "name" and isinstance(goal.value, str):
            recovery = recovery.pointed(goal.value, wanted)
        # A point's moment tells what lies before it.
        moment = goal if recovery.point is None else Goal("time", recovery.point.at)
        return replace(recovery, skipped=skipped_for(catalog, recovery.entry, wanted, moment, kind))

    @property
    def physical(self) -> bool:
        return self.entry.manifest.identity.kind is Kind.PHYSICAL

    def preview(self, *, folders: bool = False, databases: Collection[str] | None = None) -> Preview:
        """Nothing is changed by it. folders: of these alone. databases: of a logical one, only these; None:
        all. UsageError for a goal that the archive does not reach, or a database that it lacks.
        """
        if folders:
            return preview_folders(self.entry, self.skipped)
        rate = read_rates(self.settings.home).of(self.entry.manifest.identity.kind)
        if not self.physical:
            return preview(self.entry, loss(self.entry, self.goal), rate, self.skipped, databases)
        listing = self._listing()
        doubt = self._doubt(self._archived(listing))
        lost = loss(self.entry, self.goal, self._rpo(listing), self.point)
        return preview(self.entry, f"{lost} {doubt}".rstrip(), rate, self.skipped)

    def _rpo(self, listing: Listing) -> LiveRpo:
        """What would be lost if everything were restored from this very backup."""
        base = base_of(self.entry)
        archive = archive_for(self.store, listing, base, self.identities, self._segment_bytes)
        beats, target_s = read_heartbeats(self.store), self.settings.table.rpo_target_s
        return live_rpo(base, archive, beats, utc_now(), target_s)

    def physical_into(
        self, folder: Path, wal_fetch: Sequence[str], say: Say, *, quick: bool = False, look: bool = False
    ) -> Restored:
        """Unpack, verify, recover, compare the tables on the way; what was proven is then recorded.

        quick: only names and sizes of files are compared. look: amcheck looks through all tables and indexes;
        Unsound. UsageError, before anything is fetched, for a goal that the archive does not reach. See
        restore_physical.
        """
        manifest = self.entry.manifest
        listing = self._listing()
        goal = self.goal if listing.segments or self.goal.kind != "latest" else Goal("immediate")
        archived = self._archived(listing)
        # What is pushed from now on comes side by side, too: only what is missing before the end is a gap.
        end = ["--end", archived.end.name] if archived is not None and goal.kind == "latest" else []
        command = restore_command([*wal_fetch, *end]) if listing.segments else None
        doubt = self._doubt(archived)
        if doubt:
            say(doubt)
        point_lsn = None if self.point is None else self.point.lsn
        compare_at = "it was to be quick" if quick else stop_to_compare(manifest, goal, archived, point_lsn)
        if isinstance(compare_at, str):
            say(f"What its tables hold is not compared: {compare_at}.")
        user = USER if USER in manifest.roles else _USUAL_SUPERUSER
        programs = programs_for(manifest.versions.server_version_num)
        check_extensions(manifest.extensions, programs)
        begun = time.monotonic()
        with self._damage_explained(), self._fetching() as download:
            wish = Wish(
                folder,
                goal,
                command,
                user,
                programs,
                thorough=not quick,
                check=_amcheck if look else None,
                compare_at=compare_at if isinstance(compare_at, Goal) else None,
                archived=archived,
            )
            done = restore_physical(download, wish, say)
        if not quick and not done.resumed and not done.kept:
            self._note_rate(time.monotonic() - begun)
        self._record(done.proven, say)
        return replace(done, doubt=doubt) if goal.kind == "latest" else done

    def logical_into(
        self, dsn: str, names: dict[str, str] | None, replace: frozenset[str], say: Say
    ) -> RestoreReport:
        """Restore and compare every table's digest; recorded as proven if all databases were restored."""
        target = Target(dsn, names, globals=names is None, replace=replace)
        begun = time.monotonic()
        with self._damage_explained(), self._fetching() as download:
            done = restore_logical(self.entry.manifest, download, target, self.settings.temp)
        if {name for name, _ in done.databases} >= {one.name for one in self.entry.manifest.databases}:
            self._note_rate(time.monotonic() - begun)
            self._record(Level.DIGESTS_EQUAL, say)
        return done

    def folders_into(self, to: Path, say: Say) -> RestoredFolders:
        """Every folder of the backup below `to`, by its name. See restore_folders."""
        size = sum(folder.size for folder in self.entry.manifest.folders)
        with self._damage_explained(), self._fetching(size) as download:
            return restore_folders(download, to, say)

    def pointed(self, name: str, wanted: str | None) -> Recovery:
        """The same from the backup that recovery to this point begins with. UsageError if there is none."""
        listing, entries = self._listing(), [self.entry]
        if not listing.segments:
            raise no_archive(self.goal)
        if wanted in {None, "latest"}:
            entries = [one for one in self.catalog.backups if one.manifest.identity.kind is Kind.PHYSICAL]
        progress = Progress(sys.stderr, None)

        def archived(entry: Entry) -> Archived | None:
            return self._archived(listing, entry)

        try:
            archive = Archive(self.store, self.identities, archived, progress.told)
            found = find_base(name, entries, archive)
        finally:
            progress.end()
        return replace(self, entry=found.entry, point=found.first)

    @property
    def _segment_bytes(self) -> int:
        wal = self.entry.manifest.wal
        return wal.segment_bytes if wal else DEFAULT_SEGMENT_BYTES

    def _listing(self) -> Listing:
        return read_listing(self.store, self._segment_bytes)

    def _doubt(self, archived: Archived | None) -> str:
        """See check_goal."""
        end = base_of(self.entry).end_lsn or 0
        beats = [beat for beat in read_heartbeats(self.store) if beat.lsn >= end]
        return check_goal(self.goal, archived, beats, utc_now())

    def _archived(self, listing: Listing, entry: Entry | None = None) -> Archived | None:
        """How far recovery from this backup (or another) could go; None: no further than it itself."""
        base, size = base_of(entry or self.entry), self._segment_bytes
        if not listing.segments or base.end_lsn is None:
            return None
        archive = archive_for(self.store, listing, base, self.identities, size)
        found = reach(base, base.end_lsn, archive)
        return Archived(found.lsn, archive.history, next(iter(found.holes), None), size, found.last)

    @contextmanager
    def _fetching(self, size: int | None = None) -> Iterator[Downloader]:
        """size: plain bytes to come; None: all of the backup's parts."""
        manifest = self.entry.manifest
        progress = Progress(sys.stderr, manifest.plain_bytes if size is None else size)
        try:
            threads = self.settings.table.threads
            yield Downloader(self.store, manifest, self.identities, threads=threads, told=progress.told)
        finally:
            progress.end()

    def _note_rate(self, seconds: float) -> None:
        """A restore that succeeded tells how long the next one may take."""
        manifest = self.entry.manifest
        with suppress(OSError):
            write_rate(self.settings.home, manifest.identity.kind, manifest.plain_bytes / max(seconds, 1e-9))

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
        except _DAMAGE as error:
            older = offer(self.catalog, self.entry.id)
            raise BackupDamaged(
                f"{error.cause} ({error.kind})", place=error.place, remedy=f"{error.remedy} {older}".lstrip()
            ) from error
