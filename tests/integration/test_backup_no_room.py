"""Disks that are really full, in the temporary folder, the store, `pg_wal` and a restore's target: what was
acknowledged stays, what was not is told, and with room again all goes on.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import psycopg
import pytest
from backup_runs import KEYS
from backup_site import NAME, ROWS, Site, backup_site
from real_services import RunningPostgres
from wal_files import PgWal, content, segment

from dreamseed_cli.backup import sources
from dreamseed_cli.backup.catalog import read_catalog
from dreamseed_cli.backup.doors import utc_now
from dreamseed_cli.backup.keys import parse_recipients
from dreamseed_cli.backup.logical.dump import backup_logical
from dreamseed_cli.backup.names import Kind
from dreamseed_cli.backup.physical.mark import MARKER
from dreamseed_cli.backup.producer import ProducerFailed
from dreamseed_cli.backup.sources import LogicalSource, read_facts
from dreamseed_cli.backup.store.base import MIB, Limits
from dreamseed_cli.backup.store.errors import StoreFull
from dreamseed_cli.backup.store.open import StoreSettings, open_store
from dreamseed_cli.backup.verify import verify
from dreamseed_cli.backup.wal.archive import read_listing
from dreamseed_cli.backup.wal.outage import Alert, read_state, ready_files
from dreamseed_cli.backup.wal.push import Archiving, push
from dreamseed_cli.services.postgres import EmbeddedPostgres

_BOUND_S = 120.0
QUICK = StoreSettings(limits=Limits(first_wait_s=0.001))


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    """One server with a backup of each kind."""
    with backup_site() as made:
        yield made


class Disk:
    """A file system of its own, of a few MiB."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def fill(self) -> None:
        """With a file, to the last byte."""
        with suppress(OSError), (self.folder / "ballast").open("wb", buffering=0) as file:
            while True:
                file.write(bytes(64 * 1024))
        with suppress(OSError), (self.folder / "ballast").open("ab", buffering=0) as file:
            while True:
                file.write(b"x")

    def grow(self, mib: int) -> None:
        """A larger disk."""
        subprocess.run(["mount", "-o", f"remount,size={mib}m", self.folder], check=True)

    def clear(self) -> None:
        (self.folder / "ballast").unlink()


@contextmanager
def disk(mib: int) -> Iterator[Disk]:
    """A tmpfs, which takes root to mount: without it this fails, as nothing else is full for real."""
    with tempfile.TemporaryDirectory(prefix="ds-full-") as name:
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={mib}m,mode=0700", "dreamseed-test", name],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"a small disk cannot be mounted here (run as root): {done.stderr}"
        try:
            yield Disk(Path(name))
        finally:
            subprocess.run(["umount", "--lazy", name], check=True)


