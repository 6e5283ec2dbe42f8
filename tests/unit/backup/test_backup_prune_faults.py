"""A pruning that fails or is killed at any call: what is half deleted is no backup, the next one goes on."""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import pytest
from backup_kills import killed
from backup_runs import KEYS, START, Clock, PlayedSource, wish
from faulty_store import STORE_FAULTS, Death, FaultyStore, StoreFault
from memory_store import MemoryStore

from dreamseed_cli.backup.catalog import read_catalog
from dreamseed_cli.backup.names import parse_verification
from dreamseed_cli.backup.pipeline import Downloader
from dreamseed_cli.backup.prune import plan_pruning, prune
from dreamseed_cli.backup.retention import Rules
from dreamseed_cli.backup.run import run_backup
from dreamseed_cli.backup.store.base import Store
from dreamseed_cli.backup.store.open import open_store
from dreamseed_cli.core.errors import DreamseedError

RULES = Rules(days=2, daily=1, weekly=0, monthly=0, point_in_time_days=None)
NOW = START + timedelta(days=3, hours=1)
DELETED = 2


def filled(store: Store) -> set[str]:
    """Four nights' backups in it, two of which may go; the ids of those that stay."""
    clock = Clock()
    for _ in range(4):
        run_backup(store, PlayedSource(), wish(clock))
        clock.pass_days(1)
    ids = [entry.id for entry in read_catalog(store).backups]
    return set(ids[:-DELETED])


def check(store: Store, stay: set[str]) -> None:
    """No backup that looks whole is not; those that stay come back."""
    catalog = read_catalog(store)
    assert catalog.damaged == ()
    assert stay <= {entry.id for entry in catalog.backups}
    for entry in catalog.backups:
        download = Downloader(store, entry.manifest, [KEYS.daily])
        assert b"".join(download.stream("played")) == b"some rowsmore rows"


def pruned(store: Store) -> None:
    """One pruning, from the look to the last deletion."""
    prune(store, plan_pruning(store, RULES, NOW))


def calls() -> int:
    """How many calls of the store a pruning makes."""
    watched = FaultyStore(MemoryStore())
    filled(watched)
    before = len(watched.calls)
    pruned(watched)
    return len(watched.calls) - before


@pytest.mark.parametrize("fault", STORE_FAULTS)
def test_a_fault_at_any_call(fault: StoreFault) -> None:
    """The next pruning goes on; parts that it left are no backup's (they go when they are a day old)."""
    for call in range(calls()):
        store = MemoryStore()
        stay = filled(store)
        with suppress(DreamseedError):
            pruned(FaultyStore(store, {call: fault}))
        check(store, stay)
        pruned(store)
        check(store, stay)
        assert {entry.id for entry in read_catalog(store).backups} == stay
        assert not {run.id for run in read_catalog(store).incomplete} & stay


@pytest.mark.parametrize("death", ["killed", "killed_after"])
def test_a_kill_at_any_call(death: Death, tmp_path: Path) -> None:
    """SIGKILL, on a store of files: likewise."""
    store = open_store(f"local:{tmp_path / 'store'}", create=True)
    stay = filled(store)
    call = 0
    while killed(lambda: pruned(FaultyStore(store, {call: death}))):  # noqa: B023 - called at once
        check(store, stay)
        call += 1
    assert call > DELETED
    check(store, stay)
    assert {entry.id for entry in read_catalog(store).backups} == stay
    proven = {parse_verification(stored.name).backup_id for stored in store.list("verifications/")}
    assert proven == stay
