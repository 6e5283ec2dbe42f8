"""Whole runs, restores and prunings by the real SDK over HTTP, with one fault at each of their requests."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest
from b2_server import DAILY, FAULTS, PRUNE, B2Server, Fault, FaultKind, b2_server
from b2sdk.v3 import (
    NO_RETENTION_FILE_SETTING,
    BucketRetentionSetting,
    RetentionMode,
    RetentionPeriod,
)
from backup_runs import KEYS, START, Clock, PlayedSource, wish
from memory_store import MemoryStore

from dreamseed_cli.backup.catalog import Catalog, hidden_if_told, read_catalog
from dreamseed_cli.backup.doors import _taking
from dreamseed_cli.backup.names import BLOBS, Heartbeat, heartbeat_name
from dreamseed_cli.backup.pipeline import Downloader
from dreamseed_cli.backup.prune import plan_pruning, prune
from dreamseed_cli.backup.restore_folders import restore_folder
from dreamseed_cli.backup.retention import Rules
from dreamseed_cli.backup.run import run_backup
from dreamseed_cli.backup.store.base import Limits, Store
from dreamseed_cli.backup.store.errors import StoreRefused
from dreamseed_cli.backup.store.open import StoreSettings, open_store
from dreamseed_cli.backup.verify import choose
from dreamseed_cli.core.errors import DreamseedError

CONTENT = b"some rowsmore rows"
LIMITS = Limits(connect_s=5, call_s=5, total_s=10, tries=4, first_wait_s=0.001, most_wait_s=0.01)
RULES = Rules(days=1, daily=1, weekly=0, monthly=0, point_in_time_days=None)
SHORTER: dict[FaultKind, Limits] = {
    "trickle": replace(LIMITS, total_s=0.3),
    "stall": replace(LIMITS, call_s=0.4),
}
PASSING = {"refuse", "stall", "reset", "lost", "expired", "busy", "unavailable"}
"""What a second try gets over."""


@pytest.fixture(scope="module")
def running() -> Iterator[B2Server]:
    """One server for the file."""
    with b2_server() as server:
        server.longest_hold_s = 0.6
        yield server
        for thread in threading.enumerate():
            if thread.name == "store-call":  # it was given up, and ends with its connection
                thread.join(5)


@pytest.fixture
def server(running: B2Server) -> B2Server:
    """With an older backup in the bucket, and no faults."""
    running.reset()
    running.empty()
    with opened(running) as store:
        run_backup(store, PlayedSource(), wish())
    return running


@contextmanager
def opened(server: B2Server, kind: FaultKind | None = None) -> Iterator[Store]:
    """A store whose session is new: its first request is the authorisation."""
    limits = SHORTER.get(kind, LIMITS) if kind else LIMITS
    settings = StoreSettings(limits=limits, b2_realm=server.url)
    store = open_store("b2:dreamseed/pg", settings, environment=server.environment(PRUNE))
    try:
        yield store
    finally:
        store.close()


def content(store: Store, backup_id: str | None = None) -> bytes:
    """What a restore gives, from the look at the catalogue to the last byte."""
    manifest = choose(read_catalog(store), backup_id).manifest
    return b"".join(Downloader(store, manifest, [KEYS.daily]).stream("played"))


def held(server: B2Server) -> MemoryStore:
    """What is in the bucket, without any request."""
    store = MemoryStore()
    store.objects = {name.removeprefix("pg/"): versions[0] for name, versions in server.objects().items()}
    return store


def failed(kind: FaultKind, work: Callable[[], object]) -> bool:
    """Whether it ended with one of our errors, which it may not where a second try gets over the fault."""
    try:
        work()
    except DreamseedError:
        if kind in PASSING:
            raise
        return True
    return False


def requests_of(server: B2Server, kind: FaultKind, work: Callable[[Store], object]) -> range:
    """The numbers of the requests this takes; for `expired` without the first one, which shows a key."""
    server.reset()
    with opened(server) as store:
        work(store)
    numbers = range(1 if kind == "expired" else 0, len(server.calls))
    server.reset()
    return numbers


def test_what_object_lock_keeps_ends_no_pruning(server: B2Server) -> None:
    """The rest goes, uploads are cancelled, a locked backup stays whole; all goes when its lock ends."""
    period = BucketRetentionSetting(RetentionMode.GOVERNANCE, RetentionPeriod(days=30))
    clock, now = Clock(), START + timedelta(days=4)
    beats = [heartbeat_name(Heartbeat(START + timedelta(minutes=minute), 1, minute)) for minute in range(30)]
    with opened(server) as store:
        (free,) = (entry.id for entry in read_catalog(store).backups)
        store.put(beats[0], b"")
        server.bucket.default_retention = period
        for beat in beats[1:]:
            store.put(beat, b"")
        clock.pass_days(1)
        locked = run_backup(store, PlayedSource(), wish(clock)).id
        clock.pass_days(2)
        run_backup(store, PlayedSource(), wish(clock))
        done = prune(store, plan_pruning(store, RULES, now))
        assert (set(done.pruning.decision.delete), done.deleted) == ({free, locked}, (free,))
        assert {name for name in done.locked if name.startswith("heartbeats/")} == set(beats[1:11])
        assert "governance until" in done.locked[beats[1]].until
        assert [beat.name for beat in store.list("heartbeats/")] == beats[1:]
        assert "list_unfinished_large_files" in server.calls
        assert content(store, locked) == CONTENT
        for file in server.bucket.file_id_to_file.values():
            file.file_retention = NO_RETENTION_FILE_SETTING
        done = prune(store, plan_pruning(store, RULES, now))
        assert (done.deleted, done.locked) == ((locked,), {})
        assert list(store.list("heartbeats/")) == []


def test_a_refusal_that_is_no_lock_is_told(server: B2Server) -> None:
    """A key that may not delete: uploads that nobody finishes are cancelled all the same."""
    settings = StoreSettings(limits=LIMITS, b2_realm=server.url)
    store = open_store("b2:dreamseed/pg", settings, environment=server.environment(DAILY))
    store.put(heartbeat_name(Heartbeat(START, 1, 1)), b"")
    pruning = plan_pruning(store, RULES, START + timedelta(days=4))
    server.reset()
    with pytest.raises(StoreRefused, match="deleteFiles"):
        prune(store, pruning)
    assert "list_unfinished_large_files" in server.calls
    store.close()


@pytest.mark.parametrize("kind", FAULTS)
def test_a_run(server: B2Server, kind: FaultKind) -> None:
    """Either it says what is wrong, or there is a new backup. Every one that is listed gives back its
    content, the older one at all times; and the next run works.
    """
    clock = Clock(START + timedelta(days=1))

    def run(store: Store) -> str:
        return run_backup(store, PlayedSource(), wish(clock)).id

    put_back = server.remember()
    for index in requests_of(server, kind, run):
        put_back()
        server.reset()
        server.faults[index] = Fault(kind)
        with opened(server, kind) as store:
            no_success = failed(kind, partial(run, store))
        whole = [content(held(server), entry.id) for entry in check(server).backups]
        assert whole == [CONTENT] * len(whole)
        assert len(whole) in ({1, 2} if no_success else {2})
    server.reset()
    with opened(server) as store:
        assert run(store) == check(server).backups[0].id


@pytest.mark.parametrize("kind", FAULTS)
def test_a_restore(server: B2Server, kind: FaultKind) -> None:
    """What comes is right or an error that is named; and the next one works."""

    def restore(store: Store) -> None:
        assert content(store) == CONTENT

    for index in requests_of(server, kind, restore):
        server.reset()
        server.faults[index] = Fault(kind)
        with opened(server, kind) as store:
            failed(kind, partial(restore, store))
            server.reset()
            restore(store)


@pytest.mark.parametrize("kind", ["lost", "reset", "cap", "html"])
def test_a_pruning(server: B2Server, kind: FaultKind) -> None:
    """No backup is ever half there; the next pruning goes on where this one ended."""
    clock = Clock(START)
    with opened(server) as store:
        for _ in range(2):
            clock.pass_days(1)
            run_backup(store, PlayedSource(), wish(clock))
    put_back = server.remember()

    def pruning(store: Store) -> None:
        prune(store, plan_pruning(store, RULES, clock.now))

    for index in requests_of(server, kind, pruning):
        put_back()
        server.reset()
        server.faults[index] = Fault(kind)
        with opened(server, kind) as store:
            failed(kind, partial(pruning, store))
            assert len(check(server).backups) in {2, 3}
            server.reset()
            pruning(store)
        whole = [content(held(server), entry.id) for entry in check(server).backups]
        assert whole == [CONTENT] * 2


def check(server: B2Server) -> Catalog:
    """The catalogue of what is held, in which nothing is damaged."""
    catalog = read_catalog(held(server))
    assert catalog.damaged == ()
    return catalog


@pytest.mark.parametrize("object_kind", ["manifest.json", "parts/000000"])
def test_a_hidden_object(server: B2Server, object_kind: str) -> None:
    """Another program hid it: that backup is none, the older one is chosen, and a new one can be made. A
    pruning two days on deletes nothing of it: shown again, it is a backup again.
    """
    clock = Clock(START + timedelta(days=1))
    with opened(server) as store:
        older = read_catalog(store).backups[0].id
        newer = run_backup(store, PlayedSource(), wish(clock)).id
        server.hide(f"pg/backups/{newer}/{object_kind}")
        catalog = read_catalog(store)
        assert choose(catalog, None).id == older
        assert hidden_if_told(store, catalog) == ({newer} if object_kind == "manifest.json" else frozenset())
        assert content(store) == CONTENT
        clock.pass_days(2)
        server.pass_days(2)
        again = run_backup(store, PlayedSource(), wish(clock)).id
        assert choose(read_catalog(store), None).id == again
        pruning = plan_pruning(store, RULES, clock.now)
        assert older in pruning.decision.delete
        prune(store, pruning)
        server.show(f"pg/backups/{newer}/{object_kind}")
        assert content(store, newer) == CONTENT


def test_a_hidden_content_of_a_folder(server: B2Server, tmp_path: Path) -> None:
    """It is lost, and stored anew by the next run, though its name has a version that is hidden."""
    root = tmp_path / "uploads"
    root.mkdir()
    (root / "a").write_bytes(b"a picture")
    clock, take = Clock(START + timedelta(days=1)), _taking({"uploads": root}, KEYS.recipients)
    with opened(server) as store:
        run_backup(store, PlayedSource(), wish(clock), take_folders=take)
        (name,) = [name for name in server.objects() if name.startswith(f"pg/{BLOBS}")]
        server.hide(name)
        assert list(read_catalog(store).backups[0].lost) == [name.removeprefix(f"pg/{BLOBS}")]
        clock.pass_days(1)
        again = run_backup(store, PlayedSource(), wish(clock), take_folders=take)
        assert read_catalog(store).backups[0].lost == {}
        downloader = Downloader(store, again.manifest, [KEYS.daily])
        assert restore_folder(again.manifest.folders[0], downloader, tmp_path / "back").files == 1
    assert (tmp_path / "back" / "a").read_bytes() == b"a picture"
