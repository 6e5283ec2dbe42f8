"""A logical backup: roles and tablespaces, then each database with pg_dump, digested at the same snapshot.

pg_dump's directory format cannot be piped and writes tables side by side: it goes into a temporary folder,
whose files leave it as they are uploaded. So a backup needs free disk for the largest database's dump.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from psycopg.conninfo import make_conninfo

from dreamseed_cli.backup import ending
from dreamseed_cli.backup.logical.archive import packed
from dreamseed_cli.backup.logical.digests import digest_database
from dreamseed_cli.backup.logical.server import (
    Programs,
    Server,
    Told,
    connect,
    read_extensions,
    read_server,
    require_same_role,
    server_errors,
)
from dreamseed_cli.backup.logical.snapshot import exported_snapshot
from dreamseed_cli.backup.manifest import Database, Extension, Stream, Table
from dreamseed_cli.backup.manifest import Producer as ProducerFact
from dreamseed_cli.backup.pipeline import Uploader
from dreamseed_cli.backup.pool import Pool
from dreamseed_cli.backup.producer import Producer, libpq_environment, program_version, run_program
from dreamseed_cli.backup.programs import programs_for
from dreamseed_cli.backup.temporary import DUMP, check_room, forget_left, temporary_folder
from dreamseed_cli.core.errors import UsageError

GLOBALS: Final = "globals.sql"
_LOCK_WAIT_MS: Final = 60_000
_JOBS: Final = 2
"""Of pg_dump, and tables digested at a time beside it."""


@dataclass(frozen=True, slots=True)
class LogicalFacts:
    """What the manifest needs of a logical backup; the parts are the Uploader's."""

    server: Server
    streams: tuple[Stream, ...]
    producers: tuple[ProducerFact, ...]
    databases: tuple[Database, ...]
    extensions: tuple[Extension, ...]
    tables: tuple[Table, ...]


def database_stream(database: str) -> str:
    """The stream of a database's dump: pg_dump's directory in a tar file."""
    return f"database/{database}.tar"


@server_errors
def backup_logical(
    dsn: str,
    uploader: Uploader,
    temp: Path,
    *,
    server: Server | None = None,
    databases: Sequence[str] | None = None,
    programs: Programs | None = None,
    told: Told = lambda _what, _done, _all: None,
) -> LogicalFacts:
    """Save all databases of a server, or those named.

    server: what read_server() just said; None: it is asked. programs: of the server's version; None: found.
    Raises ProducerFailed, DatabaseBusy, DigestFailed, ServerUnreachable, UsageError, StoreFull (no room in
    `temp`), and the Uploader's errors: then nothing may be made of what was uploaded.
    """
    forget_left(temp, DUMP)
    if server is None:
        with connect(dsn) as connection:
            server = read_server(connection)
    programs = programs or programs_for(server.version_num)
    chosen = _chosen(server, databases)
    check_room(temp, max((database.size for database in chosen), default=0))
    told("globals", 0, 1)
    streams = [_globals(dsn, uploader, programs("pg_dumpall"))]
    told("globals", 1, 1)
    extensions: list[Extension] = []
    tables: list[Table] = []
    for database in chosen:
        with connect(dsn, database.name) as connection:
            require_same_role(connection, database.name)
            extensions += read_extensions(connection)
    for database in chosen:
        stream, content = _database(dsn, database.name, uploader, temp, programs, told)
        streams.append(stream)
        tables += content
    return LogicalFacts(
        server=server,
        streams=tuple(streams),
        producers=tuple(
            ProducerFact(name=name, version=program_version(programs(name)), exit_code=0)
            for name in ("pg_dumpall", "pg_dump")
        ),
        databases=chosen,
        extensions=tuple(extensions),
        tables=tuple(tables),
    )


def _chosen(server: Server, wanted: Sequence[str] | None) -> tuple[Database, ...]:
    if wanted is None:
        return server.databases
    missing = set(wanted) - {database.name for database in server.databases}
    if missing:
        raise UsageError(
            "there is no such database", place=", ".join(sorted(missing)), remedy="psql -l lists them."
        )
    return tuple(database for database in server.databases if database.name in wanted)


def _globals(dsn: str, uploader: Uploader, pg_dumpall: Path) -> Stream:
    with Producer([pg_dumpall, "--globals-only"], environment=libpq_environment(dsn)) as running:
        return uploader.stream(GLOBALS, running)


def _database(
    dsn: str, name: str, uploader: Uploader, temp: Path, programs: Programs, told: Told
) -> tuple[Stream, tuple[Table, ...]]:
    """One database's stream and tables. The snapshot stays open until both dump and digests have ended."""
    with temporary_folder(temp, DUMP) as folder:
        dump = folder / "dump"
        with exported_snapshot(dsn, name) as snapshot, _digesting(dsn, name, snapshot, told) as tables:
            told(f"dump of {name}", 0, 1)
            _dump(dsn, name, dump, snapshot, programs("pg_dump"))
            told(f"dump of {name}", 1, 1)
            # Digests take longer than a dump: they go on meanwhile.
            stream = uploader.stream(database_stream(name), packed(dump))
            content = ending.result(tables)
        return stream, content


@contextmanager
def _digesting(dsn: str, name: str, snapshot: str, told: Told) -> Iterator[Future[tuple[Table, ...]]]:
    """Digests being taken; they end early if the dump beside them fails."""

    def about(done: int, all_: int) -> None:
        told(f"digests of {name}", done, all_)

    with Pool(1, "digests") as pool:
        yield pool.submit(digest_database, dsn, name, snapshot=snapshot, jobs=_JOBS, told=about)


def _dump(dsn: str, name: str, folder: Path, snapshot: str, pg_dump: Path) -> None:
    # Not compressed here: zstd does it better on whole parts.
    how = ["--format=directory", "--compress=0", f"--jobs={_JOBS}", f"--file={folder}"]
    arguments = [*how, f"--snapshot={snapshot}", f"--lock-wait-timeout={_LOCK_WAIT_MS}", "--no-password"]
    run_program([pg_dump, *arguments], environment=libpq_environment(make_conninfo(dsn, dbname=name)))
