"""Logical backups of a real PostgreSQL: everything comes back, and whatever cannot is said."""

import tempfile
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import psycopg
import psycopg.conninfo
import pytest
from logical_backups import Programs, manifest_of, new_downloader, new_uploader
from psycopg import sql
from real_services import RunningPostgres, postgres

from dreamseed_cli.backup.logical import snapshot
from dreamseed_cli.backup.logical.checks import TargetUnfit
from dreamseed_cli.backup.logical.digests import DigestFailed, Stopping, digest_database
from dreamseed_cli.backup.logical.dump import backup_logical, database_stream
from dreamseed_cli.backup.logical.proof import DigestsDiffer
from dreamseed_cli.backup.logical.restore import RestoreReport, Target, restore_logical
from dreamseed_cli.backup.manifest import Manifest
from dreamseed_cli.backup.names import part_name
from dreamseed_cli.backup.pipeline import UploadIncomplete
from dreamseed_cli.backup.producer import ProducerFailed
from dreamseed_cli.backup.store.base import Limits, Store
from dreamseed_cli.backup.store.errors import ObjectCorrupt, ObjectMissing
from dreamseed_cli.backup.store.open import StoreSettings, open_store
from dreamseed_cli.core.errors import DreamseedError, ErrorGroup, UsageError
from dreamseed_cli.services.postgres import program

RICH = 'Ünï "quoted" 기억'
SMALL = "small"

ROLES = """
CREATE ROLE "Größe" LOGIN PASSWORD 'a-secret';
CREATE ROLE readers NOLOGIN;
GRANT readers TO "Größe" WITH ADMIN OPTION;
"""
SCHEMA = """
CREATE EXTENSION vector;
CREATE SCHEMA "Mixed Schema" AUTHORIZATION "Größe";
CREATE TYPE mood AS ENUM ('sad', 'ok', '행복');
CREATE DOMAIN percent AS int CHECK (value BETWEEN 0 AND 100);
CREATE TABLE types (
    id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, f float8, r float4, n numeric, d date,
    ts timestamp, tz timestamptz, i interval, b bytea, j jsonb, a text[], m mood, p percent, v vector(3),
    u uuid, net inet, rng int4range, t text, s int GENERATED ALWAYS AS (id * 2) STORED,
    w int GENERATED ALWAYS AS (id * 3) VIRTUAL, dropped int);
ALTER TABLE types DROP COLUMN dropped;
INSERT INTO types (f, r, n, d, ts, tz, i, b, j, a, m, p, v, u, net, rng, t) VALUES
    ('NaN', 'NaN', 'NaN', '4713-01-01 BC', '0044-03-15 12:00 BC', '2025-11-10 03:00+09', '1 mon -2 days 3.5s',
     '\\x00ff', '{"a": [1, null]}', '{a,NULL,"b c"}', '행복', 5, '[1,2,3]', gen_random_uuid(),
     '10.0.0.1/8', '[1,5)', ''),
    ('Infinity', '-Infinity', 'Infinity', 'infinity', '-infinity', 'infinity', 'infinity', '', '1', '{}',
     'sad', 0, '[0.1,0,-0]', NULL, '::1', 'empty', E'tab\\t newline\\n \\\\ quote"'),
    ('-0', 1e-45, 1e-300, '2024-02-29', '2025-03-30 02:30', '1900-01-01 00:00+08:27:52', '0', NULL, NULL,
     NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
CREATE TABLE "Mixed Schema"."Tàble ""x"" y" ("Sp ace" text, "select" int);
INSERT INTO "Mixed Schema"."Tàble ""x"" y" VALUES ('a', 1), ('a', 1), (NULL, NULL), ('', 0);
CREATE TABLE events (at date NOT NULL, n int) PARTITION BY RANGE (at);
CREATE TABLE events_old PARTITION OF events FOR VALUES FROM (MINVALUE) TO ('2025-01-01');
CREATE TABLE events_new PARTITION OF events DEFAULT;
INSERT INTO events SELECT '2024-12-01'::date + g / 300, g FROM generate_series(1, 20000) g;
CREATE UNLOGGED TABLE scratch (n int);
INSERT INTO scratch SELECT generate_series(1, 50);
CREATE TABLE nothing ();
INSERT INTO nothing DEFAULT VALUES;
CREATE MATERIALIZED VIEW totals AS SELECT at, sum(n) FROM events GROUP BY at;
CREATE MATERIALIZED VIEW stale AS SELECT count(*) FROM scratch;
INSERT INTO scratch VALUES (51);
CREATE MATERIALIZED VIEW empty AS SELECT 1 WITH NO DATA;
CREATE SEQUENCE counted START 42;
SELECT nextval('counted');
SELECT lo_from_bytea(4001, 'large');
SELECT lo_from_bytea(4002, decode(repeat('00ff', 800000), 'hex'));
SELECT lo_put(lo_create(4003), 3000000, 'after a hole');
SELECT lo_create(4004);
GRANT SELECT ON types TO readers;
ALTER DEFAULT PRIVILEGES IN SCHEMA "Mixed Schema" GRANT SELECT ON TABLES TO readers;
"""
_ROWS = """CREATE TABLE x AS SELECT a, t, b FROM (VALUES (1, '2025-01-01 00:00+09'::timestamptz, ''),
    (2, NULL, NULL), (3, 'infinity', 'x'), (4, '0001-01-01 00:00+00 BC', E'\\n')) AS v (a, t, b)"""


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """Short, for Unix sockets."""
    with tempfile.TemporaryDirectory(prefix="ds-") as name:
        yield Path(name)


