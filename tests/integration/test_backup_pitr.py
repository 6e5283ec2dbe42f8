"""Physical backups and WAL of a real PostgreSQL: wiped, and restored to any moment, or refused by name."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import psutil
import psycopg
import pytest
from flipped import flipped
from real_services import RunningPostgres

from dreamseed_cli.backup.ending import ends_in_order
from dreamseed_cli.backup.keys import Identity, write_identity
from dreamseed_cli.backup.manifest import Manifest
from dreamseed_cli.backup.names import WAL, Kind, new_backup_id
from dreamseed_cli.backup.physical.base import PhysicalSource
from dreamseed_cli.backup.physical.content import Archived
from dreamseed_cli.backup.physical.early import EndedEarly
from dreamseed_cli.backup.physical.folder import TargetTaken
from dreamseed_cli.backup.physical.mark import MARKER
from dreamseed_cli.backup.physical.recovery import Goal, RecoveryFailed
from dreamseed_cli.backup.physical.restore import Restored, Wish, restore_physical
from dreamseed_cli.backup.physical.tablespaces import LINKS, TablespaceMade
from dreamseed_cli.backup.physical.verify import Verified
from dreamseed_cli.backup.pipeline import Downloader, Uploader, UploadIncomplete
from dreamseed_cli.backup.producer import ProducerFailed
from dreamseed_cli.backup.rpo import SEGMENT_HEADER_BYTES
from dreamseed_cli.backup.run import Wish as RunWish
from dreamseed_cli.backup.run import run_backup
from dreamseed_cli.backup.seal import Expected, open_sealed, seal, sha256
from dreamseed_cli.backup.store.base import MIB, Store
from dreamseed_cli.backup.store.open import open_store
from dreamseed_cli.backup.wal.archive import read_history, read_listing
from dreamseed_cli.backup.wal.settings import restore_command, settings_for
from dreamseed_cli.backup.wal_names import TimelineHistory, WalSegment
from dreamseed_cli.core.errors import UsageError
from dreamseed_cli.services.postgres import EmbeddedPostgres

pytestmark = pytest.mark.usefixtures("untraced_children")
_BOUND_S = 120.0

# What `dreamseed wal push` and `dreamseed wal fetch` do, without the command line.
_DOOR = """
import sys
from pathlib import Path
from dreamseed_cli.backup.keys import parse_recipients, read_identities
from dreamseed_cli.backup.store.open import open_store
from dreamseed_cli.core.errors import DreamseedError

verb, home, store = sys.argv[1], Path(sys.argv[2]), open_store(f"local:{sys.argv[3]}")
keys = read_identities(home / "key")
if verb == "push":
    from dreamseed_cli.backup.wal.push import Archiving, push

    try:
        recipients = parse_recipients([keys[0].recipient], place="")
        push(Path(sys.argv[4]), Archiving(store, recipients, home / "state"))
    except DreamseedError as error:
        sys.exit(str(error))
else:
    from dreamseed_cli.backup.wal.fetch import Fetching, run_fetch

    source = Fetching(store, keys, home / "spool")
    sys.exit(run_fetch(sys.argv[4], Path(sys.argv[5]), source, lambda text: print(text, file=sys.stderr)))
