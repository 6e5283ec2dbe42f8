"""The store with injected faults, which others' fault matrices stand on: it fails where told, only there."""

import hashlib
from pathlib import Path

import pytest
from faulty_store import STORE_FAULTS, FaultyStore, StoreFault

from dreamseed_cli.backup.store.base import Store
from dreamseed_cli.backup.store.errors import ObjectCorrupt, ObjectMissing, StoreError, StoreUnreachable
from dreamseed_cli.backup.store.open import open_store

DATA = b"some bytes"


@pytest.fixture
def inner(tmp_path: Path) -> Store:
    """The store that does the work."""
    return open_store(f"local:{tmp_path / 'store'}", create=True)


@pytest.mark.parametrize("fault", sorted(set(STORE_FAULTS) - {"lost", "corrupt", "missing"}))
def test_errors_before_anything_is_done(inner: Store, fault: StoreFault) -> None:
    """The call of that number fails and does nothing; the one after it works."""
    store = FaultyStore(inner, {1: fault})
    store.put("a", DATA)
    with pytest.raises(StoreError, match="injected"):
        store.put("b", DATA)
    assert inner.stat("b") is None
    store.put("b", DATA)
    assert store.calls == [("put", "a"), ("put", "b"), ("put", "b")]


def test_a_lost_answer(inner: Store) -> None:
    """It is done, and not known."""
    with pytest.raises(StoreUnreachable):
        FaultyStore(inner, {0: "lost"}).put("a", DATA)
    assert inner.get("a") == DATA


def test_corrupt_bytes(inner: Store, tmp_path: Path) -> None:
    """An error where a hash was given, other bytes where none was."""
    inner.put("a", DATA)
    store = FaultyStore(inner, dict.fromkeys(range(3), "corrupt"))
    sha256 = hashlib.sha256(DATA).hexdigest()
    assert store.get("a") != DATA
    with pytest.raises(ObjectCorrupt):
        store.get("a", sha256)
    with pytest.raises(ObjectCorrupt):
        store.fetch("a", tmp_path / "a", sha256)
    assert store.get("a", sha256) == DATA


def test_unseen_objects(inner: Store) -> None:
    """There, and not to be seen."""
    inner.put("a", DATA)
    store = FaultyStore(inner, dict.fromkeys(range(4), "missing"))
    assert store.stat("a") is None
    assert list(store.list("")) == []
    assert store.versions("a") == ()
    with pytest.raises(ObjectMissing):
        store.get("a")
    assert store.get("a") == DATA