@pytest.fixture(scope="module")
def source(folder: Path) -> Iterator[RunningPostgres]:
    """A server with a rich database, a small one, roles and grants."""
    (folder / "a").mkdir()
    with postgres(folder / "a") as running:
        with psycopg.connect(running.server.dsn("postgres"), autocommit=True) as connection:
            connection.execute(ROLES)
            for name in (RICH, SMALL):
                connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
            connection.execute(sql.SQL("ALTER DATABASE {} SET work_mem = '5MB'").format(sql.Identifier(RICH)))
        with psycopg.connect(running.server.dsn(RICH), autocommit=True) as connection:
            connection.execute(SCHEMA)
        with psycopg.connect(running.server.dsn(SMALL), autocommit=True) as connection:
            connection.execute("CREATE TABLE kept AS SELECT g, md5(g::text) FROM generate_series(1, 9000) g")
        yield running


@pytest.fixture(scope="module")
def target(folder: Path) -> Iterator[RunningPostgres]:
    """A new, empty server."""
    (folder / "b").mkdir()
    with postgres(folder / "b") as running:
        yield running


@pytest.fixture(scope="module")
def store(folder: Path) -> Iterator[Store]:
    """Where backups go."""
    opened = open_store(
        f"local:{folder / 'store'}", StoreSettings(limits=Limits(first_wait_s=0.001)), create=True
    )
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def saved(source: RunningPostgres, store: Store, folder: Path) -> Manifest:
    """A backup of the whole server."""
    return save(source, store, folder, databases=None)


@pytest.fixture
def programs(tmp_path: Path) -> Programs:
    """PostgreSQL's programs, for tests to replace some."""
    return Programs(program("psql").parent, tmp_path)


def save(
    source: RunningPostgres, store: Store, folder: Path, databases: Sequence[str] | None = (SMALL,)
) -> Manifest:
    """A backup of these databases."""
    with new_uploader(store) as uploader:
        facts = backup_logical(source.server.dsn("postgres"), uploader, folder, databases=databases)
        return manifest_of(uploader.backup_id, facts.streams, uploader.parts(), facts)


def restore(
    manifest: Manifest, store: Store, target: RunningPostgres, folder: Path, **options: Any
) -> RestoreReport:
    """Into the target; options: those of `Target`."""
    to = Target(target.server.dsn("postgres"), **options)
    return restore_logical(manifest, new_downloader(store, manifest), to, folder)


def databases(server: RunningPostgres) -> set[str]:
    """Those that are there."""
    with psycopg.connect(server.server.dsn("postgres")) as connection:
        return {name for (name,) in connection.execute("SELECT datname FROM pg_database")}


