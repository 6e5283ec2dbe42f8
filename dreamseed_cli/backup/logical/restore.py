"""Restores a logical backup into a server and proves it: what every table holds is compared at the end.

A restore needs free disk for the largest database's dump, beside the databases themselves. What it made
itself is removed again if it fails, so that it can simply be run again. What was unpacked of a dump when it
was killed, or lost the store, stays for the next one, which fetches only the rest; any other run removes it.
A database that was being filled when it was killed is made anew by the next one; one that was full is proven.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex
from typing import Final

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from dreamseed_cli.backup import ending
from dreamseed_cli.backup.logical.checks import Plan, TargetUnfit, check_target
from dreamseed_cli.backup.logical.digests import digest_database
from dreamseed_cli.backup.logical.dump import GLOBALS, database_stream
from dreamseed_cli.backup.logical.mark import Got, read_marks, remove_marks, write_mark
from dreamseed_cli.backup.logical.proof import Compared, DigestsDiffer, compare
from dreamseed_cli.backup.logical.server import Connection, Programs, Told, connect, server_errors, value
from dreamseed_cli.backup.manifest import Database, Manifest
from dreamseed_cli.backup.pipeline import Downloader
from dreamseed_cli.backup.producer import libpq_environment, program_version, run_program
from dreamseed_cli.backup.programs import programs_for
from dreamseed_cli.backup.seal import sha256
from dreamseed_cli.backup.temporary import (
    DUMP,
    check_room,
    forget_left,
    lasting_folder,
    temporary_folder,
)
from dreamseed_cli.backup.unpack import Unpacking

MAINTENANCE: Final = "template1"
"""The database to stand in while others are dropped and made: `postgres` may be one of them."""
_TABLESPACE: Final = re.compile(r"^CREATE TABLESPACE (.+) OWNER .+ LOCATION '([^']+)';$", re.MULTILINE)
"""PostgreSQL takes no quote in a location."""
_WRITING: Final = "-c default_transaction_read_only=off"
"""A database's own settings come back before its tables do."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where to restore to.

    dsn: a superuser's; its database does not matter. databases: which, and their new names; None: all, under
    their own. globals: whether roles and tablespaces are made too; roles that are there get the password and
    rights of the backup, but for the one that `dsn` names; tablespaces that are there stay. replace:
    databases that may be dropped although they are not empty, or in use.
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
    forget_left(temp, DUMP, but=f"{DUMP}{manifest.identity.backup_id}")
    wanted = target.databases
    if wanted is None:
        wanted = {database.name: database.name for database in manifest.databases}
    sizes = {stream.name: stream.size for stream in manifest.streams}
    with connect(target.dsn, MAINTENANCE) as server:
        programs = programs or programs_for(server.info.server_version)
        marks = read_marks(server, manifest.identity.backup_id, wanted)
        version = program_version(programs("pg_restore"))
        plan = Plan(wanted, target.globals, target.replace, version, marks)
        check_target(server, target.dsn, manifest, plan)
    work = _Work(manifest, downloader, target.dsn, temp, jobs, programs, told)
    found = {
        name: work.proven_already(name, new, replace=new in target.replace)
        for name, new in wanted.items()
        if marks.get(new) is Got.FILLED
    }
    left = [name for name in wanted if found.get(name) is None]
    needed = (sizes[database_stream(name)] - _size(temp / work.kept_as(name)) for name in left)
    check_room(temp, max(needed, default=0))
    if target.globals:
        work.globals()
    compared = [found.get(name) or work.database(name, new) for name, new in wanted.items()]
    with connect(target.dsn, MAINTENANCE) as server:
        remove_marks(server, wanted.values())
    return RestoreReport(
        databases=tuple(wanted.items()),
        tables=sum(one.tables for one in compared),
        rows=sum(one.rows for one in compared),
        refreshed=tuple(name for one in compared for name in one.refreshed),
        duration_s=time.monotonic() - started,
    )


def without_existing(script: bytes, roles: Sequence[str], tablespaces: Sequence[str], me: str) -> bytes:
    """pg_dumpall's script without what would make roles and tablespaces that exist, or change our own
    password under us.

    roles, tablespaces, me: quoted as PostgreSQL quotes them.
    """
    made = {f"CREATE ROLE {name};".encode() for name in roles}
    begun = tuple(f"CREATE TABLESPACE {name} OWNER ".encode() for name in tablespaces)
    ours = f"ALTER ROLE {me} WITH ".encode()
    lines = (line for line in script.split(b"\n") if line not in made and not line.startswith((ours, *begun)))
    return b"\n".join(lines)


def check_locations(server: Connection, script: bytes) -> None:
    """TargetUnfit if a folder of a tablespace to make is not there; only where the server is on this host."""
    if not Path(str(value(server, "SHOW data_directory"))).is_dir():
        return
    for name, folder in _TABLESPACE.findall(script.decode()):
        if not Path(folder).is_dir():
            raise TargetUnfit(
                f"the folder of the tablespace {name} is not there",
                place=folder,
                remedy="Make it, empty, for the server's user; or make a tablespace of this name elsewhere.",
            )


