"""Logical backups of a real PostgreSQL: everything comes back, and whatever cannot is said."""

import hashlib
import os
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import psycopg.conninfo
import pytest
from backup_databases import RICH, SMALL, check_fittings, fill
from backup_kills import kill_here, killed
from backup_servers import postgres_of
from flipped import flipped
from logical_backups import Programs, manifest_of, new_downloader, new_uploader
from real_services import RunningPostgres, postgres

from dreamseed_cli.backup.ending import ends_in_order
from dreamseed_cli.backup.logical import dump, snapshot
from dreamseed_cli.backup.logical import restore as logical
from dreamseed_cli.backup.logical.checks import TargetUnfit
from dreamseed_cli.backup.logical.digests import (
    METHOD,
    DigestFailed,
    Sums,
    digest_database,
    divided,
    list_relations,
    sum_up,
)
from dreamseed_cli.backup.logical.dump import backup_logical, database_stream
from dreamseed_cli.backup.logical.proof import DigestsDiffer
from dreamseed_cli.backup.logical.restore import RestoreReport, Target, restore_logical
from dreamseed_cli.backup.logical.server import Told, connect
from dreamseed_cli.backup.manifest import DigestMethod, Manifest, Table
from dreamseed_cli.backup.names import Kind, part_name
from dreamseed_cli.backup.pipeline import UploadIncomplete
from dreamseed_cli.backup.pool import Pool
from dreamseed_cli.backup.producer import ProducerFailed, run_program
from dreamseed_cli.backup.sources import LogicalSource, make_source
from dreamseed_cli.backup.store.base import Limits, Store
from dreamseed_cli.backup.store.errors import ObjectCorrupt, ObjectMissing
from dreamseed_cli.backup.store.open import StoreSettings, open_store
from dreamseed_cli.core.errors import DreamseedError, ErrorGroup, UsageError
from dreamseed_cli.services.postgres import program

_HALVES = (slice(8), slice(8, 16))
_SWAP = "UPDATE x SET b = CASE a WHEN 1 THEN 'x' ELSE '' END WHERE a IN (1, 3)"
_HASH64 = "7964c37667787b1aaa67d1343a0db54fecaa49fef7662bf443234b9a52bb0e60"
"""Of three_rows(), by PostgreSQL 15 and 18 (measured): another digest of the same rows is another method."""
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
        fill(running)
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


def contents(server: RunningPostgres) -> list[Table]:
    """What both databases' tables hold, digested from outside, but for a view that a restore fills anew."""
    dsn = server.server.dsn("postgres")
    found = [table for name in (RICH, SMALL) for table in digest_database(dsn, name)]
    assert len(found) > 10
    return [table for table in found if table.name != "stale"]