def test_everything_comes_back_on_a_new_server(
    saved: Manifest, store: Store, target: RunningPostgres, folder: Path, source: RunningPostgres
) -> None:
    """Every database, role and right; the digests, taken from outside once more, are equal."""
    report = restore(saved, store, target, folder)
    assert report.tables == len(saved.tables)
    assert report.refreshed == ("public.stale",)
    for name in (RICH, SMALL):
        before = digest_database(source.server.dsn("postgres"), name)
        after = digest_database(target.server.dsn("postgres"), name)
        assert [t for t in after if t.name != "stale"] == [t for t in before if t.name != "stale"]
    with psycopg.connect(target.server.dsn(RICH)) as connection:
        assert connection.execute("SHOW work_mem").fetchone() == ("5MB",)
        assert connection.execute("SELECT nextval('counted')").fetchone() == (43,)
        assert connection.execute(
            "SELECT has_table_privilege('readers', 'types', 'SELECT'),"
            " pg_has_role('Größe', 'readers', 'MEMBER')"
        ).fetchone() == (True, True)
        assert connection.execute("SELECT lo_get(4001)").fetchone() == (b"large",)
        assert connection.execute(
            "SELECT pg_get_userbyid(nspowner) FROM pg_namespace WHERE nspname = 'Mixed Schema'"
        ).fetchone() == ("Größe",)
    assert list(folder.glob("dreamseed-dump-*")) == []


def test_a_backup_is_of_one_moment(
    source: RunningPostgres, store: Store, target: RunningPostgres, folder: Path
) -> None:
    """While rows are written all the time, dump and digests see the same ones."""
    stop = threading.Event()

    def write() -> None:
        with psycopg.connect(source.server.dsn(SMALL), autocommit=True) as connection:
            while not stop.is_set():
                connection.execute(
                    "INSERT INTO kept SELECT 0, md5(random()::text) FROM generate_series(1, 50)"
                )

    writer = threading.Thread(target=write)
    writer.start()
    try:
        manifest = save(source, store, folder)
    finally:
        stop.set()
        writer.join()
    report = restore(manifest, store, target, folder, databases={SMALL: "moment"}, globals=False)
    assert report.tables == 2
    with psycopg.connect(source.server.dsn(SMALL)) as connection:
        now = connection.execute("SELECT count(*) FROM kept").fetchone()
    assert now is not None
    assert now[0] > report.rows >= 9000


def test_digests_tell_contents_apart(source: RunningPostgres) -> None:
    """Neither the order of rows and columns nor a setting counts; every value, and every equal row, does."""
    dsn = source.new_database()

    def digest(statement: str) -> str | None:
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute("DROP TABLE IF EXISTS x")
            connection.execute(statement)
        (found,) = (table for table in digest_database(dsn, name) if table.name == "x")
        return found.digest

    name = str(psycopg.conninfo.conninfo_to_dict(dsn)["dbname"])
    first = digest(_ROWS)
    with psycopg.connect(dsn, autocommit=True) as connection:
        for setting in ("TimeZone = 'Asia/Seoul'", "DateStyle = 'German'", "bytea_output = 'escape'"):
            connection.execute(f"ALTER DATABASE {name} SET {setting}")

    def with_columns(columns: str) -> str:
        return _ROWS.replace("SELECT a, t, b", f"SELECT {columns}")

    assert digest(f"{_ROWS} ORDER BY a DESC") == first
    assert digest(with_columns("b, a, t")) == first
    others = [
        f"{_ROWS} LIMIT 3",
        f"{_ROWS}; INSERT INTO x TABLE x LIMIT 1",
        *map(
            with_columns,
            ("a + 1 AS a, t, b", "a, t, b AS c", "a::int8 AS a, t, b", "a, t, nullif(b, '') AS b"),
        ),
    ]
    assert len({first, *map(digest, others)}) == 1 + len(others)


