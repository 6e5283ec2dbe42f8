"""Every kind of fault at every call of the store, for what follows a backup: its copy, its proof, a restore.

Those of a run stand in test_backup_run, of a pruning in test_backup_prune_faults, of WAL in its own tests.
With a real PostgreSQL the kinds take turns: what is done about one does not depend on what is backed up.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from backup_runs import KEYS, Clock, PlayedSource, settings, wish
from faulty_store import STORE_FAULTS, FaultyStore, StoreFault
from memory_store import MemoryStore

from dreamseed_cli.backup.catalog import read_catalog
from dreamseed_cli.backup.cold import copy_backup
from dreamseed_cli.backup.doors import _taking
from dreamseed_cli.backup.manifest import Manifest
from dreamseed_cli.backup.names import Kind
from dreamseed_cli.backup.physical.recovery import Goal
from dreamseed_cli.backup.pipeline import reread
from dreamseed_cli.backup.recover import BackupDamaged, Recovery
from dreamseed_cli.backup.restore_folders import MARKER
from dreamseed_cli.backup.run import run_backup
from dreamseed_cli.backup.settings import Settings
from dreamseed_cli.backup.store.base import Store
from dreamseed_cli.backup.verify import verify
from dreamseed_cli.core.errors import DreamseedError

FILES = {"a": b"a picture", "b": b"another one"}


@dataclass
class Kept:
    """A host, a store with a physical backup of rows and a folder, and an older one."""

    host: Settings
    store: MemoryStore
    manifest: Manifest


@pytest.fixture
def kept(tmp_path: Path) -> Kept:
    """Two nights."""
    uploads, store, clock = tmp_path / "uploads", MemoryStore(), Clock()
    uploads.mkdir()
    for name, content in FILES.items():
        (uploads / name).write_bytes(content)
    for _ in range(2):
        source = PlayedSource(kind=Kind.PHYSICAL)
        take = _taking({"uploads": uploads}, KEYS.recipients)
        manifest = run_backup(store, source, wish(clock), take_folders=take).manifest
        clock.pass_days(1)
    return Kept(settings(tmp_path / "home"), store, manifest)


def calls_of(work: Callable[[Store], object], store: Store) -> int:
    """How many calls of the store it makes."""
    watched = FaultyStore(store)
    work(watched)
    return len(watched.calls)


def copied(store: MemoryStore) -> MemoryStore:
    """The same objects in another store."""
    made = MemoryStore()
    made.objects = dict(store.objects)
    return made


@pytest.mark.parametrize("fault", STORE_FAULTS)
@pytest.mark.parametrize("side", ["store", "cold"])
def test_a_second_copy(kept: Kept, fault: StoreFault, side: str) -> None:
    """It has no manifest before it is whole; the next try makes it so, and the first store is as it was."""

    def copy(faulty: Store, other: Store) -> None:
        pair = (faulty, other) if side == "store" else (other, faulty)
        copy_backup(*pair, kept.manifest)

    def other() -> MemoryStore:
        return MemoryStore() if side == "store" else copied(kept.store)

    def inner() -> MemoryStore:
        return copied(kept.store) if side == "store" else MemoryStore()

    count = calls_of(lambda store: copy(store, other()), inner())
    assert count > 3
    for call in range(count):
        faulted, beside = inner(), other()
        with suppress(DreamseedError):
            copy(FaultyStore(faulted, {call: fault}), beside)
        hot, cold = (faulted, beside) if side == "store" else (beside, faulted)
        assert hot.objects == kept.store.objects
        for entry in read_catalog(cold).backups:
            assert reread(cold, entry.manifest) == ()
        copy(faulted, beside)
        (there,) = read_catalog(cold).backups
        assert there.id == kept.manifest.identity.backup_id
        assert reread(cold, there.manifest) == ()


@pytest.mark.parametrize("fault", STORE_FAULTS)
@pytest.mark.parametrize("keys", [[], [KEYS.daily]], ids=["reread", "opened"])
def test_a_proof(kept: Kept, fault: StoreFault, keys: list) -> None:  # type: ignore[type-arg]
    """What is not read as it should be is told; none is recorded unless all was."""

    def prove(store: Store) -> bool:
        return verify(store, kept.manifest, keys, Clock().now).good

    for call in range(calls_of(prove, copied(kept.store))):
        store = copied(kept.store)
        before = set(store.objects)
        faulty = FaultyStore(store, {call: fault})
        good = False
        with suppress(DreamseedError):
            good = prove(faulty)
        fetched = faulty.calls[call][0] == "get"
        assert not (good and fetched)
        assert (set(store.objects) == before) or not fetched
        assert prove(store)


@pytest.mark.parametrize("fault", STORE_FAULTS)
def test_a_restore_of_folders(
    kept: Kept, fault: StoreFault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the catalogue to the last file: an error, or whole folders; the same again goes on from there."""

    def restore(store: Store, to: Path) -> Recovery:
        monkeypatch.setattr(Settings, "open", lambda _self: store)
        recovery = Recovery.look(kept.host, None, None, Goal())
        recovery.folders_into(to, lambda _text: None)
        return recovery

    def check(to: Path) -> None:
        assert not (to / MARKER).exists()
        assert {path.name: path.read_bytes() for path in (to / "uploads").iterdir()} == FILES

    for call in range(calls_of(lambda store: restore(store, tmp_path / "once"), kept.store)):
        to = tmp_path / str(call)
        try:
            restore(FaultyStore(kept.store, {call: fault}), to)
        except DreamseedError as error:
            damaged = isinstance(error, BackupDamaged)
            assert not damaged or fault in {"corrupt", "missing"}
        else:
            check(to)
            continue
        assert (to / MARKER).exists() or not to.exists()
        restore(kept.store, to)
        check(to)


@pytest.mark.parametrize("fault", STORE_FAULTS)
def test_a_preview(kept: Kept, fault: StoreFault, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error, or the truth about a backup that is there; nothing is changed by it."""

    def look(store: Store) -> str:
        monkeypatch.setattr(Settings, "open", lambda _self: store)
        return Recovery.look(kept.host, None, None, Goal()).preview().entry.id

    ids = {entry.id for entry in read_catalog(kept.store).backups}
    before = dict(kept.store.objects)
    for call in range(calls_of(look, kept.store)):
        with suppress(DreamseedError):
            assert look(FaultyStore(kept.store, {call: fault})) in ids
    assert kept.store.objects == before
