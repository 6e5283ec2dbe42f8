"""Pruning: what goes from the store, in which order, and what never does."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from backup_runs import KEYS, START, Clock, PlayedSource, wish

from dreamseed_cli.backup.catalog import read_catalog
from dreamseed_cli.backup.doors import _taking
from dreamseed_cli.backup.names import (
    Heartbeat,
    Kind,
    blob_name,
    heartbeat_name,
    manifest_name,
    part_name,
    pin_name,
    wal_name,
)
from dreamseed_cli.backup.prune import plan_pruning, prune
from dreamseed_cli.backup.retention import Rules
from dreamseed_cli.backup.run import run_backup
from dreamseed_cli.backup.store.base import Limits, Store
from dreamseed_cli.backup.store.errors import ObjectLocked, StoreRefused
from dreamseed_cli.backup.store.files import drafted
from dreamseed_cli.backup.store.open import StoreSettings, open_store
from dreamseed_cli.backup.view import pruning_view
from dreamseed_cli.backup.wal_names import parse_wal_file

RULES = Rules(days=3, daily=1, weekly=0, monthly=0, point_in_time_days=None)

QUICK = StoreSettings(limits=Limits(first_wait_s=0.001))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """A local store with a backup of each of ten days."""
    opened = open_store(f"local:{tmp_path / 'store'}", QUICK, create=True)
    clock = Clock()
    for _ in range(10):
        run_backup(opened, PlayedSource(), wish(clock))
        clock.pass_days(1)
    yield opened
    opened.close()


NOW = START + timedelta(days=9, hours=1)


def test_what_no_rule_keeps_goes_with_all_its_objects(store: Store) -> None:
    """And a second pruning finds nothing more to do."""
    gone = plan_pruning(store, RULES, NOW).decision.delete
    assert len(gone) == 7
    prune(store, plan_pruning(store, RULES, NOW))
    assert len(read_catalog(store).backups) == 3
    left = [stored.name for stored in store.list("")]
    assert not [name for name in left if any(id_ in name for id_ in gone)]
    assert plan_pruning(store, RULES, NOW).decision.delete == {}


def test_after_a_failed_run_nothing_goes(store: Store) -> None:
    """However old it is."""
    pruning = plan_pruning(store, RULES, NOW, last_run_failed=True)
    assert pruning.decision.held
    prune(store, pruning)
    assert len(read_catalog(store).backups) == 10


def test_it_is_shown_where_the_documents_rule_would_delete_the_last_good_backup(store: Store) -> None:
    """§E2 goes by age alone (contradiction 11): computed and shown, never done."""
    later = NOW + timedelta(days=40)
    for failed in (True, False):
        pruning = plan_pruning(store, RULES, later, last_run_failed=failed)
        assert len(pruning.by_age_alone) == 10
        shown = [str(line) for line in pruning_view(pruning)]
        assert "By age alone (§E2)" in shown[-1]
        assert "every backup there is" in shown[-1]
    sound = pruning_view(plan_pruning(store, Rules(days=30), NOW))
    assert str(sound[-1]).startswith("Besides")


def test_a_key_that_may_not_delete_is_named_and_no_backup_is_half_gone(store: Store) -> None:
    """The daily key's rights suffice for everything but this."""

    def refuse(name: str) -> None:
        raise StoreRefused("this key may not delete", place=name)

    pruning = plan_pruning(store, RULES, NOW)
    store.delete = refuse  # type: ignore[method-assign]
    with pytest.raises(StoreRefused):
        prune(store, pruning)
    catalog = read_catalog(store)
    assert (len(catalog.backups), catalog.damaged) == (10, ())


def test_what_a_locked_backup_needs_stays_with_it(tmp_path: Path, store: Store) -> None:
    """Contents of its folders are older than its manifest, and so their own locks end before."""
    ids, clock, models = [], Clock(NOW + timedelta(days=1)), tmp_path / "models"
    models.mkdir()
    for text in ("locked", "free", "newest"):
        (models / "weights").write_text(text)
        take = _taking({"models": models}, KEYS.recipients)
        ids.append(run_backup(store, PlayedSource(), wish(clock), take_folders=take).id)
        clock.pass_days(2)
    named = {
        entry.id: {blob_name(blob.plain_sha256) for blob in entry.manifest.folders[0].blobs}
        for entry in read_catalog(store).backups
        if entry.manifest.folders
    }
    for blob in store.list("blobs/"):
        os.utime(tmp_path / "store" / blob.name, (0, 0))
    delete = store.delete

    def locked(name: str) -> None:
        if name == manifest_name(ids[0]):
            raise ObjectLocked("governance until 2099", place=name)
        delete(name)

    store.delete = locked  # type: ignore[method-assign]
    rules = replace(RULES, days=1)
    done = prune(store, plan_pruning(store, rules, clock.now - timedelta(days=1)))
    assert set(done.locked) == {manifest_name(ids[0])}
    assert ids[0] not in done.deleted
    assert ids[1] in done.deleted
    assert {blob.name for blob in store.list("blobs/")} == named[ids[0]] | named[ids[2]]
    kept = next(entry for entry in read_catalog(store).backups if entry.id == ids[0])
    assert not kept.lost