@pytest.mark.parametrize("kind", ["flipped", "truncated", "swapped", "missing"])
def test_a_damaged_part_is_named(
    saved: Manifest, store: Store, target: RunningPostgres, folder: Path, kind: str
) -> None:
    """It stops the restore before the database is touched, which then is not there."""
    parts = [part for part in saved.parts if part.stream == database_stream(SMALL)]
    path, other = (folder / "store" / part_name(saved.identity.backup_id, part.index) for part in parts[1:3])
    whole = path.read_bytes()
    flipped = bytes([*whole[:99], whole[99] ^ 1, *whole[100:]])
    path.unlink()
    if kind != "missing":
        path.write_bytes({"flipped": flipped, "truncated": whole[:-1], "swapped": other.read_bytes()}[kind])
    try:
        with pytest.raises((ObjectCorrupt, ObjectMissing)) as caught:
            restore(saved, store, target, folder, databases={SMALL: "damaged"}, globals=False)
    finally:
        path.write_bytes(whole)
    assert f"parts/{parts[1].index:06d}" in str(caught.value)
    assert "damaged" not in databases(target)


def test_a_target_in_use_is_refused(
    saved: Manifest, store: Store, target: RunningPostgres, folder: Path
) -> None:
    """A database with content stays as it is, unless it is named as one that may be replaced."""
    dsn = target.new_database()
    name = str(psycopg.conninfo.conninfo_to_dict(dsn)["dbname"])
    to = {SMALL: name}
    with psycopg.connect(dsn, autocommit=True) as user:
        with pytest.raises(TargetUnfit, match="1 sessions are using") as caught:
            restore(saved, store, target, folder, databases=to, globals=False)
        assert caught.value.place == name
        user.execute("CREATE TABLE mine (n int)")
        with pytest.raises(TargetUnfit, match="not empty"):
            restore(saved, store, target, folder, databases=to, globals=False)
        assert user.execute("SELECT count(*) FROM mine").fetchone() == (0,)
    restore(saved, store, target, folder, databases=to, globals=False, replace=frozenset({name}))
    with psycopg.connect(dsn) as connection:
        assert connection.execute("SELECT to_regclass('mine')").fetchone() == (None,)
        assert connection.execute("SELECT count(*) FROM kept").fetchone() == (9000,)


def test_every_reason_at_once(
    saved: Manifest, store: Store, target: RunningPostgres, folder: Path, programs: Programs
) -> None:
    """An older server, an extension, a role and room that are missing: all told, nothing done."""
    to = Target(target.server.dsn("postgres"), {SMALL: "forged"}, globals=False)
    forged = saved.model_copy(
        update={
            "versions": saved.versions.model_copy(update={"server_version_num": 990000}),
            "extensions": (saved.extensions[0].model_copy(update={"name": "postgis", "database": SMALL}),),
            "roles": (*saved.roles, "somebody"),
            "databases": tuple(d.model_copy(update={"size": 10**15}) for d in saved.databases),
        }
    )
    with pytest.raises(ErrorGroup) as caught:
        restore_logical(forged, new_downloader(store, forged), to, folder)
    told = str(caught.value)
    for reason in ("is older than", "'postgis'", "not there: somebody", "bytes are free"):
        assert reason in told
    programs.fake("pg_restore", "echo 'pg_restore (PostgreSQL) 99.1'")
    with pytest.raises(TargetUnfit, match=r"pg_restore 99\.1 is newer than"):
        restore_logical(saved, new_downloader(store, saved), to, folder, programs=programs)
    with pytest.raises(TargetUnfit, match="holds no such database"):
        restore(saved, store, target, folder, databases={"none": "forged"}, globals=False)
    assert "forged" not in databases(target)


def test_content_that_differs_is_told(
    saved: Manifest, store: Store, target: RunningPostgres, folder: Path
) -> None:
    """A restore whose programs all end well is still no success if a table is not what it was."""
    tables = tuple(
        table.model_copy(update={"digest": "0" * 64}) if table.name == "kept" else table
        for table in saved.tables
    )
    with pytest.raises(DigestsDiffer, match=r"public\.kept has other content"):
        restore(
            saved.model_copy(update={"tables": tables}), store, target, folder,
            databases={SMALL: "differs"}, globals=False,
        )  # fmt: skip