def test_no_room_for_a_dump(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk fills while pg_dump writes, after the check for room: no backup, and its folder is gone."""
    before = {entry.id for entry in site.catalog().backups}
    with disk(40) as small:
        source = LogicalSource(site.dsn, small.folder, read_facts(site.dsn), [NAME])

        def fill(what: str, done: int, _all: int) -> None:
            if what.startswith("dump of") and not done:
                small.fill()

        with monkeypatch.context() as patched:
            patched.setattr(sources, "backup_logical", partial(backup_logical, told=fill))
            with pytest.raises(ProducerFailed, match="No space left"):
                site.back_up(source)
        assert {entry.id for entry in site.catalog().backups} == before
        small.clear()
        assert list(small.folder.iterdir()) == []
        site.prove(site.back_up(source).id)


@pytest.mark.parametrize("kind", list(Kind))
def test_no_room_in_the_store(site: Site, kind: Kind) -> None:
    """In the middle of the parts: named, nothing half there; the older backup stays, the next run works."""
    with disk(60) as small:
        store = open_store(f"local:{small.folder / 'store'}", QUICK, create=True)
        older = site.back_up(site.source(kind), store).id

        def fill(_plain: int, _stored: int) -> None:
            small.fill()

        with pytest.raises(StoreFull, match="No space left"):
            site.back_up(site.source(kind), store, fill)
        catalog = read_catalog(store)
        assert (catalog.damaged, [entry.id for entry in catalog.backups]) == ((), [older])
        assert verify(store, catalog.backups[0].manifest, [KEYS.daily], utc_now()).good
        small.clear()
        site.prove(site.back_up(site.source(kind), store).id, store)


def test_no_room_in_the_archive(tmp_path: Path) -> None:
    """A segment that does not fit is not acknowledged, the alarm says so, nothing half there is listed."""
    pg_wal = PgWal(tmp_path / "pg_wal")
    recipients = parse_recipients(KEYS.recipients, place="")
    with disk(4) as small:
        store = open_store(f"local:{small.folder / 'store'}", QUICK, create=True)
        to = Archiving(store, recipients, tmp_path / "state", ahead=0)
        push(pg_wal.ready_segment(1), to)
        small.fill()
        path = pg_wal.ready("00000001000000000000002A", _noise(42))
        with pytest.raises(StoreFull):
            push(path, to)
        state = read_state(tmp_path / "state")
        assert state is not None
        assert state.alert in {Alert.FAILING, Alert.DISK}
        assert len(read_listing(store, MIB).segments) == 1
        small.clear()
        push(path, to)
        assert len(read_listing(store, MIB).segments) == 2


def test_no_room_for_the_archivers_own_state(tmp_path: Path) -> None:
    """The store works: WAL is archived all the same, and the store is asked again for what was not noted."""
    pg_wal = PgWal(tmp_path / "pg_wal")
    store = open_store(f"local:{tmp_path / 'store'}", QUICK, create=True)
    with disk(1) as small:
        (small.folder / "state").mkdir()
        to = Archiving(store, parse_recipients(KEYS.recipients, place=""), small.folder / "state", ahead=0)
        small.fill()
        path = pg_wal.ready_segment(1)
        for _ in range(2):
            assert not push(path, to).known
        assert len(read_listing(store, MIB).segments) == 1
        small.clear()
        assert not push(path, to).known
        assert push(path, to).known


def test_no_room_in_a_restores_target(site: Site) -> None:
    """The disk fills while parts are unpacked: named, the folder keeps its mark; with room the next works."""
    found = site.catalog().newest(Kind.PHYSICAL)
    assert found is not None
    with disk(160) as small:
        to = small.folder / "data"
        download = site.download(found.id)
        fetched = download.part

        def filling(part, room=None):  # type: ignore[no-untyped-def]
            if part.index == 1:
                small.fill()
            return fetched(part, room)

        download.part = filling  # type: ignore[method-assign]
        with pytest.raises(StoreFull, match="No space left"):
            site.restore_into(to, download)
        assert (to / MARKER).exists()
        small.clear()
        site.restore_into(to, site.download(found.id))
        assert not (to / MARKER).exists()


def test_no_room_for_a_logical_restores_dump(site: Site) -> None:
    """The temporary disk fills while the dump is unpacked: named, and no database is begun."""
    found = site.catalog().newest(Kind.LOGICAL)
    assert found is not None
    with disk(40) as small:
        site_there = Site(small.folder, site.server, site.host)
        site_there.temp.mkdir()

        def fill(what: str, _done: int, _all: int) -> None:
            if what.startswith("download"):
                small.fill()

        with pytest.raises(StoreFull, match="No space left"):
            site_there.restore(site.download(found.id), "roomy", told=fill)
        small.clear()
        assert list(site_there.temp.iterdir()) == []
        assert site_there.restore(site.download(found.id), "roomy").rows == ROWS
    with psycopg.connect(site.dsn, autocommit=True) as connection:
        connection.execute("DROP DATABASE roomy")


def test_no_room_for_the_servers_own_wal(tmp_path: Path) -> None:
    """While the archive is away WAL fills its disk, until PostgreSQL ends. With room again all that was
    acknowledged is there, and all that waited is archived: nothing was dropped meanwhile.
    """
    with tempfile.TemporaryDirectory(prefix="ds-wf-") as name, disk(40) as small:
        server = RunningPostgres(EmbeddedPostgres(Path(name) / "pg", Path(name)), Path(name) / "log")
        wal = small.folder / "wal"
        subprocess.run(
            [*server.server.initdb(), "--no-sync", "--wal-segsize=1", f"--waldir={wal}"],
            check=True,
            capture_output=True,
        )
        with (server.server.data / "postgresql.conf").open("a") as file:
            file.write("archive_mode = on\narchive_command = 'false'\n")
        try:
            server.start()
            acknowledged = _write_until_it_ends(server)
            assert acknowledged > 0
            first = push_all(wal, tmp_path / "store", tmp_path / "state")
            small.grow(200)
            server.start()
            with psycopg.connect(server.server.dsn("postgres"), autocommit=True) as connection:
                row = connection.execute("SELECT count(*) FROM kept").fetchone()
                assert row is not None
                assert row[0] >= acknowledged
                connection.execute("SELECT pg_switch_wal()")
            server.stop()
            push_all(wal, tmp_path / "store", tmp_path / "state")
            archived = read_listing(open_store(f"local:{tmp_path / 'store'}"), MIB).segments
            assert len(archived) > first
            numbers = [one.number for one in archived]
            assert numbers == list(range(numbers[0], numbers[-1] + 1))
        finally:
            server.stop()


def _write_until_it_ends(server: RunningPostgres) -> int:
    """How many rows were acknowledged before the server had no room for another one."""
    count = 0
    with (
        suppress(psycopg.Error),
        psycopg.connect(server.server.dsn("postgres"), autocommit=True) as connection,
    ):
        connection.execute("CREATE TABLE kept (n int, t text)")
        while True:
            connection.execute(
                "INSERT INTO kept SELECT g, repeat(md5(g::text), 8) FROM generate_series(1, 500) g"
            )
            count += 500
    assert server.process is not None
    assert server.process.wait(_BOUND_S) != 0
    return count


def push_all(pg_wal: Path, store: Path, state: Path) -> int:
    """Archive what waits, as PostgreSQL would ask for it; how many files that were."""
    archive = open_store(f"local:{store}", QUICK, create=True)
    to = Archiving(archive, parse_recipients(KEYS.recipients, place=""), state)
    waiting = ready_files(pg_wal)
    for ready in waiting:
        push(pg_wal / ready.name, to)
    return len(waiting)


def _noise(number: int) -> bytes:
    """A segment that does not compress."""
    return content(segment(number))[:40] + os.urandom(MIB - 40)
