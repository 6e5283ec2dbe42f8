"""Backup, wipe, restore, equal digests, by the commands alone: on PostgreSQL 15 and on the embedded one, and
there also by way of a bucket, with the real SDK over HTTP.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import psycopg
import pytest
from b2_server import DAILY, PRUNE, b2_server
from backup_commands import command, done
from backup_databases import RICH, SMALL, check_fittings, fill
from backup_servers import VERSIONS, postgres_of, without_archive
from real_services import RunningPostgres

from dreamseed_cli.backup.logical.digests import digest_database
from dreamseed_cli.backup.manifest import Table

pytestmark = pytest.mark.usefixtures("untraced_children")
ROOT = Path(__file__).resolve().parents[2]
SITES = [*((version, "folder") for version in VERSIONS), (VERSIONS[-1], "bucket")]
UNLOGGED = "scratch"
REFILLED = "stale"
_BY = {
    15: ("names, sizes, checksums and WAL (pg_verifybackup)", "databases are sound"),
    18: ("names, sizes and checksums", "this PostgreSQL is built without amcheck"),
}
"""Debian's package has all of PostgreSQL's own checks; the embedded build has none that works."""


@dataclass(frozen=True)
class Site:
    """A cluster that was lost, and what is left of it: `home` with its keys, and the store. options: with
    which every command finds that.

    physical, logical: those backups' ids. first, point: what its tables held at the logical one, and at the
    restore point behind both.
    """

    version: int
    home: Path
    options: tuple[str, ...]
    physical: str
    logical: str
    first: tuple[Table, ...]
    point: tuple[Table, ...]

    def done(self, *words: str, dsn: str | None = None) -> Any:
        """The data of a command that must succeed."""
        return done(self.home, *words, *self.options, dsn=dsn)


@pytest.fixture(scope="module", params=SITES, ids=lambda param: f"{param[0]}-{param[1]}")
def site(request: pytest.FixtureRequest) -> Iterator[Site]:
    """Filled, backed up both ways, written to, damaged by a mistake, and wiped."""
    version, kind = request.param
    with (
        tempfile.TemporaryDirectory(prefix="ds-v-") as name,
        _bucket(Path(name)) if kind == "bucket" else nullcontext(()) as options,
    ):
        yield _history(version, Path(name), options)


@contextmanager
def _bucket(folder: Path) -> Iterator[tuple[str, ...]]:
    """The options that name a profile with it; its keys stand in the environment meanwhile."""
    with b2_server() as b2:
        key_id, key = b2.new_key(PRUNE)
        pruning = {"DREAMSEED_B2_PRUNE_KEY_ID": key_id, "DREAMSEED_B2_PRUNE_KEY": key}
        table = f'\n[backup]\nstore = "b2:dreamseed"\nb2_realm = "{b2.url}"\n'
        profile = folder / "bucket.toml"
        profile.write_text((ROOT / "profiles" / "laptop.toml").read_text(encoding="utf-8") + table)
        with patch.dict(os.environ, {**b2.environment(DAILY), **pruning}):
            yield ("--profile", str(profile))
        assert {"upload", "download"} <= set(b2.calls)


@pytest.fixture
def folder() -> Iterator[Path]:
    """Short, for Unix sockets."""
    with tempfile.TemporaryDirectory(prefix="ds-v-") as name:
        yield Path(name)


def test_a_logical_backup_comes_back_on_a_new_server(site: Site, folder: Path) -> None:
    """Every database, role and right; only a materialised view that was stale is filled anew."""
    with postgres_of(site.version, folder) as target:
        restored = site.done("restore", site.logical, "--yes", dsn=target.server.dsn("postgres"))
        assert restored["proof"] == "restored-and-digests-equal"
        assert restored["refreshed"] == [f"public.{REFILLED}"]
        assert _but(_content(target), REFILLED) == _but(site.first, REFILLED)
        check_fittings(target)


def test_a_moment_comes_back_from_the_physical_backup_and_its_wal(site: Site, folder: Path) -> None:
    """What was written behind the backup is there, the mistake is not; unlogged tables are empty again."""
    data = folder / "back"
    words = ("restore", "--point", "before", "--into", str(data), "--amcheck", "--yes")
    restored = site.done(*words)
    assert restored["proof"] == "restored-and-digests-equal"
    files, checked = _BY[site.version]
    assert restored["files"] == files
    assert checked in restored["checked"]
    with postgres_of(site.version, folder, without_archive(data)) as server:
        found = _content(server)
        assert _but(found, UNLOGGED) == _but(site.point, UNLOGGED)
        assert [table.rows for table in found if table.name == UNLOGGED] == [0]
        check_fittings(server)


def test_the_backup_says_what_made_it(site: Site) -> None:
    """The server's own version and that of its programs; all that it found in the databases."""
    manifest = site.done("backup", "show", site.logical)["manifest"]
    assert manifest["versions"]["server_version_num"] // 10_000 == site.version
    assert {one["version"].split(".")[0] for one in manifest["producers"]} == {str(site.version)}
    assert {"Größe", "readers"} <= set(manifest["roles"])
    assert len(manifest["extensions"]) == 1
    assert site.done("backup", "verify", site.logical)["opened"] is True


