"""Restores a logical backup into a server and proves it: what every table holds is compared at the end.

A restore needs free disk for the largest database's dump, beside the databases themselves. What it made
itself is removed again if it fails, so that it can simply be run again.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from dreamseed_cli.backup.logical.archive import unpack
from dreamseed_cli.backup.logical.checks import Plan, check_target
from dreamseed_cli.backup.logical.digests import digest_database
from dreamseed_cli.backup.logical.dump import GLOBALS, database_stream
from dreamseed_cli.backup.logical.proof import Compared, compare
from dreamseed_cli.backup.logical.server import Programs, Told, connect, server_errors, value
from dreamseed_cli.backup.logical.temporary import check_room, forget_dumps, temporary_folder
from dreamseed_cli.backup.manifest import Manifest
from dreamseed_cli.backup.pipeline import Downloader
from dreamseed_cli.backup.producer import libpq_environment, program_version, run_program
from dreamseed_cli.backup.programs import programs_for

MAINTENANCE: Final = "template1"
"""The database to stand in while others are dropped and made: `postgres` may be one of them."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where to restore to.

    dsn: a superuser's; its database does not matter. databases: which, and their new names; None: all, under
    their own. globals: whether roles and tablespaces are made too; roles that are there get the password and
    rights of the backup, but for the one that `dsn` names. replace: databases that may be dropped although
    they are not empty, or in use.
    """

    dsn: str
    databases: Mapping[str, str] | None = None
    globals: bool = True
    replace: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class RestoreReport:
    """What was restored and proven: `manifest.Level.DIGESTS_EQUAL`, or there would be an error instead.

    databases: names in the backup and in the target. refreshed: materialised views that hold something else
    than at the snapshot, since a restore fills them anew from their (proven) tables.
    """

    databases: tuple[tuple[str, str], ...]
    tables: int
    rows: int
    refreshed: tuple[str, ...]
    duration_s: float


@server_errors
def restore_logical(
    manifest: Manifest,
    downloader: Downloader,
    target: Target,
    temp: Path,
    *,
    jobs: int = 2,
    programs: Programs | None = None,
    told: Told = lambda _what, _done, _all: None,
) -> RestoreReport:
    """Restore databases of a backup, and compare every table's digest at the end.

    programs: those of the target's version; None: found. Everything that can be known beforehand is checked
    before anything is changed: TargetUnfit, with every reason. Raises DigestsDiffer, ProducerFailed
    (pg_restore's own words), the Downloader's errors with the name of a damaged or missing part, StoreFull
    (no room in `temp`), ServerUnreachable, ServerFailed.
    """
    started = time.monotonic()
    forget_dumps(temp)
    wanted = target.databases
    if wanted is None:
        wanted = {database.name: database.name for database in manifest.databases}
    sizes = {stream.name: stream.size for stream in manifest.streams}
    with connect(target.dsn, MAINTENANCE) as server:
        programs = programs or programs_for(server.info.server_version)
        plan = Plan(wanted, target.globals, target.replace, program_version(programs("pg_restore")))
        check_target(server, target.dsn, manifest, plan)
    check_room(temp, max((sizes[database_stream(name)] for name in wanted), default=0))
    work = _Work(manifest, downloader, target.dsn, temp, jobs, programs, told)
    if target.globals:
        work.globals()
    compared = [work.database(name, new) for name, new in wanted.items()]
    return RestoreReport(
        databases=tuple(wanted.items()),
        tables=sum(one.tables for one in compared),
        rows=sum(one.rows for one in compared),
        refreshed=tuple(name for one in compared for name in one.refreshed),
        duration_s=time.monotonic() - started,
    )


def without_existing(script: bytes, roles: Sequence[str], me: str) -> bytes:
    """pg_dumpall's script without what would make roles that exist, or change our own password under us.

    roles, me: quoted as PostgreSQL quotes them.
    """
    made = {f"CREATE ROLE {name};".encode() for name in roles}
    ours = f"ALTER ROLE {me} WITH ".encode()
    lines = (line for line in script.split(b"\n") if line not in made and not line.startswith(ours))
    return b"\n".join(lines)


@dataclass(frozen=True, slots=True)
class _Work:
    """A restore under way."""

    manifest: Manifest
    downloader: Downloader
    dsn: str
    temp: Path
    jobs: int
    programs: Programs
    told: Told

    def globals(self) -> None:
        """Roles and tablespaces."""
        with connect(self.dsn, MAINTENANCE) as server, temporary_folder(self.temp) as folder:
            roles = [name for (name,) in server.execute("SELECT quote_ident(rolname) FROM pg_roles")]
            me = value(server, "SELECT quote_ident(current_user)")
            script = folder / GLOBALS
            script.write_bytes(without_existing(b"".join(self.downloader.stream(GLOBALS)), roles, me))
            arguments = ["--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", f"--file={script}"]
            run_program([self.programs("psql"), *arguments, "--no-password"], environment=self._environment())

    def database(self, name: str, new: str) -> Compared:
        """One database, from its stream to the proof."""
        with temporary_folder(self.temp) as folder:
            dump = folder / "dump"
            self.told(f"download of {name}", 0, 1)
            unpack(self.downloader.stream(database_stream(name)), dump)
            self.told(f"restore of {new}", 0, 1)
            with self._made_new(name, new):
                self._pg_restore(dump, name, new)
        self.told(f"restore of {new}", 1, 1)
        content = digest_database(
            self.dsn, new, jobs=self.jobs, told=lambda done, all_: self.told(f"digests of {new}", done, all_)
        )
        found = tuple(table.model_copy(update={"database": name}) for table in content)
        with connect(self.dsn, new) as server:
            return compare(server, tuple(t for t in self.manifest.tables if t.database == name), found)

    def _pg_restore(self, dump: Path, name: str, new: str) -> None:
        # With --create a database gets back its locale, owner, rights and settings, but also its name.
        create, start = (["--create"], MAINTENANCE) if new == name else ([], new)
        arguments = [
            *create,
            f"--dbname={make_conninfo(dbname=start)}",
            "--exit-on-error",
            f"--jobs={self.jobs}",
        ]
        run_program(
            [self.programs("pg_restore"), *arguments, "--no-password", dump], environment=self._environment()
        )

    @contextmanager
    def _made_new(self, name: str, new: str) -> Iterator[None]:
        """Room for the database: the old one goes; what came of a failed restore goes, too."""
        self._drop(new)
        try:
            if new != name:
                self._create(name, new)
            yield
        except BaseException:
            with suppress(psycopg.Error):
                self._drop(new)
            raise

    def _create(self, name: str, new: str) -> None:
        source = next(database for database in self.manifest.databases if database.name == name)
        locale = source.collation or "C"
        with connect(self.dsn, MAINTENANCE) as server:
            server.execute(
                sql.SQL("CREATE DATABASE {} TEMPLATE template0 ENCODING {} LOCALE {}").format(
                    sql.Identifier(new), source.encoding, locale
                )
            )

    def _drop(self, name: str) -> None:
        with connect(self.dsn, MAINTENANCE) as server:
            server.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))

    def _environment(self) -> dict[str, str]:
        return libpq_environment(make_conninfo(self.dsn, dbname=MAINTENANCE))