def _locale(source: Database) -> sql.Composable:
    """How its text is compared and classified, as far as the manifest knows: an older one says less."""
    locale = source.locale
    if locale is None:
        return sql.SQL("LOCALE {}").format(source.collation or "C")
    words = [sql.SQL("LC_COLLATE {} LC_CTYPE {}").format(source.collation or "C", locale.ctype or "C")]
    if locale.provider is not None:
        words.append(sql.SQL("LOCALE_PROVIDER {}").format(locale.provider))
    if locale.name and locale.provider in {"icu", "builtin"}:
        option = sql.SQL("ICU_LOCALE {}" if locale.provider == "icu" else "BUILTIN_LOCALE {}")
        words.append(option.format(locale.name))
    if locale.icu_rules:
        words.append(sql.SQL("ICU_RULES {}").format(locale.icu_rules))
    return sql.SQL(" ").join(words)


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
        with connect(self.dsn, MAINTENANCE) as server, temporary_folder(self.temp, DUMP) as folder:
            roles = [name for (name,) in server.execute("SELECT quote_ident(rolname) FROM pg_roles")]
            spaces = [name for (name,) in server.execute("SELECT quote_ident(spcname) FROM pg_tablespace")]
            me = value(server, "SELECT quote_ident(current_user)")
            text = without_existing(b"".join(self.downloader.stream(GLOBALS)), roles, spaces, me)
            check_locations(server, text)
            script = folder / GLOBALS
            script.write_bytes(text)
            arguments = ["--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", f"--file={script}"]
            run_program([self.programs("psql"), *arguments, "--no-password"], environment=self._environment())

    def database(self, name: str, new: str) -> Compared:
        """One database, from its stream to the proof."""
        with lasting_folder(self.temp, self.kept_as(name)) as dump:
            self.told(f"download of {name}", 0, 1)
            self._unpack(database_stream(name), dump)
            self.told(f"restore of {new}", 0, 1)
            with self._made_new(dump, name, new):
                self._fill(dump, new)
        self._mark(Got.FILLED, name, new)
        self.told(f"restore of {new}", 1, 1)
        return self._proven(name, new)

    def proven_already(self, name: str, new: str, *, replace: bool) -> Compared | None:
        """What is proven of a database that an interrupted restore has filled; None: it is to be made anew.
        TargetUnfit if it is not, and may not be replaced.
        """
        try:
            return self._proven(name, new)
        except DigestsDiffer as error:
            if replace:
                return None
            raise TargetUnfit(
                f"an interrupted restore filled it, and it does not hold what the backup does: {error.cause}",
                place=new,
                remedy="Restore under another name, or say that it may be replaced.",
            ) from error

    def _proven(self, name: str, new: str) -> Compared:
        content = digest_database(
            self.dsn,
            new,
            jobs=self.jobs,
            told=lambda done, all_: self.told(f"digests of {new}", done, all_),
            method=self.manifest.digest_method,
        )
        found = tuple(table.model_copy(update={"database": name}) for table in content)
        with connect(self.dsn, new) as server:
            return compare(server, tuple(t for t in self.manifest.tables if t.database == name), found)

    def kept_as(self, name: str) -> str:
        """The folder of a database's dump while it is restored."""
        return f"{DUMP}{self.manifest.identity.backup_id}-{sha256(name.encode())[:16]}"

    def _unpack(self, stream: str, dump: Path) -> None:
        with Unpacking(dump, place=f"{self.manifest.identity.backup_id}: {stream}") as unpacking:
            kept = unpacking.take_up(self.downloader.parts_of(stream))
            self.downloader.feed(stream, unpacking.feed, kept)
            unpacking.finish()

    def _fill(self, dump: Path, new: str) -> None:
        """All but the database itself. A session of ours tells others that somebody is at work in it."""
        with connect(self.dsn, new):
            self._pg_restore(dump, f"--dbname={make_conninfo(dbname=new)}", f"--jobs={self.jobs}")

    def _pg_restore(self, dump: Path, *arguments: str) -> None:
        run_program(
            [self.programs("pg_restore"), *arguments, "--exit-on-error", "--no-password", dump],
            environment=self._environment(),
        )

    @contextmanager
    def _made_new(self, dump: Path, name: str, new: str) -> Iterator[None]:
        """An empty database, marked: the old one goes; what came of a failed restore goes, too."""
        self._drop(new)
        try:
            if new != name:
                self._create(name, new)
            else:
                # A database gets back its locale, owner, rights and settings. No schema has this name.
                start = f"--dbname={make_conninfo(dbname=MAINTENANCE)}"
                self._pg_restore(dump, "--create", f"--schema=none-{token_hex(8)}", start)
            self._mark(Got.BEGUN, name, new)
            yield
        except BaseException:
            with ending.shielded(), suppress(psycopg.Error):
                self._drop(new)
            raise

    def _mark(self, got: Got, name: str, new: str) -> None:
        with connect(self.dsn, MAINTENANCE) as server:
            write_mark(server, got, self.manifest.identity.backup_id, name, new)

    def _create(self, name: str, new: str) -> None:
        source = next(database for database in self.manifest.databases if database.name == name)
        with connect(self.dsn, MAINTENANCE) as server:
            made = sql.SQL("CREATE DATABASE {} TEMPLATE template0 ENCODING {} ")
            server.execute(made.format(sql.Identifier(new), source.encoding) + _locale(source))

    def _drop(self, name: str) -> None:
        with connect(self.dsn, MAINTENANCE) as server:
            server.execute("UPDATE pg_database SET datistemplate = false WHERE datname = %s", (name,))
            server.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))

    def _environment(self) -> dict[str, str]:
        found = libpq_environment(make_conninfo(self.dsn, dbname=MAINTENANCE))
        return {**found, "PGOPTIONS": f"{found.get('PGOPTIONS', '')} {_WRITING}".lstrip()}


def _size(folder: Path) -> int:
    """Bytes of a folder's files; 0 if there is none."""
    return sum(path.stat().st_size for path in folder.glob("*"))