def test_a_wrong_key_opens_nothing_and_the_recovery_key_everything(site: Site, folder: Path) -> None:
    """Told as what it is, before anything is made in the target."""
    done(folder / "other", "backup", "init")
    wrong = ("--key-file", str(folder / "other" / "key.txt"))
    data = folder / "back"
    words = ("restore", site.physical, "--into", str(data), "--yes", *wrong, *site.options)
    code, errors = command(site.home, *words)
    assert (code, errors[0]["kind"]) == (3, "wrong_key"), errors
    assert not (data / "PG_VERSION").exists()
    for id_ in (site.physical, site.logical):
        opened = site.done("backup", "verify", id_, "--key-file", str(site.home / "recovery.txt"))
        assert (opened["good"], opened["opened"]) == (True, True)


def _history(version: int, folder: Path, options: tuple[str, ...]) -> Site:
    home = folder / "home"
    (folder / "a").mkdir()
    with postgres_of(version, folder / "a") as source:
        fill(source)
        made = done(home, "backup", "init", *options)
        (home / "recovery.txt").write_text(made["recovery_key"] + "\n")
        (home / "recovery.txt").chmod(0o600)
        _archive_to(home, source, options)
        dsn = source.server.dsn("postgres")
        physical = done(home, "backup", "--kind", "physical", *options, dsn=dsn)["id"]
        first = _content(source)
        logical = done(home, "backup", "--kind", "logical", *options, dsn=dsn)["id"]
        point = _accident(source)
    shutil.rmtree(source.server.data)
    return Site(version, home, options, physical, logical, first, point)


def _archive_to(home: Path, server: RunningPostgres, options: tuple[str, ...]) -> None:
    """With the settings that the program itself asks for; the server starts anew with them."""
    with psycopg.connect(server.server.dsn("postgres"), autocommit=True) as connection:
        for name, value in done(home, "wal", "settings", *options)["settings"].items():
            connection.execute(f"ALTER SYSTEM SET {name} = '{value}'")
    server.stop()
    server.start()


def _accident(server: RunningPostgres) -> tuple[Table, ...]:
    """What the tables held at the restore point `before`, behind which everything is deleted."""
    with psycopg.connect(server.server.dsn(RICH), autocommit=True) as connection:
        connection.execute("INSERT INTO events SELECT '2026-01-01', g FROM generate_series(1, 3000) g")
        connection.execute("SELECT lo_unlink(4004), lo_put(4002, 0, 'other')")
        point = _content(server)
        connection.execute("SELECT pg_create_restore_point('before')")
        connection.execute("DROP TABLE events CASCADE")
        connection.execute("SELECT pg_switch_wal()")
    return point


def _content(server: RunningPostgres) -> tuple[Table, ...]:
    """Every table of both databases, counted and digested from outside."""
    dsn = server.server.dsn("postgres")
    return (*digest_database(dsn, RICH), *digest_database(dsn, SMALL))


def _but(tables: tuple[Table, ...], name: str) -> list[Any]:
    return [table for table in tables if table.name != name]
