"""Deletes what retention lets go: backups, their WAL, folders' contents nobody names, and failed runs' parts.

A backup's manifest goes first: one that is half deleted is no backup at any moment.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from dreamseed_cli.backup.catalog import Catalog, read_catalog
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
    parse_wal_object,
)
from dreamseed_cli.backup.retention import Decision, Rules, plan, stale_leftovers
from dreamseed_cli.backup.store.base import Store
from dreamseed_cli.backup.wal_names import DEFAULT_SEGMENT_BYTES

_DAY = timedelta(days=1)
_HEARTBEATS_KEPT = timedelta(days=2)


@dataclass(frozen=True, slots=True)
class Pruning:
    """What would be deleted, with the reasons; names in the store, by what they are.

    store_now: the store's own newest time, which this machine's clock cannot falsify.
    """

    decision: Decision
    store_now: datetime
    wal: tuple[str, ...] = ()
    blobs: tuple[str, ...] = ()
    leftovers: tuple[str, ...] = ()
    leftover_runs: tuple[str, ...] = ()
    heartbeats: tuple[str, ...] = ()

    @property
    def objects(self) -> tuple[str, ...]:
        return self.wal + self.blobs + self.leftovers + self.heartbeats


@dataclass(frozen=True, slots=True)
class Pruned:
    """What was deleted. unfinished: uploads that were cancelled."""

    pruning: Pruning
    unfinished: int = 0


def plan_pruning(store: Store, rules: Rules, now: datetime, *, last_run_failed: bool = False) -> Pruning:
    """Decide, and delete nothing. now: this machine's clock; ages of uploads are told by the store's."""
    catalog = read_catalog(store)
    store_now = max((stored.uploaded for stored in store.list(BACKUPS)), default=now)
    wal = _wal_objects(store, catalog)
    decision = plan(
        [entry.for_retention() for entry in catalog.backups],
        [found.file for found in wal.values()],
        {entry.id for entry in catalog.backups if entry.pinned},
        rules,
        now,
        last_run_failed=last_run_failed,
    )
    going = set(decision.wal_delete)
    stale = set(stale_leftovers({run.id: run.newest_upload for run in catalog.incomplete}, store_now))
    return Pruning(
        decision=decision,
        wal=tuple(name for name, found in wal.items() if found.file.name in going),
        blobs=() if decision.held else _unnamed_blobs(store, catalog, decision, store_now),
        leftovers=tuple(name for run in catalog.incomplete if run.id in stale for name in run.objects),
        leftover_runs=tuple(sorted(stale)),
        heartbeats=() if decision.held else _old_heartbeats(store, now),
        store_now=store_now,
    )


def prune(store: Store, pruning: Pruning) -> Pruned:
    """Delete what was decided. store: opened with the key that may delete. StoreRefused if it may not.

    Interrupted anywhere it leaves nothing that looks like a backup and is none; the next one goes on.
    """
    for backup_id in pruning.decision.delete:
        store.delete(manifest_name(backup_id))
        prefixes = (f"{BACKUPS}{backup_id}/", f"{VERIFICATIONS}{backup_id}/")
        _delete(store, [stored.name for prefix in prefixes for stored in store.list(prefix)])
    _delete(store, pruning.objects)
    return Pruned(pruning, store.cancel_unfinished(_DAY.total_seconds(), pruning.store_now))


def _delete(store: Store, names: Iterable[str]) -> None:
    for name in names:
        store.delete(name)


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