def three_rows(dsn: str, method: DigestMethod = METHOD) -> str | None:
    """The digest of a new table of these, in an empty database."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("DROP TABLE IF EXISTS x; CREATE TABLE x (b text, a int)")
        connection.execute("INSERT INTO x VALUES ('one', 1), ('two', 2), ('two', 2)")
    name = str(psycopg.conninfo.conninfo_to_dict(dsn)["dbname"])
    (found,) = (table for table in digest_database(dsn, name, method=method) if table.name == "x")
    return found.digest


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
    assert contents(target) == contents(source)
    check_fittings(target)
    assert list(folder.glob("dreamseed-dump-*")) == []


def test_an_older_servers_backup_comes_back_on_a_newer_one(store: Store, folder: Path) -> None:
    """With the digests that the older one took of every type, by the same method."""
    for name in ("older", "newer"):
        (folder / name).mkdir()
    with postgres_of(15, folder / "older") as older:
        fill(older, extension=False)
        assert three_rows(older.new_database()) == _HASH64
        before = contents(older)
        manifest = save(older, store, folder, databases=[RICH, SMALL])
    with postgres_of(18, folder / "newer") as newer:
        assert restore(manifest, store, newer, folder).tables == len(manifest.tables)
        assert contents(newer) == before
        check_fittings(newer)


def test_tablespaces_that_are_there_stay_and_a_missing_folder_is_told(store: Store, folder: Path) -> None:
    """Onto the same server, as after an accident; onto another one, before anything is changed."""
    (folder / "t").mkdir()
    with postgres(folder / "t") as server:
        dsn = server.server.dsn("postgres")
        with psycopg.connect(dsn, autocommit=True) as connection:
            for name in ("fast", "Größe"):
                (folder / name).mkdir()
                connection.execute(f"CREATE TABLESPACE \"{name}\" LOCATION '{folder / name}'")
            connection.execute("CREATE DATABASE shop")
        with psycopg.connect(server.server.dsn("shop"), autocommit=True) as connection:
            connection.execute("CREATE TABLE t TABLESPACE fast AS SELECT 1 AS a")
        manifest = save(server, store, folder, ["shop"])
        assert restore(manifest, store, server, folder, replace=frozenset({"shop"})).rows == 1
        with psycopg.connect(dsn, autocommit=True) as connection:
            for dropped in ("DATABASE shop", "TABLESPACE fast", 'TABLESPACE "Größe"'):
                connection.execute(f"DROP {dropped}")
            (folder / "Größe").rmdir()
            with pytest.raises(TargetUnfit, match="folder of the tablespace") as refused:
                restore(manifest, store, server, folder)
            assert refused.value.place == str(folder / "Größe")
            found = connection.execute("SELECT count(*) FROM pg_tablespace").fetchone()
            assert found == (2,)
        (folder / "Größe").mkdir()
        assert restore(manifest, store, server, folder).rows == 1


def test_templates_of_ones_own_are_saved_and_closed_databases_are_told(store: Store, folder: Path) -> None:
    """Every database means every one; a template is dropped for its backup, and is one again. That all its
    transactions only read comes back before its tables, and does not keep them from coming.
    """
    (folder / "e").mkdir()
    with postgres(folder / "e") as server:
        dsn = server.server.dsn("postgres")
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute("CREATE DATABASE starter IS_TEMPLATE true")
            connection.execute("CREATE DATABASE frozen ALLOW_CONNECTIONS false")
        with psycopg.connect(server.server.dsn("starter"), autocommit=True) as connection:
            connection.execute("CREATE TABLE t AS SELECT 1 AS a")
            connection.execute("ALTER DATABASE starter SET default_transaction_read_only = on")
        with new_uploader(store) as uploader:
            produced = make_source(Kind.LOGICAL, dsn, folder).produce(uploader)
        manifest = save(server, store, folder, databases=None)
        assert [database.name for database in produced.databases] == ["postgres", "starter"]
        (left_out,) = produced.problems
        assert (left_out.kind, left_out.place) == ("database_left_out", "database frozen")
        everything = frozenset({"postgres", "starter"})
        assert restore(manifest, store, server, folder, replace=everything).rows == 1
        with psycopg.connect(dsn) as connection:
            is_template = connection.execute(
                "SELECT datistemplate, setconfig FROM pg_database d"
                " JOIN pg_db_role_setting ON setdatabase = d.oid WHERE datname = 'starter'"
            ).fetchone()
        assert is_template == (True, ["default_transaction_read_only=on"])


@pytest.mark.parametrize(
    ("version", "locale"),
    [
        (15, "LOCALE_PROVIDER icu ICU_LOCALE 'ko-KR' LC_COLLATE 'C' LC_CTYPE 'C.UTF-8'"),
        (15, "LOCALE_PROVIDER libc LC_COLLATE 'C' LC_CTYPE 'C.UTF-8'"),
        (18, "LOCALE_PROVIDER builtin BUILTIN_LOCALE 'C.UTF-8' LC_COLLATE 'C' LC_CTYPE 'C'"),
    ],
    ids=["icu", "libc", "builtin"],
)
def test_a_renamed_database_keeps_its_locale(version: int, locale: str, store: Store, folder: Path) -> None:
    """Provider, locale, collation and ctype: text sorts and matches as it did."""
    home = folder / locale.split()[1]
    home.mkdir()
    with postgres_of(version, home) as server:
        with psycopg.connect(server.server.dsn("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE text TEMPLATE template0 ENCODING 'UTF8' {locale}")
            manifest = save(server, store, folder, ["text"])
            restore(manifest, store, server, folder, databases={"text": "renamed"}, globals=False)
            found = connection.execute(
                "SELECT to_jsonb(d) - '{oid,datname,datfrozenxid,datminmxid}'::text[]"
                " FROM pg_database d WHERE datname IN ('text', 'renamed')"
            ).fetchall()
        assert found[0] == found[1]


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


def test_a_table_in_pieces_adds_up_to_the_whole(source: RunningPostgres) -> None:
    """Every row is in one piece and one only, those in the last block too."""
    dsn = source.new_database()
    name = str(psycopg.conninfo.conninfo_to_dict(dsn)["dbname"])
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(
            'CREATE TABLE "T ä" AS SELECT n, repeat(n::text, 50) FROM generate_series(1, 999) n'
        )
        connection.execute("CREATE MATERIALIZED VIEW view AS SELECT 1 AS n")
        relations = list_relations(connection)
        (view, _) = (list(divided(connection, relation, 1)) for relation in reversed(relations))
        pieces = list(divided(connection, relations[0], 3))
        sums = Sums()
        for piece in pieces:
            sums.add(sum_up(connection, name, piece))
        assert [(piece.start, piece.end) for piece in pieces[:2]] == [(0, 3), (3, 6)]
        assert pieces[-1].end is None
        (whole,) = divided(connection, relations[0], 1000)
        assert sums == sum_up(connection, name, whole)
        assert sums.rows == 999
    assert len(view) == 1


def test_digests_of_older_backups_are_taken_as_they_were(source: RunningPostgres) -> None:
    """MD5's halves, summed up as signed numbers: what a backup from before says must stay comparable."""
    dsn = source.new_database()
    rows = [hashlib.md5(text).digest() for text in (b"(1,one)", b"(2,two)", b"(2,two)")]  # noqa: S324
    left, right = (sum(int.from_bytes(row[half], signed=True) for row in rows) for half in _HALVES)
    parts = (["a integer", "b text"], 3, str(left), str(right))
    assert three_rows(dsn, "md5") == hashlib.sha256(repr(parts).encode()).hexdigest()
    assert three_rows(dsn) == _HASH64


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
        f"{_ROWS}; {_SWAP}",
        *map(
            with_columns,
            (
                *("a + 1 AS a, t, b", "a, t, b AS c", "a::int8 AS a, t, b", "a, t, nullif(b, '') AS b"),
                *("nullif(a, 2)::float8 AS a, t, b", "coalesce(nullif(a, 2)::float8, 'NaN') AS a, t, b"),
            ),
        ),
    ]
    assert len({first, *map(digest, others)}) == 1 + len(others)