def test_a_failed_restore_leaves_nothing_and_the_next_one_works(
    saved: Manifest, store: Store, target: RunningPostgres, folder: Path, programs: Programs
) -> None:
    """pg_restore did its work, says the server, but not its exit code."""
    programs.fake("pg_restore", f'"{programs.real}/pg_restore" "$@"; [ "$1" = --version ] || exit 7')
    to = Target(target.server.dsn("postgres"), {SMALL: "again"}, globals=False)
    with pytest.raises(ProducerFailed, match="exit code 7"):
        restore_logical(saved, new_downloader(store, saved), to, folder, programs=programs)
    assert "again" not in databases(target)
    assert restore_logical(saved, new_downloader(store, saved), to, folder).tables == 2


@pytest.mark.parametrize(
    ("name", "script"),
    [
        ("pg_dump", 'REAL/pg_dump "$@"; exit 1'),
        ("pg_dump", 'REAL/pg_dump "$@"; kill -9 $$'),
        ("pg_dumpall", "echo 'CREATE ROLE half;'; kill -9 $$"),
    ],
)
def test_a_dump_that_dies_makes_no_backup(
    source: RunningPostgres, store: Store, folder: Path, programs: Programs, name: str, script: str
) -> None:
    """However much it wrote: the error comes out, and no parts for a manifest are given."""
    programs.fake(name, script.replace("REAL", str(programs.real)))
    with new_uploader(store) as uploader:
        with pytest.raises(ProducerFailed) as caught:
            backup_logical(
                source.server.dsn("postgres"), uploader, folder, databases=[SMALL], programs=programs
            )
        assert caught.value.place == name
        if name == "pg_dumpall":
            with pytest.raises(UploadIncomplete):
                uploader.parts()
    assert list(folder.glob("dreamseed-dump-*")) == []


def test_a_server_that_shuts_down_makes_no_backup(
    source: RunningPostgres, store: Store, folder: Path
) -> None:
    """All sessions are ended in the middle of it: an error of ours, and the next run works."""

    def end_sessions(what: str, _done: int, _all: int) -> None:
        if what.startswith("dump of"):
            with psycopg.connect(source.server.dsn("postgres"), autocommit=True) as connection:
                connection.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'"
                )

    with new_uploader(store) as uploader, pytest.raises(DreamseedError):
        backup_logical(source.server.dsn("postgres"), uploader, folder, databases=[SMALL], told=end_sessions)
    assert len(save(source, store, folder).tables) == 2


def test_digests_end_when_nobody_wants_them(source: RunningPostgres) -> None:
    """A statement that is running is cancelled, and nothing new begins: a failed dump waits for no digest."""
    stopping = Stopping()
    ended = threading.Event()

    def work() -> None:
        with psycopg.connect(source.server.dsn(SMALL)) as connection, stopping.watching(connection):
            begun.set()
            with pytest.raises(psycopg.errors.QueryCanceled):
                connection.execute("SELECT pg_sleep(60)")
            ended.set()

    begun = threading.Event()
    worker = threading.Thread(target=work)
    worker.start()
    assert begun.wait(10)
    for _ in range(500):
        stopping.stop()
        if ended.wait(0.02):
            break
    worker.join(1)
    assert not worker.is_alive()
    with pytest.raises(DigestFailed):
        digest_database(source.server.dsn("postgres"), SMALL, stopping=stopping)


def test_a_locked_table_is_told(
    source: RunningPostgres, store: Store, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody rewrites a table for longer than a backup waits."""
    monkeypatch.setattr(snapshot, "_LOCK_WAIT", "50ms")
    with psycopg.connect(source.server.dsn(SMALL)) as connection:
        connection.execute("LOCK TABLE kept IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(snapshot.DatabaseBusy) as caught:
            save(source, store, folder)
    assert caught.value.place == SMALL


def test_only_a_superuser_sees_everything(source: RunningPostgres, store: Store, folder: Path) -> None:
    """Others would leave out what they may not see, and are refused; so is a database that is not there."""
    dsn = psycopg.conninfo.make_conninfo(source.server.dsn("postgres"), user="Größe")
    with new_uploader(store) as uploader:
        with pytest.raises(UsageError, match="no superuser"):
            backup_logical(dsn, uploader, folder)
        with pytest.raises(UsageError, match="no such database"):
            backup_logical(source.server.dsn("postgres"), uploader, folder, databases=["none"])
