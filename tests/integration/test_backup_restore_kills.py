"""Restores of real backups, killed at every phase: what is half there is no database, the next one works."""

from __future__ import annotations

import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import count
from pathlib import Path
from unittest.mock import patch

import psycopg
import pytest
from backup_kills import kill_here, killed
from backup_site import NAME, ROWS, Site, backup_site
from faulty_store import STORE_FAULTS, FaultyStore
from flipped import flipped

from dreamseed_cli.backup.logical import restore as logical
from dreamseed_cli.backup.logical.dump import database_stream
from dreamseed_cli.backup.manifest import Level
from dreamseed_cli.backup.names import Kind, part_name
from dreamseed_cli.backup.physical.folder import TargetTaken
from dreamseed_cli.backup.physical.label import LABEL
from dreamseed_cli.backup.physical.mark import MARKER
from dreamseed_cli.backup.physical.recovery import Goal
from dreamseed_cli.backup.physical.restore import Restored
from dreamseed_cli.backup.producer import run_program
from dreamseed_cli.backup.recover import BackupDamaged, Recovery
from dreamseed_cli.backup.settings import Settings
from dreamseed_cli.backup.store.errors import StoreUnreachable
from dreamseed_cli.backup.unpack import JOURNAL, Unpacking
from dreamseed_cli.core.errors import DreamseedError
from dreamseed_cli.core.processes import ProcessIdentity

pytestmark = pytest.mark.usefixtures("untraced_children")

INTO = "again"
_BOUND_S = 120.0


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    """One server with a backup of each kind."""
    with backup_site() as made:
        yield made


def newest(site: Site, kind: Kind) -> str:
    """The id of the newest backup of that kind."""
    found = site.catalog().newest(kind)
    assert found is not None
    return found.id