def test_what_a_collation_calls_equal_is_told_apart(folder: Path) -> None:
    """By one that is not deterministic: ICU's, which the embedded build is without."""
    (folder / "c").mkdir()
    with postgres_of(15, folder / "c") as server:
        dsn, found = server.new_database(), []
        name = str(psycopg.conninfo.conninfo_to_dict(dsn)["dbname"])
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute(
                "CREATE COLLATION loose (provider = icu, locale = 'und-u-ks-level2', deterministic = false)"
            )
            assert connection.execute("SELECT 'a' COLLATE loose = 'A'").fetchone() == (True,)
            for letter in ("a", "A"):
                connection.execute("DROP TABLE IF EXISTS x; CREATE TABLE x (b text COLLATE loose)")
                connection.execute("INSERT INTO x VALUES (%s)", [letter])
                found += [table.digest for table in digest_database(dsn, name) if table.name == "x"]
        assert found[0] != found[1]


@pytest.mark.parametrize("kind", ["flipped", "truncated", "swapped", "missing"])
def test_a_damaged_part_is_named(
    saved: Manifest, store: Store, target: RunningPostgres, folder: Path, kind: str
) -> None:
    """It stops the restore before the database is touched, which then is not there."""
    parts = [part for part in saved.parts if part.stream == database_stream(SMALL)]
    path, other = (folder / "store" / part_name(saved.identity.backup_id, part.index) for part in parts[1:3])
    whole = path.read_bytes()
    path.unlink()
    if kind != "missing":
        path.write_bytes(
            {"flipped": flipped(whole), "truncated": whole[:-1], "swapped": other.read_bytes()}[kind]
        )
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


@pytest.mark.parametrize("phase", ["restore of small_2", "digests of small_2"])
def test_a_restore_of_several_databases_that_is_killed_goes_on(
    phase: str, saved: Manifest, store: Store, target: RunningPostgres, folder: Path
) -> None:
    """What was filled is proven and stays, only the rest is fetched, and no trace of it is left."""
    names = {RICH: "rich_2", SMALL: "small_2"}
    done: list[str] = []

    def tell(what: str, _done: int, _all: int) -> None:
        if what == phase:
            kill_here()

    def again(told: Told, **options: Any) -> RestoreReport:
        to = Target(target.server.dsn("postgres"), names, **options)
        return restore_logical(saved, new_downloader(store, saved), to, folder, told=told)

    assert killed(lambda: again(tell))
    if phase == "digests of small_2":
        with psycopg.connect(target.server.dsn("small_2"), autocommit=True) as connection:
            connection.execute("CREATE TABLE since ()")
        with pytest.raises(TargetUnfit, match="does not hold what the backup does"):
            again(lambda *_: None)
        again(lambda what, *_: done.append(what), replace=frozenset(names.values()))
    else:
        again(lambda what, *_: done.append(what))
    assert {what for what in done if what.startswith("download")} == {"download of small"}
    with psycopg.connect(target.server.dsn("postgres"), autocommit=True) as connection:
        marks = "SELECT FROM pg_db_role_setting, unnest(setconfig) one WHERE one LIKE 'dreamseed%'"
        assert connection.execute(marks).fetchall() == []
        for new in names.values():
            connection.execute(f"DROP DATABASE {new}")