"""


@dataclass
class Site:
    """A cluster that was lost, and the store that has its backup and its WAL.

    writing: how many rows were committed before the backup began. moment: before everything was deleted.
    """

    home: Path
    identity: Identity
    manifest: Manifest
    writing: int
    moment: datetime

    @property
    def store_folder(self) -> Path:
        return self.home / "store"

    def restore(
        self, to: Path, goal: Goal, store_folder: Path | None = None, archived: Archived | None = None
    ) -> tuple[Restored, list[str]]:
        """Restore; and the texts of table `event` as the recovered server has them."""
        folder = store_folder or self.store_folder
        texts: list[str] = []

        def look(dsn: str) -> None:
            with psycopg.connect(dsn) as connection:
                texts.extend(text for (text,) in connection.execute("SELECT text FROM event ORDER BY id"))

        command = restore_command([*_door(self.home, "fetch", folder)])
        wish = Wish(
            to=to, goal=goal, restore_command=command, check=look, limit_s=_BOUND_S, archived=archived
        )
        store = open_store(f"local:{folder}")
        return restore_physical(Downloader(store, self.manifest, [self.identity]), wish, _silent), texts

    def copy_of_store(self, to: Path) -> Path:
        shutil.copytree(self.store_folder, to, copy_function=shutil.copy2)
        return to


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    """Written to before, during and after its backup; then everything deleted, and the disk lost."""
    with tempfile.TemporaryDirectory(prefix="ds-pitr-") as name:
        yield _history(Path(name))


@pytest.fixture
def target() -> Iterator[Path]:
    """A data folder that is not there yet."""
    with tempfile.TemporaryDirectory(prefix="ds-to-") as name:
        yield Path(name) / "data"


@pytest.fixture
def identity() -> Identity:
    """Anybody's."""
    return Identity.create()


def test_the_latest_moment(site: Site, target: Path) -> None:
    """Everything archived is there again, and the report says where it ends."""
    restored, texts = site.restore(target, Goal(timeline=1))
    assert texts == ["after the deletion"]
    assert restored.reached.timeline > 1
    assert "the archive holds no more" in restored.lost
    assert not (target / MARKER).exists()


def test_a_named_point(site: Site, target: Path) -> None:
    """What was written while the backup ran and until the named point is there, and nothing later."""
    _, texts = site.restore(target, Goal("name", "before-the-accident"))
    assert texts[-1] == "kept"
    assert len(texts) >= site.writing + 1
    assert len(set(texts)) == len(texts)


def test_before_a_delete_then_on_a_new_timeline(site: Site, target: Path, tmp_path: Path) -> None:
    """A restore to a moment before the deletion forks off; both futures can then be restored."""
    _, texts = site.restore(target, Goal("time", site.moment))
    assert texts[-2:] == ["kept", "also kept"]
    with _server(target) as server, psycopg.connect(server.dsn("postgres"), autocommit=True) as connection:
        connection.execute("INSERT INTO event (text) VALUES ('on the new timeline')")
        _archived(connection)
    _, newest = site.restore(tmp_path / "newest", Goal())
    assert newest == [*texts, "on the new timeline"]
    _, old = site.restore(tmp_path / "old", Goal(timeline=1))
    assert old == ["after the deletion"]
    store = open_store(f"local:{site.store_folder}")
    assert 2 in read_listing(store, MIB).histories
    assert read_history(store, 2, [site.identity]).forks[0].timeline == 1


def test_a_moment_that_the_archive_does_not_reach(site: Site, target: Path) -> None:
    """PostgreSQL refuses to open, and so does the restore; the folder keeps its mark."""
    with pytest.raises(RecoveryFailed, match="before configured recovery target"):
        site.restore(target, Goal("name", "never-set", timeline=1))
    assert (target / MARKER).exists()
    restored, _ = site.restore(target, Goal("name", "before-the-accident"))
    assert restored.cleared


def test_a_gap_is_named_and_nothing_opens(site: Site, target: Path, tmp_path: Path) -> None:
    """A segment missing between others ends the recovery with its name: no silent promotion."""
    store = site.copy_of_store(tmp_path / "store")
    missing = _segment_after_backup(site, store)
    missing.unlink()
    with pytest.raises(RecoveryFailed, match=f"{missing.name[:24]}': it is missing"):
        site.restore(target, Goal(timeline=1), store)
    assert (target / MARKER).exists()


def test_a_damaged_segment_is_named_and_nothing_opens(site: Site, target: Path, tmp_path: Path) -> None:
    """One flipped bit ends the recovery with the segment's name."""
    store = site.copy_of_store(tmp_path / "store")
    damaged = _segment_after_backup(site, store)
    damaged.write_bytes(flipped(damaged.read_bytes()))
    with pytest.raises(RecoveryFailed, match=f"{damaged.name}': the encryption's own check"):
        site.restore(target, Goal(timeline=1), store)