@pytest.mark.parametrize("phase", ["download", "restore", "in pg_restore", "digests"])
def test_a_logical_restore_that_is_killed(site: Site, phase: str) -> None:
    """The next one converges: it makes a database that was begun anew, and proves one that was full."""
    backup_id = newest(site, Kind.LOGICAL)

    def told(what: str, _done: int, _all: int) -> None:
        if what.startswith(phase):
            kill_here()

    def restore() -> None:
        begin = _killed_soon if phase == "in pg_restore" else run_program
        with patch.object(logical, "run_program", begin):
            site.restore(site.download(backup_id), INTO, told=told)

    assert killed(restore)
    report = site.restore(site.download(backup_id), INTO)  # pg_restore may have outlived its parent
    assert report.rows == ROWS
    assert list(site.temp.iterdir()) == []
    with psycopg.connect(site.dsn, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {INTO}")


@pytest.mark.parametrize("changed", [False, True])
def test_a_logical_restore_that_was_killed_fetches_only_what_is_missing(site: Site, changed: bool) -> None:
    """What it had unpacked of the dump is proven again."""
    backup_id = newest(site, Kind.LOGICAL)
    assert killed(partial(_killed_behind, 1, lambda: site.restore(site.download(backup_id), INTO)))
    (left,) = site.temp.iterdir()
    if changed:
        first = min(left.glob("*.dat"))
        first.write_bytes(flipped(first.read_bytes()))
    watched = FaultyStore(site.host.open())
    download = site.download(backup_id, watched)
    looked = len(watched.calls)
    assert site.restore(download, INTO).rows == ROWS
    parts = download.parts_of(database_stream(NAME))
    missing = parts if changed else parts[1:]
    assert sorted(watched.calls[looked:]) == [("get", part_name(backup_id, part.index)) for part in missing]
    assert list(site.temp.iterdir()) == []
    with psycopg.connect(site.dsn, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {INTO}")


def test_a_logical_restore_from_a_store_that_fails_at_any_call(site: Site) -> None:
    """An error, and no database is left; the next one works. A fault at another call, another fault."""
    backup_id, call = newest(site, Kind.LOGICAL), 0
    watched = FaultyStore(site.host.open())
    download = site.download(backup_id, watched)
    before = len(watched.calls)
    site.restore(download, INTO, replace=True)
    for call in range(len(watched.calls) - before):
        for fault in STORE_FAULTS[call::2]:
            store = FaultyStore(site.host.open())
            download = site.download(backup_id, store)
            store.faults[len(store.calls) + call] = fault
            with pytest.raises(DreamseedError):
                site.restore(download, f"{INTO}_not")
    with psycopg.connect(site.dsn, autocommit=True) as connection:
        assert connection.execute("SELECT FROM pg_database WHERE datname = 'again_not'").fetchall() == []
        connection.execute(f"DROP DATABASE {INTO}")


def test_a_physical_restore_from_a_store_that_fails_at_any_call(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catalogue, archive, parts, the record of the proof, the last call first: an error, and a folder that is
    no database; or a database. The next attempt keeps what is proven of it, and converges.
    """
    to, backup_id = tmp_path / "data", newest(site, Kind.PHYSICAL)
    ways: set[type[DreamseedError] | None] = set()

    def attempt(store: FaultyStore, *, quick: bool) -> Restored:
        monkeypatch.setattr(Settings, "open", lambda _self: store)
        recovery = Recovery.look(site.host, None, backup_id, Goal())
        return recovery.physical_into(to, (), lambda _text: None, quick=quick)

    whole = site.host.open()
    watched = FaultyStore(whole)
    attempt(watched, quick=True)
    assert len(watched.calls) > len(STORE_FAULTS)
    for call in reversed(range(len(watched.calls))):
        if not (to / MARKER).exists():
            shutil.rmtree(to, ignore_errors=True)
        store = FaultyStore(whole, {call: STORE_FAULTS[call % len(STORE_FAULTS)]})
        try:
            attempt(store, quick=True)
        except DreamseedError as error:
            ways.add(type(error))
            assert (to / MARKER).exists() or not to.exists()
        else:
            ways.add(None)
            assert not (to / MARKER).exists()
            assert (to / "PG_VERSION").exists()
    assert ways >= {None, BackupDamaged, StoreUnreachable}
    assert attempt(watched, quick=False).proven is Level.DIGESTS_EQUAL
    assert not (to / MARKER).exists()


def test_a_physical_restore_that_is_killed_at_each_phase(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While parts come, before they are compared, before and in the recovery: the folder keeps its mark, and
    the next one converges. The server that recovered it ends with the restore that was killed, and what that
    left in the temporary folder goes with the next.
    """
    to, backup_id = tmp_path / "data", newest(site, Kind.PHYSICAL)
    left = site.folder / "t"
    left.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(left))
    watched = FaultyStore(site.host.open())
    site.download(backup_id, watched)
    looked = len(watched.calls)
    for call in (looked, looked + 2, looked + 3):
        store = FaultyStore(site.host.open(), {call: "killed"})
        assert killed(partial(_restored, site, to, backup_id, store))
        assert (to / MARKER).exists()
    for text in ("unpacked", "recovery begins"):
        assert killed(partial(_killed_when, site, to, backup_id, text))
        assert (to / MARKER).exists()
    assert killed(lambda: site.restore_into(to, site.download(backup_id), look=kill_here))
    assert (to / MARKER).exists()
    _until_ended(to)
    assert len(list(left.iterdir())) == 1
    assert site.restore_into(to, site.download(backup_id)).cleared  # it was open to be written to
    assert not (to / MARKER).exists()
    assert list(left.iterdir()) == []


@pytest.mark.parametrize("damaged", [False, True])
def test_a_physical_restore_that_was_killed_fetches_only_what_is_missing(
    site: Site, tmp_path: Path, damaged: bool
) -> None:
    """Its parts are proven by their digests again: from one on that is not, all are fetched."""
    to, backup_id, unpacked = tmp_path / "data", newest(site, Kind.PHYSICAL), 2
    assert killed(partial(_killed_behind, unpacked, lambda: site.restore_into(to, site.download(backup_id))))
    if damaged:
        label = to / LABEL  # the first file
        label.write_bytes(label.read_bytes().replace(b"dreamseed", b"nightmare"))
    watched = FaultyStore(site.host.open())
    download = site.download(backup_id, watched)
    looked, parts = len(watched.calls), download.manifest.parts
    done = site.restore_into(to, download)
    missing = parts if damaged else parts[unpacked:]
    assert missing
    assert sorted(watched.calls[looked:]) == [("get", part_name(backup_id, part.index)) for part in missing]
    assert done.kept == done.size - sum(part.plain_size for part in missing)
    assert (done.proven, done.cleared) == (Level.DIGESTS_EQUAL, damaged)
    assert not (to / JOURNAL).exists()


def test_two_restores_at_once_into_one_folder(site: Site, tmp_path: Path) -> None:
    """One of them makes a database, the other one is told that it made none."""
    to, backup_id = tmp_path / "data", newest(site, Kind.PHYSICAL)
    unpacked, go_on = threading.Event(), threading.Event()
    failed: list[DreamseedError] = []

    def tell(text: str) -> None:
        if "unpacked" in text:
            unpacked.set()
            go_on.wait(_BOUND_S)

    def restore(tell: Callable[[str], None] = lambda _text: None) -> None:
        try:
            site.restore_into(to, site.download(backup_id), tell)
        except DreamseedError as error:
            failed.append(error)

    first = threading.Thread(target=restore, args=(tell,))
    first.start()
    assert unpacked.wait(_BOUND_S)
    restore()
    go_on.set()
    first.join(_BOUND_S)
    assert [type(error) for error in failed] == [TargetTaken]
    assert not (to / MARKER).exists()
    assert (to / "PG_VERSION").exists()


def _killed_soon(argv: Sequence[str | Path], *, environment: Mapping[str, str] | None = None) -> None:
    """While that program works, or right behind it."""
    timer = threading.Timer(0.1, kill_here)
    timer.start()
    run_program(argv, environment=environment)
    timer.join()


def _restored(site: Site, to: Path, backup_id: str, store: FaultyStore) -> None:
    site.restore_into(to, site.download(backup_id, store))


def _killed_behind(parts: int, restore: Callable[[], object]) -> None:
    """Once so many parts are unpacked."""
    feed, fed = Unpacking.feed, count(1)

    def feed_and_die(self: Unpacking, piece: memoryview) -> None:
        feed(self, piece)
        if next(fed) == parts:
            kill_here()

    with patch.object(Unpacking, "feed", feed_and_die):
        restore()


def _killed_when(site: Site, to: Path, backup_id: str, text: str) -> None:
    def tell(said: str) -> None:
        if text in said:
            kill_here()

    site.restore_into(to, site.download(backup_id), tell)


def _until_ended(data: Path) -> None:
    """Whoever runs on this folder; a server that was shut down at once leaves its pid file there."""
    try:
        pid = int((data / "postmaster.pid").read_text().split()[0])
    except FileNotFoundError:
        return
    identity = ProcessIdentity.of(pid)
    deadline = time.monotonic() + _BOUND_S
    while identity is not None and identity.alive():
        assert time.monotonic() < deadline
        time.sleep(0.05)
