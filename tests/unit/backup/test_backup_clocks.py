"""Runs of a host whose clock is wrong by an hour or by forty days, and what is made of their backups."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from backup_runs import KEYS, START, Clock, PlayedSource, wish
from faulty_store import FaultyStore
from memory_store import MemoryStore

from dreamseed_cli.backup.catalog import read_catalog
from dreamseed_cli.backup.pipeline import Downloader
from dreamseed_cli.backup.prune import plan_pruning, prune
from dreamseed_cli.backup.retention import Rules
from dreamseed_cli.backup.run import run_backup
from dreamseed_cli.backup.status import read_status
from dreamseed_cli.backup.store.base import Store
from dreamseed_cli.backup.verify import choose, verify

OFF = [timedelta(hours=1), timedelta(hours=-1), timedelta(days=40), timedelta(days=-40)]
RULES = Rules(days=30, daily=7, weekly=4, monthly=6, point_in_time_days=None)
NIGHTS = 5
TARGET_S = 90_000.0


@pytest.fixture(params=OFF, ids=lambda off: f"{off.total_seconds() / 3600:+.0f}h")
def off(request: pytest.FixtureRequest) -> timedelta:
    """How far the clock is off in the third of five nights."""
    found: timedelta = request.param
    return found


@pytest.fixture
def store(off: timedelta) -> Store:
    """Five nights with a pruning after each, one of them by the wrong clock."""
    kept, clock = MemoryStore(), Clock()
    for night in range(NIGHTS):
        clock.now = START + timedelta(days=night) + (off if night == NIGHTS // 2 else timedelta())
        run_backup(kept, PlayedSource([f"night {night}".encode()]), wish(clock))
        prune(kept, plan_pruning(kept, RULES, clock.now))
    return kept


def content(store: Store, backup_id: str | None) -> bytes:
    """What a restore gives."""
    manifest = choose(read_catalog(store), backup_id).manifest
    return b"".join(Downloader(store, manifest, [KEYS.daily]).stream("played"))


def test_no_night_is_lost_and_each_comes_back(store: Store) -> None:
    """In the order in which they were made, whatever their stamps say; the newest is the last night's."""
    backups = read_catalog(store).backups
    assert [content(store, entry.id) for entry in reversed(backups)] == [
        f"night {night}".encode() for night in range(NIGHTS)
    ]
    assert content(store, None) == f"night {NIGHTS - 1}".encode()
    assert all(verify(store, entry.manifest, [KEYS.daily], START).good for entry in backups)


def test_the_recovery_point_is_judged_by_the_newest_backup(store: Store) -> None:
    """Not by one whose stamp lies in the future: its age would seem to be none at all."""
    now = START + timedelta(days=NIGHTS - 1, hours=2)
    rpo = read_status(store, [KEYS.daily], lambda: now, TARGET_S).rpo
    assert rpo.rpo_s == pytest.approx(timedelta(hours=2).total_seconds())


def test_a_backup_that_was_made_during_a_slow_look_is_not_of_the_future(store: Store) -> None:
    """The clock is asked when everything was read, not before."""
    watched = FaultyStore(store)
    asked: list[int] = []

    def clock() -> datetime:
        asked.append(len(watched.calls))
        return START + timedelta(days=NIGHTS)

    read_status(watched, [KEYS.daily], clock, TARGET_S)
    assert asked == [len(watched.calls)]
    assert asked[0] > 0


def test_a_run_by_the_wrong_clock_promises_nothing_it_cannot_keep(off: timedelta) -> None:
    """Looked at with the right clock: if it was ahead, that is told; if behind, it only looks older."""
    store, clock = MemoryStore(), Clock()
    clock.now = START + off
    run_backup(store, PlayedSource(), wish(clock))
    rpo = read_status(store, [KEYS.daily], lambda: START + timedelta(minutes=1), TARGET_S).rpo
    if off > timedelta():
        assert rpo.over_target
        assert "a clock is wrong" in rpo.note
    else:
        assert rpo.rpo_s == pytest.approx((timedelta(minutes=1) - off).total_seconds())


def test_a_wrong_clock_alone_deletes_nothing(store: Store, off: timedelta) -> None:
    """A pruning by the wrong clock, once the nights are made: nothing but what is old by any clock may go."""
    held = plan_pruning(store, RULES, START + timedelta(days=NIGHTS) + off)
    assert held.decision.delete == {}
    assert len(held.decision.keep) == NIGHTS