def test_an_archive_that_cannot_be_read_to_its_end_is_no_success(
    site: Site, target: Path, tmp_path: Path
) -> None:
    """PostgreSQL opens at the first record it cannot read: that is told, and restored to only on purpose."""
    store = site.copy_of_store(tmp_path / "store")
    last = _segment_after_backup(site, store, -1)
    stopped = _segment_after_backup(site, store, -3)
    # From the first record on: whether any lies on the second page depends on the images of pages in it.
    head = SEGMENT_HEADER_BYTES
    _archive_anew(site, stopped, lambda plain: plain[:head] + bytes(len(plain) - head))
    archived = Archived(WalSegment.parse(last.name[:24], MIB).end_lsn, TimelineHistory(1))
    with pytest.raises(EndedEarly) as early:
        site.restore(target, Goal(timeline=1), store, archived)
    assert early.value.place == stopped.name[:24]
    assert (target / MARKER).exists()
    offered = early.value.remedy.rpartition("--lsn ")[2].rstrip(".")
    _, texts = site.restore(target, Goal("lsn", offered, timeline=1), store, archived)
    assert len(texts) >= site.writing
    assert "also kept" not in texts
    _, texts = site.restore(tmp_path / "whole", Goal(timeline=1), archived=archived)
    assert texts == ["after the deletion"]


def _archive_anew(site: Site, path: Path, change: Callable[[bytes], bytes]) -> None:
    """As if other bytes had been archived: whole for all who ask, but for PostgreSQL."""
    expected = Expected(path.name, path.name.rpartition(".")[2])
    data = change(bytes(open_sealed(path.read_bytes(), [site.identity], expected)))
    path.unlink()
    name = f"{path.name[:24]}.{sha256(data)}"
    path.with_name(name).write_bytes(seal(data, [site.identity.key.to_public()]).cipher)


def test_without_the_archive(site: Site, target: Path) -> None:
    """The backup brings along the WAL that it needs itself."""
    seen: list[int] = []

    def look(dsn: str) -> None:
        with psycopg.connect(dsn) as connection:
            seen.extend(count for (count,) in connection.execute("SELECT count(*) FROM event"))

    wish = Wish(to=target, goal=Goal("immediate"), restore_command=None, check=look, thorough=True)
    store = open_store(f"local:{site.store_folder}")
    restored = restore_physical(Downloader(store, site.manifest, [site.identity]), wish, _silent)
    assert seen[0] >= site.writing
    assert restored.size == site.manifest.streams[0].size
    assert restored.verified is Verified.CONTENT


def test_one_signal_ends_a_recovery_and_the_next_restore_goes_on(site: Site, target: Path) -> None:
    """It waited for the archive: the server and its commands are gone, and nothing is fetched again."""

    def tell(text: str) -> None:
        if "recovery begins" in text:
            threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGTERM)).start()

    wish = Wish(to=target, goal=Goal(), restore_command=f"sleep 600 # {target}")
    store = open_store(f"local:{site.store_folder}")
    with pytest.raises(KeyboardInterrupt), ends_in_order():
        restore_physical(Downloader(store, site.manifest, [site.identity]), wish, tell)
    assert (target / MARKER).exists()
    deadline = time.monotonic() + _BOUND_S
    while [one for one in psutil.process_iter() if str(target) in _command(one)]:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    restored, texts = site.restore(target, Goal())
    assert (restored.resumed, restored.unpack_s, bool(texts)) == (True, 0, True)
    assert restored.size == site.manifest.streams[0].size


