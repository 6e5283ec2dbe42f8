"""Deletes what retention lets go: backups, their WAL, folders' contents nobody names, and failed runs' parts.

A backup's manifest goes first: one that is half deleted is no backup at any moment.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final

from dreamseed_cli.backup.catalog import Catalog, Entry, hidden, read_catalog
from dreamseed_cli.backup.names import (
    BACKUPS,
    BLOBS,
    HEARTBEATS,
    VERIFICATIONS,
    WAL,
    NameInvalid,
    WalObject,
    blob_name,
    manifest_name,
    parse_heartbeat,
    parse_verification,
    parse_wal_object,
    pin_name,
)
from dreamseed_cli.backup.owner import owners
from dreamseed_cli.backup.retention import Decision, Rules, delete_by_age_alone, plan, stale_leftovers
from dreamseed_cli.backup.store.base import Store
from dreamseed_cli.backup.store.errors import ObjectLocked, StoreError, StoreRefused
from dreamseed_cli.backup.wal_names import DEFAULT_SEGMENT_BYTES

_DAY = timedelta(days=1)
_HEARTBEATS_KEPT = timedelta(days=2)
_MOST_LOCKED: Final = 10
"""In a row, of which the oldest ones can be expected to be free first."""


@dataclass(frozen=True, slots=True)
class Pruning:
    """What would be deleted, with the reasons; names in the store, by what they are.

    by_age_alone: the backups that §E2's rule would delete now (computed). backups: good ones. now: by which
    unfinished uploads are cancelled: the store's own newest time, or this machine's if that is earlier. A
    folder's times are this machine's too, and from a clock that was once ahead all that is under way is old.
    """

    decision: Decision
    now: datetime
    by_age_alone: frozenset[str] = frozenset()
    backups: int = 0
    wal: tuple[str, ...] = ()
    blobs: tuple[str, ...] = ()
    leftovers: tuple[str, ...] = ()
    leftover_runs: tuple[str, ...] = ()
    heartbeats: tuple[str, ...] = ()
    proofs: tuple[str, ...] = ()
    """Of backups that are gone: a pruning was interrupted between a backup and what was proven of it."""
    again: Callable[[frozenset[str]], Pruning] | None = field(default=None, repr=False, compare=False)
    """The decision as it is if these backups stay."""

    @property
    def objects(self) -> tuple[str, ...]:
        return self.wal + self.blobs + self.leftovers + self.heartbeats + self.proofs


@dataclass(frozen=True, slots=True)
class Pruned:
    """What was deleted: as decided, but for what was pinned since. unfinished: uploads that were cancelled.

    locked: what Object Lock keeps yet, by name; a backup whose manifest it keeps stays whole, and what is
    locked goes with a later pruning.
    """

    pruning: Pruning
    unfinished: int = 0
    locked: Mapping[str, ObjectLocked] = field(default_factory=dict)

    @property
    def deleted(self) -> tuple[str, ...]:
        """The backups that are gone."""
        return tuple(id_ for id_ in self.pruning.decision.delete if manifest_name(id_) not in self.locked)


def plan_pruning(
    store: Store,
    rules: Rules,
    now: datetime,
    *,
    catalog: Catalog | None = None,
    last_run_failed: bool = False,
    staying: frozenset[str] = frozenset(),
) -> Pruning:
    """Decide, and delete nothing. now: this machine's clock; ages of uploads are told by the store's.

    catalog: if it was just read. staying: backups that stay like pinned ones. Parts whose manifest another
    program hid are no leftovers: with the mark that hides it deleted, they are a backup again.
    """
    catalog = catalog or read_catalog(store)
    store_now = max((stored.uploaded for stored in store.list(BACKUPS)), default=now)
    wal = _wal_objects(store, catalog)
    decision = plan(
        [entry.for_retention() for entry in catalog.backups],
        [found.file for found in wal.values()],
        {entry.id for entry in catalog.backups if entry.pinned} | staying,
        rules,
        now,
        last_run_failed=last_run_failed,
        owners=owners(store),
    )
    going = set(decision.wal_delete)
    old = stale_leftovers({run.id: run.newest_upload for run in catalog.incomplete}, store_now)
    kept = hidden(store, old)
    stale = set() if decision.held else set(old) - kept
    return Pruning(
        decision=decision,
        by_age_alone=delete_by_age_alone(map(Entry.for_retention, catalog.backups), rules.days, now),
        backups=len(catalog.backups),
        wal=tuple(name for name, found in wal.items() if found.file.name in going),
        blobs=() if decision.held or kept else _unnamed_blobs(store, catalog, decision, store_now),
        leftovers=tuple(name for run in catalog.incomplete if run.id in stale for name in run.objects),
        leftover_runs=tuple(sorted(stale)),
        heartbeats=() if decision.held else _old_heartbeats(store, now),
        proofs=() if decision.held else _proofs_of_nothing(store, catalog),
        now=min(store_now, now),
        again=lambda ids: plan_pruning(
            store, rules, now, catalog=catalog, last_run_failed=last_run_failed, staying=ids
        ),
    )


def prune(store: Store, pruning: Pruning) -> Pruned:
    """Delete what was decided. store: opened with the key that may delete. StoreRefused if it may not.

    What Object Lock keeps is no refusal: the rest goes. Interrupted anywhere it leaves nothing that looks
    like a backup and is none; the next one goes on.
    """
    deleting, pinned = _Deleting(store), set[str]()
    try:
        for backup_id in pruning.decision.delete:
            # A pin may have come since the decision, which can be hours old.
            if store.stat(pin_name(backup_id)) is not None:
                pinned.add(backup_id)
            elif deleting.one(manifest_name(backup_id)):
                prefixes = (f"{BACKUPS}{backup_id}/", f"{VERIFICATIONS}{backup_id}/")
                deleting.all([stored.name for prefix in prefixes for stored in store.list(prefix)])
        pruning = _sparing(pruning, pinned, deleting.locked)
        deleting.all(pruning.blobs + pruning.leftovers + pruning.proofs)
        deleting.oldest(pruning.wal)
        deleting.oldest(pruning.heartbeats)
    except StoreRefused:
        with suppress(StoreError):  # which takes another right
            store.cancel_unfinished(_DAY.total_seconds(), pruning.now)
        raise
    unfinished = store.cancel_unfinished(_DAY.total_seconds(), pruning.now)
    return Pruned(pruning, unfinished, deleting.locked)


def _sparing(pruning: Pruning, pinned: Collection[str], locked: Mapping[str, ObjectLocked]) -> Pruning:
    """Without the WAL and the contents of folders that backups need which were pinned since, or which Object
    Lock keeps. Nothing goes that was not to go before: the catalogue is as old as the decision.
    """
    ids = {id_ for id_ in pruning.decision.delete if manifest_name(id_) in locked}.union(pinned)
    if not ids or pruning.again is None:
        return pruning
    again = pruning.again(frozenset(ids))
    wal, blobs = set(again.wal), set(again.blobs)
    decision = replace(
        again.decision,
        keep=pruning.decision.keep | dict.fromkeys(pinned, ("pinned",)),
        delete={id_: why for id_, why in pruning.decision.delete.items() if id_ not in pinned},
    )
    return replace(
        pruning,
        decision=decision,
        wal=tuple(name for name in pruning.wal if name in wal),
        blobs=tuple(name for name in pruning.blobs if name in blobs),
    )


class _Deleting:
    """Deletes, and goes on past what Object Lock keeps. locked: that, by name."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.locked: dict[str, ObjectLocked] = {}

    def one(self, name: str) -> bool:
        """Whether it is gone."""
        try:
            self._store.delete(name)
        except ObjectLocked as error:
            self.locked[name] = error
        return name not in self.locked

    def all(self, names: Iterable[str]) -> None:
        for name in names:
            self.one(name)

    def oldest(self, names: Iterable[str]) -> None:
        """Of names in the order in which they were stored: behind some that are locked all are, and to ask
        for each of a month's heartbeats again every night costs money.
        """
        row = 0
        for name in names:
            row = 0 if self.one(name) else row + 1
            if row == _MOST_LOCKED:
                return


