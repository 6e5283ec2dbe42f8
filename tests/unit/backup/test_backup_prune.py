"""Pruning: what goes from the store, in which order, and what never does."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from backup_runs import START, Clock, PlayedSource, wish

from dreamseed_cli.backup.catalog import read_catalog
from dreamseed_cli.backup.names import Heartbeat, heartbeat_name, part_name
from dreamseed_cli.backup.prune import plan_pruning, prune
from dreamseed_cli.backup.retention import Rules
from dreamseed_cli.backup.run import run_backup
from dreamseed_cli.backup.store.base import Limits, Store
from dreamseed_cli.backup.store.errors import StoreRefused
from dreamseed_cli.backup.store.open import StoreSettings, open_store

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


def test_old_heartbeats_go(store: Store) -> None:
    """The newest ones tell the recovery point."""
    for hours in (0, 100):
        store.put(heartbeat_name(Heartbeat(NOW - timedelta(hours=hours), 1, hours)), b"")
    prune(store, plan_pruning(store, RULES, NOW))
    assert len(list(store.list("heartbeats/"))) == 1