def _command(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def test_targets_refused(site: Site, target: Path) -> None:
    """A folder with something in it stays untouched; so does one when the backup cannot reach the goal."""
    target.mkdir()
    (target / "precious").write_text("1")
    with pytest.raises(TargetTaken):
        site.restore(target, Goal())
    assert [path.name for path in target.iterdir()] == ["precious"]
    (target / "precious").unlink()
    with pytest.raises(UsageError, match="after that"):
        site.restore(target, Goal("lsn", "0/1"))
    assert not any(target.iterdir())


def test_a_copy_that_breaks_off_is_none(
    postgres_server: RunningPostgres, tmp_path: Path, identity: Identity
) -> None:
    """The server ends the copy in the middle: the run fails, and no backup is there."""
    dsn = postgres_server.server.dsn("postgres")

    def end_copy(_plain: int, _stored: int) -> None:
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_replication")

    store = open_store(f"local:{tmp_path / 'store'}", create=True)
    recipients = [identity.key.to_public()]
    backup_id = new_backup_id(Kind.PHYSICAL, datetime.now(UTC))
    with (
        Uploader(store, backup_id, recipients, part_bytes=MIB, told=end_copy) as uploader,
        pytest.raises(ProducerFailed, match="exit code 1"),
    ):
        PhysicalSource(dsn, "a box").produce(uploader)
    with pytest.raises(UploadIncomplete):
        uploader.parts()
    with psycopg.connect(dsn) as connection:
        assert connection.execute("SELECT slot_name FROM pg_replication_slots").fetchall() == []


def test_tablespaces_are_refused(
    postgres_server: RunningPostgres, tmp_path: Path, identity: Identity
) -> None:
    """A cluster with tablespaces of its own is not half copied."""
    dsn = postgres_server.server.dsn("postgres")
    store = open_store(f"local:{tmp_path / 'store'}", create=True)
    backup_id = new_backup_id(Kind.PHYSICAL, datetime.now(UTC))
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("SET allow_in_place_tablespaces = on")
        connection.execute("CREATE TABLESPACE elsewhere LOCATION ''")
        try:
            with (
                Uploader(store, backup_id, [identity.key.to_public()]) as uploader,
                pytest.raises(UsageError, match="elsewhere"),
            ):
                PhysicalSource(dsn, "a box").produce(uploader)
        finally:
            connection.execute("DROP TABLESPACE elsewhere")


def test_a_tablespace_made_since_is_not_made_again(tmp_path: Path, target: Path) -> None:
    """Its folder is the live server's own: not a byte there changes, and the offered place is restored to."""
    with tempfile.TemporaryDirectory(prefix="ds-pitr-") as name:
        home, fast = Path(name), tmp_path / "fast"
        fast.mkdir()
        identity, store, data = _cluster(home, "--allow-group-access")
        with _server(data) as server, psycopg.connect(server.dsn("postgres"), autocommit=True) as live:
            live.execute("CREATE TABLE event (id serial PRIMARY KEY, text text)")
            source = PhysicalSource(server.dsn("postgres"), "a box")
            made = run_backup(store, source, RunWish(recipients=(identity.recipient,))).manifest
            live.execute("INSERT INTO event (text) VALUES ('kept')")
            live.execute(f"CREATE TABLESPACE fast LOCATION '{fast}'")
            live.execute("CREATE TABLE paid TABLESPACE fast AS SELECT 'new' FROM generate_series(1, 999)")
            _archived(live)
            live.execute("CHECKPOINT")
            before = _content(fast)
            site = Site(home, identity, made, 0, datetime.now(UTC))
            with pytest.raises(TablespaceMade, match=str(fast)) as refused:
                site.restore(target, Goal(timeline=1))
            assert _content(fast) == before != {}
            assert stat.S_IMODE(fast.stat().st_mode) == 0o750
            assert not any((target / LINKS).iterdir())
            offered = refused.value.remedy.partition("--lsn ")[2].partition(" --exclusive")[0]
            _, texts = site.restore(target, Goal("lsn", offered, timeline=1, inclusive=False))
        assert texts == ["kept"]
        assert stat.S_IMODE((target / LINKS).stat().st_mode) == 0o700
        assert stat.S_IMODE(target.stat().st_mode) == 0o700


def _content(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def _history(home: Path) -> Site:
    identity, store, data = _cluster(home)
    with _server(data) as server, psycopg.connect(server.dsn("postgres"), autocommit=True) as connection:
        site = _work(home, identity, store, server, connection)
        running = server
    shutil.rmtree(running.data)
    return site


def _cluster(home: Path, *options: str) -> tuple[Identity, Store, Path]:
    """A key, a store, and a data folder whose server archives into it."""
    identity = Identity.create()
    write_identity(home / "key", identity)
    (home / "door.py").write_text(_DOOR)
    store = open_store(f"local:{home / 'store'}", create=True)
    data = home / "pg"
    made = [*EmbeddedPostgres(data, home).initdb(), "--no-sync", "--wal-segsize=1", *options]
    subprocess.run(made, check=True, capture_output=True)
    settings = settings_for(_door(home, "push", home / "store"), target_s=900)
    with (data / "postgresql.conf").open("a") as file:
        file.writelines(f"{name} = '{text}'\n" for name, text in settings.items())
    return identity, store, data


def _work(
    home: Path, identity: Identity, store: Store, server: EmbeddedPostgres, connection: psycopg.Connection
) -> Site:
    connection.execute("CREATE TABLE event (id serial PRIMARY KEY, text text)")
    with _writing(server.dsn("postgres")) as count:
        writing = count()
        source = PhysicalSource(server.dsn("postgres"), "a box")
        report = run_backup(store, source, RunWish(recipients=(identity.recipient,)))
    connection.execute("INSERT INTO event (text) VALUES ('kept')")
    connection.execute("SELECT pg_create_restore_point('before-the-accident')")
    connection.execute("SELECT pg_switch_wal()")
    connection.execute("INSERT INTO event (text) VALUES ('also kept')")
    row = connection.execute("SELECT clock_timestamp()").fetchone()
    assert row is not None
    connection.execute("SELECT pg_switch_wal()")
    connection.execute("DELETE FROM event")
    connection.execute("INSERT INTO event (text) VALUES ('after the deletion')")
    _archived(connection)
    return Site(home, identity, report.manifest, writing, row[0])


@contextmanager
def _writing(dsn: str) -> Iterator[Callable[[], int]]:
    """Commit a row after the other, until the end."""
    over = threading.Event()
    done: list[int] = []

    def write() -> None:
        with psycopg.connect(dsn, autocommit=True) as connection:
            while not over.is_set():
                connection.execute("INSERT INTO event (text) VALUES (%s)", (f"row {len(done)}",))
                done.append(1)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield lambda: len(done)
    finally:
        over.set()
        thread.join()


def _archived(connection: psycopg.Connection) -> None:
    """Switch to a new segment, and wait until all before it is in the store."""
    row = connection.execute("SELECT pg_walfile_name(pg_switch_wal())").fetchone()
    assert row is not None
    deadline = time.monotonic() + _BOUND_S
    while time.monotonic() < deadline:
        told = connection.execute(
            "SELECT last_archived_wal, last_failed_wal FROM pg_stat_archiver"
        ).fetchone()
        assert told is not None
        if (told[0] or "") >= row[0]:
            return
        time.sleep(0.05)
    raise AssertionError(f"{row[0]} was not archived: {told}")


def _segment_after_backup(site: Site, store: Path, place: int = -2) -> Path:
    """An archived segment behind the backup's own; -1: the last one."""
    assert site.manifest.wal is not None
    segments = sorted(path for path in (store / WAL / "00000001").iterdir() if path.name.count(".") == 1)
    return segments[place]


@contextmanager
def _server(data: Path) -> Iterator[EmbeddedPostgres]:
    """A server on this data folder as its operator would run it, ended as by a power cut."""
    with tempfile.TemporaryDirectory(prefix="ds-sock-") as sockets:
        server = EmbeddedPostgres(data=data, socket_dir=Path(sockets))
        running = RunningPostgres(server, Path(sockets) / "log")
        try:
            running.start()
            yield server
        finally:
            running.kill()


def _door(home: Path, verb: str, store: Path) -> list[str]:
    return [sys.executable, str(home / "door.py"), verb, str(home), str(store)]


def _silent(_text: str) -> None:
    return None
