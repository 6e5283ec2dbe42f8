"""A run: the manifest last, no false success whatever fails, and the next run converges."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from backup_runs import KEYS, Clock, PlayedSource, wish
from faulty_store import STORE_FAULTS, FaultyStore, StoreFault
from flipped import flipped

from dreamseed_cli.backup.catalog import Catalog, read_catalog
from dreamseed_cli.backup.cold import copy_backup
from dreamseed_cli.backup.keys import NewKeys, WrongKey
from dreamseed_cli.backup.manifest import Level, Manifest
from dreamseed_cli.backup.names import Kind
from dreamseed_cli.backup.owner import owners
from dreamseed_cli.backup.pipeline import Downloader, Uploader
from dreamseed_cli.backup.prune import Pruned
from dreamseed_cli.backup.run import After, run_backup
from dreamseed_cli.backup.source import Produced
from dreamseed_cli.backup.store.base import Limits, Store
from dreamseed_cli.backup.store.errors import StoreRefused
from dreamseed_cli.backup.store.open import StoreSettings, open_store
from dreamseed_cli.backup.verify import choose, verify
from dreamseed_cli.backup.wal.segment import OtherCluster
from dreamseed_cli.core.errors import DreamseedError, FailedError, UsageError

QUICK = StoreSettings(limits=Limits(first_wait_s=0.001))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """A local store of the test's own."""
    opened = open_store(f"local:{tmp_path / 'store'}", QUICK, create=True)
    yield opened
    opened.close()


def content(store: Store, manifest: Manifest) -> bytes:
    """What a restore would get."""
    return b"".join(Downloader(store, manifest, [KEYS.daily]).stream("played"))


def test_a_run_makes_a_backup_that_gives_back_what_was_streamed(store: Store) -> None:
    """With its proof, its rate and the time of each step."""
    report = run_backup(store, PlayedSource(), wish())
    entry = choose(read_catalog(store), "latest")
    assert entry.id == report.id
    assert entry.proof.level is Level.REREAD
    assert content(store, entry.manifest) == b"some rowsmore rows"
    assert report.bytes_per_s == pytest.approx(18 / entry.manifest.span.duration_s)
    assert list(report.seconds) == ["catalogue", "streams", "manifest", "check"]


def test_the_manifest_is_the_last_object_of_a_backup(store: Store) -> None:
    """Only the record of its proof comes after it."""
    watched = FaultyStore(store)
    report = run_backup(watched, PlayedSource(), wish())
    put = [name for method, name in watched.calls if method == "put"]
    assert put[-2] == f"backups/{report.id}/manifest.json"
    assert put[-1].startswith(f"verifications/{report.id}/")


def test_sequence_numbers_go_on_however_the_clock_is_set(store: Store) -> None:
    """The second is the newer one although its clock is 40 days behind."""
    clock = Clock()
    run_backup(store, PlayedSource(), wish(clock))
    clock.pass_days(-40)
    second = run_backup(store, PlayedSource(), wish(clock))
    assert choose(read_catalog(store), None).id == second.id


def test_a_producer_that_dies_leaves_no_backup(store: Store) -> None:
    """Nor after some parts are stored."""

    def dying() -> Iterator[bytes]:
        yield b"x" * 100
        raise FailedError("pg_dump exited with code 1")

    class Dying(PlayedSource):
        def produce(self, uploader: Uploader) -> Produced:
            uploader.part_bytes = 10
            uploader.stream("played", dying())
            raise AssertionError

    with pytest.raises(FailedError, match="pg_dump"):
        run_backup(store, Dying(), wish())
    catalog = read_catalog(store)
    assert catalog.backups == ()
    assert catalog.damaged == ()


def test_a_physical_backup_of_another_cluster_is_refused_before_anything_is_read(store: Store) -> None:
    """The store's first one claimed it. The WAL behind both would be mixed up; a standby's is no other's."""
    for _ in range(2):
        run_backup(store, PlayedSource(kind=Kind.PHYSICAL), wish())

    def read() -> None:
        raise AssertionError

    with pytest.raises(OtherCluster, match="7421907384612345678, and this one is 999"):
        run_backup(store, PlayedSource(kind=Kind.PHYSICAL, system="999", before=read), wish())


def test_a_store_from_before_claims_is_its_newest_physical_backups(store: Store, tmp_path: Path) -> None:
    """No object says whose it is: its manifest does."""
    run_backup(store, PlayedSource(kind=Kind.PHYSICAL), wish())
    (tmp_path / "store" / "clusters" / PlayedSource().system).unlink()
    with pytest.raises(OtherCluster):
        run_backup(store, PlayedSource(kind=Kind.PHYSICAL, system="999"), wish())
    run_backup(store, PlayedSource(kind=Kind.PHYSICAL), wish())
    assert owners(store) == {PlayedSource().system}


