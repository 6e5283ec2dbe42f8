"""Physical backups proven by content: what tables held at one place in the WAL, found again by a restore."""

from __future__ import annotations

import shutil
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import psycopg
import pytest
import real_services
from real_services import RunningPostgres

from dreamseed_cli.backup.keys import Identity
from dreamseed_cli.backup.logical import digests
from dreamseed_cli.backup.logical.proof import DigestsDiffer
from dreamseed_cli.backup.logical.server import Connection, connect
from dreamseed_cli.backup.logical.snapshot import DatabaseBusy, begin_locked
from dreamseed_cli.backup.manifest import Level, Manifest
from dreamseed_cli.backup.physical import content
from dreamseed_cli.backup.physical.base import PhysicalSource
from dreamseed_cli.backup.physical.content import Archived, quiet_number, stop_to_compare, take_content
from dreamseed_cli.backup.physical.recovery import Goal
from dreamseed_cli.backup.physical.restore import Restored, Wish, restore_physical
from dreamseed_cli.backup.pipeline import Downloader
from dreamseed_cli.backup.run import Report, run_backup
from dreamseed_cli.backup.run import Wish as RunWish
from dreamseed_cli.backup.store.base import Store
from dreamseed_cli.backup.store.open import open_store
from dreamseed_cli.backup.wal_names import TimelineHistory

_ARCHIVED = Archived(1 << 60, TimelineHistory(1))


@dataclass
class Box:
    """A server, and where its backups and its WAL go."""

    server: RunningPostgres
    store: Store
    wal: Path
    identity: Identity

    @property
    def dsn(self) -> str:
        return self.server.server.dsn("postgres")

    def backup(self) -> Report:
        wish = RunWish((self.identity.recipient,))
        return run_backup(self.store, PhysicalSource(self.dsn, "a box"), wish)

    def restore(
        self, manifest: Manifest, to: Path, goal: Goal, *, archive: bool
    ) -> tuple[Restored, list[tuple[int]]]:
        """The report, and what table `t` holds afterwards."""
        rows: list[tuple[int]] = []

        def look(dsn: str) -> None:
            with psycopg.connect(dsn) as connection:
                rows.extend(connection.execute("SELECT n FROM t ORDER BY n").fetchall())

        stop = stop_to_compare(manifest, goal, _ARCHIVED if archive else None)
        command = f"cp {self.wal}/%f %p" if archive else None
        wish = Wish(to, goal, command, check=look, compare_at=stop if isinstance(stop, Goal) else None)
        download = Downloader(self.store, manifest, [self.identity])
        return restore_physical(download, wish, lambda _text: None), rows

    def archives(self, *, on: bool) -> None:
        """Without autovacuum, which writes when it likes."""
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            connection.execute(f"ALTER SYSTEM SET archive_mode = {'on' if on else 'off'}")
            connection.execute(f"ALTER SYSTEM SET archive_command = 'cp %p {self.wal}/%f'")
            connection.execute("ALTER SYSTEM SET autovacuum = off")
        self.server.stop()
        self.server.start()


@pytest.fixture(scope="module")
def box() -> Iterator[Box]:
    """With two databases, a large object, an unlogged table and a view that holds rows."""
    with tempfile.TemporaryDirectory(prefix="ds-cont-") as name, real_services.postgres(Path(name)) as server:
        wal = Path(name) / "wal"
        wal.mkdir()
        made = Box(server, open_store(f"local:{name}/store", create=True), wal, Identity.create())
        with psycopg.connect(made.dsn, autocommit=True) as connection:
            connection.execute("CREATE TABLE t AS SELECT generate_series(1, 1000) AS n")
            connection.execute("CREATE UNLOGGED TABLE fleeting AS SELECT 1 AS n")
            connection.execute("CREATE MATERIALIZED VIEW v AS SELECT sum(n) FROM t")
            connection.execute("SELECT lo_from_bytea(0, 'a large object')")
            connection.execute('CREATE DATABASE "Other One"')
        yield made


@pytest.fixture
def target() -> Iterator[Path]:
    """A data folder that is not there yet."""
    with tempfile.TemporaryDirectory(prefix="ds-to-") as name:
        yield Path(name) / "data"


def names(manifest: Manifest) -> set[str]:
    """The digested tables."""
    return {f"{table.database}.{table.name}" for table in manifest.tables}


def test_a_server_at_rest_is_proven_without_an_archive(box: Box, target: Path) -> None:
    """Digests are of the backup's own end; one that differs fails the restore by its table's name."""
    box.archives(on=False)
    manifest = box.backup().manifest
    assert manifest.content is not None
    assert manifest.wal is not None
    assert (manifest.content.point, manifest.content.lsn) == (None, manifest.wal.stop_lsn)
    assert {"postgres.t", "postgres.v", "postgres.pg_largeobject", "Other One.pg_largeobject"} <= names(
        manifest
    )
    assert "postgres.fleeting" not in names(manifest)
    restored, rows = box.restore(manifest, target, Goal("immediate"), archive=False)
    assert restored.proven is Level.DIGESTS_EQUAL
    assert restored.content is not None
    assert restored.content.rows == sum(table.rows for table in manifest.tables)
    assert len(rows) == 1000
    changed = [
        table.model_copy(update={"digest": "0" * 64}) if table.name == "t" else table
        for table in manifest.tables
    ]
    shutil.rmtree(target)
    with pytest.raises(DigestsDiffer, match=r"public\.t has other content"):
        box.restore(
            manifest.model_copy(update={"tables": tuple(changed)}), target, Goal("immediate"), archive=False
        )