def test_a_database_that_is_being_restored_is_not_taken_for_left_over(
    source: RunningPostgres,
    store: Store,
    target: RunningPostgres,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A second restore of the same backup is refused while the first one fills it."""
    manifest, to = save(source, store, folder), {SMALL: "twice"}
    tried: list[int] = []

    def and_again(argv: Sequence[str | Path], *, environment: Mapping[str, str] | None = None) -> None:
        if any(str(word).startswith("--jobs") for word in argv) and not tried:
            tried.append(1)
            with pytest.raises(TargetUnfit, match="1 sessions are using"):
                restore(manifest, store, target, folder, databases=to)
        run_program(argv, environment=environment)

    monkeypatch.setattr(logical, "run_program", and_again)
    assert restore(manifest, store, target, folder, databases=to).tables
    assert tried
    with psycopg.connect(target.server.dsn("postgres"), autocommit=True) as connection:
        connection.execute("DROP DATABASE twice")


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


def test_a_restore_that_is_told_to_end_takes_away_what_it_made(
    saved: Manifest, store: Store, target: RunningPostgres, folder: Path, programs: Programs
) -> None:
    """pg_restore ends with it; the database that it was filling goes, and so does the dump."""
    version = f'[ "$1" = --version ] && exec "{programs.real}/pg_restore" "$@"'
    programs.fake("pg_restore", f"{version}; kill {os.getpid()}; sleep 600")
    to = Target(target.server.dsn("postgres"), {SMALL: "ended"})
    with pytest.raises(KeyboardInterrupt), ends_in_order():
        restore_logical(saved, new_downloader(store, saved), to, folder, programs=programs)
    assert "ended" not in databases(target)
    assert list(folder.glob("dreamseed-*")) == []


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


def test_a_run_asks_the_server_once_what_it_is(
    source: RunningPostgres, store: Store, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was found when the source was made is what the manifest says."""
    made = make_source(Kind.LOGICAL, source.server.dsn("postgres"), folder)
    assert isinstance(made, LogicalSource)
    monkeypatch.setattr(dump, "read_server", None)
    with new_uploader(store) as uploader:
        produced = replace(made, databases=[SMALL]).produce(uploader)
    assert [database.name for database in produced.databases] == [SMALL]
    assert produced.roles == made.facts.server.roles


def test_digests_end_when_nobody_wants_them(source: RunningPostgres) -> None:
    """A statement that is running is cancelled: a failed dump waits for no digest."""
    begun = threading.Event()

    def work() -> None:
        with connect(source.server.dsn(SMALL)) as connection:
            begun.set()
            connection.execute("SELECT pg_sleep(60)")

    pool = Pool(1, "digest")
    digest = pool.submit(work)
    assert begun.wait(60)
    with pytest.raises(DigestFailed), pool:
        raise DigestFailed("no dump, no digest")
    assert isinstance(digest.exception(), psycopg.errors.QueryCanceled)


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


def test_a_database_that_makes_the_superuser_somebody_else(
    source: RunningPostgres, store: Store, folder: Path
) -> None:
    """It is named, with two ways out, before anything is dumped; the one that changes nothing there works."""
    dsn = source.server.dsn("postgres")
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(f"ALTER DATABASE {SMALL} SET role = 'Größe'")
        try:
            with new_uploader(store) as uploader, pytest.raises(UsageError) as refused:
                backup_logical(dsn, uploader, folder, databases=[SMALL])
            own = psycopg.conninfo.make_conninfo(dsn, options="-c role=none")
            with new_uploader(store) as uploader:
                facts = backup_logical(own, uploader, folder, databases=[SMALL])
        finally:
            connection.execute(f"ALTER DATABASE {SMALL} RESET role")
    assert refused.value.place == f"database {SMALL}"
    assert "options='-c role=none'" in refused.value.remedy
    assert [database.name for database in facts.databases] == [SMALL]