def _wal_objects(store: Store, catalog: Catalog) -> dict[str, WalObject]:
    """The archive's objects by name. One that is not understood stays."""
    physical = next((entry.manifest.wal for entry in catalog.backups if entry.manifest.wal), None)
    size = physical.segment_bytes if physical else DEFAULT_SEGMENT_BYTES
    found: dict[str, WalObject] = {}
    for stored in store.list(WAL):
        try:
            found[stored.name] = parse_wal_object(stored.name, size)
        except NameInvalid:
            continue
    return found


def _unnamed_blobs(
    store: Store, catalog: Catalog, decision: Decision, store_now: datetime
) -> tuple[str, ...]:
    """Contents that no backup names any more. A damaged manifest may name any: then all stay.

    Young ones stay too: they may belong to a run of another host that has no manifest yet.
    """
    if catalog.damaged:
        return ()
    named = {
        blob_name(blob.plain_sha256)
        for entry in catalog.backups
        if entry.id in decision.keep
        for folder in entry.manifest.folders
        for blob in folder.blobs
    }
    return tuple(
        stored.name
        for stored in store.list(BLOBS)
        if stored.name not in named and store_now - stored.uploaded > _DAY
    )


def _proofs_of_nothing(store: Store, catalog: Catalog) -> tuple[str, ...]:
    """Those whose backup has no manifest; asked for by its name, since the catalogue may be older than it."""
    there = {entry.id for entry in catalog.backups} | {entry.id for entry in catalog.damaged}
    by_backup: defaultdict[str, list[str]] = defaultdict(list)
    for stored in store.list(VERIFICATIONS):
        with suppress(NameInvalid):
            by_backup[parse_verification(stored.name).backup_id].append(stored.name)
    return tuple(
        name
        for backup_id, names in by_backup.items()
        if backup_id not in there and store.stat(manifest_name(backup_id)) is None
        for name in names
    )


def _old_heartbeats(store: Store, now: datetime) -> tuple[str, ...]:
    """Only the newest ones say anything about the recovery point."""
    old = []
    for stored in store.list(HEARTBEATS):
        try:
            beat = parse_heartbeat(stored.name)
        except NameInvalid:
            continue
        if now - beat.at > _HEARTBEATS_KEPT:
            old.append(stored.name)
    return tuple(old)