def test_a_server_that_is_written_to_is_proven_on_the_way(box: Box, target: Path) -> None:
    """Recovery stops where the digests were taken, compares, and goes on to what was written later."""
    box.archives(on=True)
    with _writing(box.dsn):
        manifest = box.backup().manifest
    assert manifest.content is not None
    assert manifest.content.point is not None
    with psycopg.connect(box.dsn, autocommit=True) as connection:
        connection.execute("INSERT INTO t VALUES (-1)")
        connection.execute("SELECT pg_switch_wal()")
        _wait_until_archived(connection)
    restored, rows = box.restore(manifest, target, Goal(), archive=True)
    assert restored.proven is Level.DIGESTS_EQUAL
    assert (-1,) in rows
    (saved,) = (table for table in manifest.tables if table.name == "t")
    assert len(rows) > saved.rows > 1000


def test_a_transaction_that_never_ends_leaves_nothing_to_compare(
    box: Box, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The backup is there, and says so; so does one of a server that was written to and does not archive."""
    monkeypatch.setattr(content.take_content, "__kwdefaults__", {"quiet_s": 0.3})
    box.archives(on=True)
    with psycopg.connect(box.dsn) as connection:
        connection.execute("INSERT INTO t VALUES (-2)")
        report = box.backup()
    assert report.manifest.content is not None
    assert "always a transaction" in report.manifest.content.note
    assert (report.manifest.tables, report.problems) == ((), ())
    restored, _ = box.restore(report.manifest, target, Goal(), archive=True)
    assert restored.proven is Level.RESTORED
    box.archives(on=False)
    with _writing(box.dsn):
        manifest = box.backup().manifest
    assert manifest.content is not None
    assert "does not archive" in manifest.content.note


def test_a_table_that_is_locked_just_then_is_waited_for(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next try finds it free."""
    box.archives(on=True)
    tries: list[str] = []

    def locked_at_first(connection: Connection, database: str) -> bool:
        tries.append(database)
        if len(tries) == 1:
            raise DatabaseBusy("a table is locked all the time")
        return begin_locked(connection, database)

    monkeypatch.setattr(content, "begin_locked", locked_at_first)
    manifest = box.backup().manifest
    assert len(tries) > 2
    assert manifest.content is not None
    assert manifest.content.lsn is not None


def test_a_standby_has_no_place_of_its_own_in_the_wal(box: Box, target: Path) -> None:
    """It cannot take a number or mark a place: there are no digests, and that is said."""
    box.archives(on=False)
    manifest = box.backup().manifest
    assert manifest.wal is not None
    span, notes = manifest.wal, []

    def look(dsn: str) -> None:
        with connect(dsn) as standby:
            assert quiet_number(standby) is None
        notes.append(take_content(dsn, ["postgres"], span, None)[0].note)

    goal = Goal("immediate", action="pause")
    download = Downloader(box.store, manifest, [box.identity])
    restore_physical(download, Wish(target, goal, None, check=look), lambda _text: None)
    assert notes == ["a standby cannot mark a place in the WAL"]


@pytest.mark.parametrize(
    ("broken", "query", "kind"),
    [
        (digests, ("_SUMS", {digests.METHOD: "SELECT 1/0, {row}, '' FROM {source}"}), "digest_failed"),
        (content, ("_ARCHIVES", "SELECT 1/0"), "server_failed"),
    ],
)
def test_a_table_that_cannot_be_read_is_told_beside_the_backup(
    broken: ModuleType, query: tuple[str, object], kind: str, box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A copy of all the others is worth more than none; so it is when the server goes away after it."""
    box.archives(on=False)
    monkeypatch.setattr(broken, *query)
    report = box.backup()
    assert [problem.kind for problem in report.problems] == [kind]
    assert report.manifest.tables == ()


@contextmanager
def _writing(dsn: str) -> Iterator[None]:
    """Commit a row after the other, with a moment between them."""
    over, begun = threading.Event(), threading.Event()

    def write() -> None:
        with psycopg.connect(dsn, autocommit=True) as connection:
            while not over.wait(0.01):
                connection.execute("INSERT INTO t VALUES (0)")
                begun.set()

    thread = threading.Thread(target=write)
    thread.start()
    try:
        assert begun.wait(30)
        yield
    finally:
        over.set()
        thread.join()


def _wait_until_archived(connection: psycopg.Connection) -> None:
    """All segments but the one that is written to now."""
    waiting = "SELECT count(*) FROM pg_ls_archive_statusdir() WHERE name LIKE '%.ready'"
    for _ in range(600):
        (count,) = connection.execute(waiting).fetchone() or (1,)
        if count == 0:
            return
        connection.execute("SELECT pg_sleep(0.05)")
    raise AssertionError("not archived")