def test_a_logical_backup_of_another_cluster_is_made_and_told(store: Store) -> None:
    """A cluster restored from a logical one is another: its nights are not without a backup meanwhile."""
    assert not run_backup(store, PlayedSource(), wish()).problems
    report = run_backup(store, PlayedSource(system="999"), wish())
    assert [problem.kind for problem in report.problems] == ["wal_other_cluster"]
    assert choose(read_catalog(store), None).id == report.id
    assert owners(store) == set()


def calls_of_a_run(tmp_path: Path) -> int:
    """How many calls of the store a run makes."""
    watched = FaultyStore(open_store(f"local:{tmp_path / 'counted'}", create=True))
    run_backup(watched, PlayedSource(), wish())
    return len(watched.calls)


@pytest.mark.parametrize("fault", STORE_FAULTS)
def test_a_fault_at_any_call_is_no_false_success_and_the_next_run_converges(
    fault: StoreFault, store: Store, tmp_path: Path
) -> None:
    """Either it raises, or the backup is there; what is listed as good gives back its content."""
    for call in range(calls_of_a_run(tmp_path)):
        faulty = FaultyStore(store, {call: fault})
        with suppress(DreamseedError):
            made = run_backup(faulty, PlayedSource(), wish())
            assert choose(read_catalog(store), made.id).manifest == made.manifest
    after = run_backup(store, PlayedSource(), wish())
    good = read_catalog(store).backups
    assert good[0].id == after.id
    assert all(content(store, entry.manifest) == b"some rowsmore rows" for entry in good)


def test_what_fails_after_the_backup_is_told_beside_it(store: Store) -> None:
    """Retention without the right to delete, a cold store that is away: the backup exists all the same."""

    def refused(_catalog: Catalog) -> Pruned:
        raise StoreRefused("this key may not delete")

    def away(_manifest: Manifest) -> None:
        raise FailedError("the cold store is away")

    report = run_backup(store, PlayedSource(), wish(), After(refused, away))
    assert [problem.cause for problem in report.problems] == [
        "this key may not delete",
        "the cold store is away",
    ]
    assert choose(read_catalog(store), None).id == report.id


def test_nothing_is_pruned_after_a_failed_run(store: Store) -> None:
    """Retention is not even asked."""
    asked: list[str] = []

    def pruning(_catalog: Catalog) -> Pruned:
        asked.append("pruned")
        raise AssertionError

    source = PlayedSource(before=lambda: (_ for _ in ()).throw(FailedError("no server")))
    with pytest.raises(FailedError):
        run_backup(store, source, wish(), After(pruning))
    assert asked == []


def test_the_second_copy_is_a_backup_of_its_own(store: Store, tmp_path: Path) -> None:
    """Without the first store; a second time nothing is sent."""
    cold = open_store(f"local:{tmp_path / 'cold'}", create=True)
    report = run_backup(store, PlayedSource(), wish())
    assert copy_backup(store, cold, report.manifest) == report.manifest.stored_bytes
    entry = choose(read_catalog(cold), report.id)
    assert content(cold, entry.manifest) == b"some rowsmore rows"
    assert copy_backup(store, cold, report.manifest) <= report.manifest.stored_bytes
    cold.close()


@pytest.mark.parametrize("keys", [[], [KEYS.recovery]], ids=["reread", "opened"])
def test_verify_finds_a_flipped_byte(keys: list, store: Store, tmp_path: Path) -> None:  # type: ignore[type-arg]
    """With a key and without; the good one before it is offered by name."""
    run_backup(store, PlayedSource(), wish())
    entry = choose(read_catalog(store), None)
    assert verify(store, entry.manifest, keys, Clock().now).good
    part = tmp_path / "store" / "backups" / entry.id / "parts" / "000000"
    part.write_bytes(flipped(part.read_bytes()))
    done = verify(store, entry.manifest, keys, Clock().now)
    assert not done.good
    assert "000000" in done.errors[0].place


def test_verify_with_a_wrong_key_says_so(store: Store) -> None:
    """The backup is not called damaged for it."""
    run_backup(store, PlayedSource(), wish())
    manifest = choose(read_catalog(store), None).manifest
    with pytest.raises(WrongKey):
        verify(store, manifest, [NewKeys.create().daily], Clock().now)


def test_a_damaged_backup_is_not_chosen_and_the_next_older_is_offered(store: Store, tmp_path: Path) -> None:
    """Named with what is wrong."""
    clock = Clock()
    older = run_backup(store, PlayedSource(), wish(clock))
    clock.pass_days(1)
    newer = run_backup(store, PlayedSource(), wish(clock))
    (tmp_path / "store" / "backups" / newer.id / "parts" / "000000").unlink()
    catalog = read_catalog(store)
    assert choose(catalog, None).id == older.id
    with pytest.raises(UsageError, match=older.id):
        choose(catalog, newer.id)