def test_parts_of_a_failed_run_go_after_a_day_by_the_stores_clock(tmp_path: Path, store: Store) -> None:
    """Younger ones may belong to a run that is under way."""
    id_ = "20251101T030000Z-logical-00000001"
    store.put(part_name(id_, 0), b"left over")
    assert plan_pruning(store, RULES, NOW).leftover_runs == ()
    old = (tmp_path / "store" / part_name(id_, 0)).stat().st_mtime - 2 * 86400
    os.utime(tmp_path / "store" / part_name(id_, 0), (old, old))
    pruning = plan_pruning(store, RULES, NOW)
    assert pruning.leftover_runs == (id_,)
    prune(store, pruning)
    assert read_catalog(store).incomplete == ()


def test_parts_of_a_failed_run_stay_while_nothing_may_go(tmp_path: Path, store: Store) -> None:
    """After a failed run, or while the clock contradicts the backups."""
    id_ = "20251101T030000Z-logical-00000001"
    store.put(part_name(id_, 0), b"left over")
    os.utime(tmp_path / "store" / part_name(id_, 0), (0, 0))
    assert plan_pruning(store, RULES, NOW).leftovers == (part_name(id_, 0),)
    for held in (
        plan_pruning(store, RULES, NOW, last_run_failed=True),
        plan_pruning(store, RULES, START),
    ):
        assert (held.leftovers, held.leftover_runs) == ((), ())


def test_a_clock_that_was_once_ahead_cancels_nothing_under_way(tmp_path: Path, store: Store) -> None:
    """An object of a folder bears this machine's time: tomorrow's makes no draft of today a day old."""
    draft = drafted(tmp_path / "store" / "wal-segment")
    with draft as under_way:
        newest = read_catalog(store).backups[0].id
        ahead = datetime.now(UTC) + timedelta(days=40)
        name = tmp_path / "store" / "backups" / newest / "manifest.json"
        os.utime(name, (ahead.timestamp(), ahead.timestamp()))
        pruned = prune(store, plan_pruning(store, RULES, datetime.now(UTC)))
        assert pruned.unfinished == 0
        assert under_way.path.exists()


def test_a_pin_that_comes_while_it_prunes_is_heeded(tmp_path: Path, store: Store) -> None:
    """Between the decision and the deletion. What it needs stays with it, and what nothing needs still goes;
    so does what nothing needed before, and nothing else.
    """
    ids, clock, models = [], Clock(NOW + timedelta(days=1)), tmp_path / "models"
    models.mkdir()
    for text in ("free", "saved", "newest"):
        (models / "weights").write_text(text)
        take = _taking({"models": models}, KEYS.recipients)
        source = PlayedSource(kind=Kind.PHYSICAL)
        ids.append(run_backup(store, source, wish(clock), take_folders=take).id)
        clock.pass_days(2)
    free, saved, newest = ids
    wal = [wal_name(parse_wal_file(f"00000001000000000000000{n}"), f"{n}" * 64) for n in (1, 2)]
    for name in wal:
        store.put(name, b"WAL")
    for blob in store.list("blobs/"):
        os.utime(tmp_path / "store" / blob.name, (0, 0))
    named = {
        entry.id: {blob_name(blob.plain_sha256) for blob in entry.manifest.folders[0].blobs}
        for entry in read_catalog(store).backups
        if entry.manifest.folders
    }
    pruning = plan_pruning(store, replace(RULES, days=1), clock.now - timedelta(days=1))
    assert set(pruning.blobs) == named[free] | named[saved]
    assert set(pruning.wal) == {wal[0]}
    delete = store.delete

    def pin_first(name: str) -> None:
        if store.stat(pin_name(saved)) is None:
            store.put(pin_name(saved), b"")
        delete(name)

    store.delete = pin_first  # type: ignore[method-assign]
    pruned = prune(store, pruning)
    assert free in pruned.deleted
    assert saved not in pruned.deleted
    assert pruned.pruning.decision.keep[saved] == ("pinned",)
    assert {entry.id for entry in read_catalog(store).backups} >= {saved, newest}
    assert {blob.name for blob in store.list("blobs/")} == named[saved] | named[newest]
    assert [stored.name for stored in store.list("wal/")] == wal[1:]


def test_old_heartbeats_go(store: Store) -> None:
    """The newest ones tell the recovery point."""
    for hours in (0, 100):
        store.put(heartbeat_name(Heartbeat(NOW - timedelta(hours=hours), 1, hours)), b"")
    prune(store, plan_pruning(store, RULES, NOW))
    assert len(list(store.list("heartbeats/"))) == 1


def test_proofs_of_a_half_deleted_backup_go(store: Store) -> None:
    """A pruning that died between a backup and its proofs left these: the next one takes them, and only them.
    One whose manifest came after the catalogue was read keeps its own.
    """
    catalog = read_catalog(store)
    dead, late = catalog.backups[-1].id, catalog.backups[0].id
    for stored in list(store.list(f"backups/{dead}/")):
        store.delete(stored.name)
    before = {stored.name for stored in store.list("verifications/")}
    orphans = {name for name in before if dead in name}
    assert orphans
    older = replace(read_catalog(store), backups=catalog.backups[1:-1])
    assert late not in {entry.id for entry in older.backups}
    keeping = Rules(days=30)
    pruning = plan_pruning(store, keeping, NOW, catalog=older)
    assert set(pruning.proofs) == orphans
    prune(store, pruning)
    assert {stored.name for stored in store.list("verifications/")} == before - orphans
    assert plan_pruning(store, keeping, NOW).proofs == ()
    assert plan_pruning(store, keeping, NOW, catalog=older, last_run_failed=True).proofs == ()
