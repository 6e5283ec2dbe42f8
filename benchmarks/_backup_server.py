"""The server that everyone backs up: a private PostgreSQL 15, filled by pgbench.

15 and not the embedded 18, since Debian's pgbackrest 2.45 knows no later one. For root the server runs in a
user namespace, as the embedded one does.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, LiteralString

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from benchmarks._backup_meter import MIB
from dreamseed_cli.backup.producer import program_version
from dreamseed_cli.backup.programs import programs_for
from dreamseed_cli.core.errors import MissingError
from dreamseed_cli.services.postgres import PORT, USER
from dreamseed_cli.services.root import unprivileged

MAJOR = 15
DATABASE = "pgbench"
_START_S = 30.0
_STOP_S = 60.0
_SETTINGS = {
    "listen_addresses": "",
    "port": str(PORT),
    "shared_buffers": "256MB",
    "max_wal_size": "4GB",
    "jit": "off",
    "archive_mode": "on",
}
NO_ARCHIVE = "true"
"""An archive_command that forgets what it is given."""


@dataclass(frozen=True)
class Server:
    """A running server. programs: the folder of its programs."""

    folder: Path
    programs: Path

    @property
    def data(self) -> Path:
        return self.folder / "data"

    def dsn(self, database: str = DATABASE) -> str:
        """libpq's connection string."""
        return make_conninfo(host=str(self.folder), port=PORT, user=USER, dbname=database)

    def environment(self, database: str = DATABASE) -> dict[str, str]:
        """The same for programs."""
        return {
            "PGHOST": str(self.folder),
            "PGPORT": str(PORT),
            "PGUSER": USER,
            "PGDATABASE": database,
        }

    def run(self, name: str, *words: str) -> None:
        """One of PostgreSQL's programs, to its end. CalledProcessError."""
        argv = [str(self.programs / name), *words]
        subprocess.run(argv, check=True, capture_output=True, env=os.environ | self.environment())

    def query(self, query: LiteralString, *parameters: object) -> Any:
        """The first value, if there is one."""
        with psycopg.connect(self.dsn("postgres"), autocommit=True) as connection:
            found = connection.execute(query, parameters)
            row = found.fetchone() if found.description else None
            return row[0] if row else None

    def fill(self, scale: int) -> None:
        """pgbench's tables, 15 MB a step, in a fresh database, and all of it on the disk."""
        self.run("dropdb", "--if-exists", DATABASE)
        self.run("createdb", "--template=template0", DATABASE)
        self.run("pgbench", "--initialize", "--quiet", f"--scale={scale}")
        self.query("CHECKPOINT")

    def add_noise(self, mib: int) -> None:
        """A table of random bytes, which nothing compresses."""
        with psycopg.connect(self.dsn()) as connection:
            connection.execute("CREATE TABLE noise (data bytea)")
            connection.execute("ALTER TABLE noise ALTER data SET STORAGE EXTERNAL")
            with connection.cursor().copy("COPY noise FROM STDIN (FORMAT binary)") as copy:
                copy.set_types(["bytea"])
                for _ in range(mib):
                    copy.write_row([os.urandom(MIB)])
        self.query("CHECKPOINT")

    def size(self) -> int:
        """Bytes of all databases."""
        return int(self.query("SELECT sum(pg_database_size(oid)) FROM pg_database"))

    def version(self) -> str:
        """Of the server."""
        return str(self.query("SHOW server_version"))

    def archive_by(self, command: str) -> None:
        """What takes WAL away from now on."""
        with psycopg.connect(self.dsn("postgres"), autocommit=True) as connection:
            connection.execute(sql.SQL("ALTER SYSTEM SET archive_command = {}").format(command))
            connection.execute("SELECT pg_reload_conf()")


def programs() -> Path:
    """Where PostgreSQL 15's programs are. MissingError."""
    folder = programs_for(MAJOR * 10_000)("postgres").parent
    if program_version(folder / "postgres").split(".")[0] != str(MAJOR):
        raise MissingError(
            f"there is no PostgreSQL {MAJOR}",
            place=str(folder),
            remedy=f"Install it: apt-get install postgresql-{MAJOR}.",
        )
    return folder


@contextmanager
def running_server(folder: Path, env: Mapping[str, str]) -> Iterator[Server]:
    """A new cluster that runs, in a folder with a short path. env: for its archive_command."""
    server = Server(folder, programs())
    initdb = (
        *(str(server.programs / "initdb"), "--pgdata", str(server.data), "--username", USER),
        *("--auth", "trust", "--encoding", "UTF8", "--locale", "C.UTF-8", "--data-checksums", "--no-sync"),
    )
    subprocess.run(unprivileged(initdb), check=True, capture_output=True)
    settings = {**_SETTINGS, "unix_socket_directories": str(folder), "archive_command": NO_ARCHIVE}
    with (server.data / "postgresql.conf").open("a") as file:
        file.writelines(f"{name} = '{value}'\n" for name, value in settings.items())
    argv = unprivileged((str(server.programs / "postgres"), "-D", str(server.data)))
    with (folder / "postgres.log").open("wb") as log:
        process = subprocess.Popen(argv, stdout=log, stderr=log, env=os.environ | env, start_new_session=True)
    try:
        _await(server)
        yield server
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(_STOP_S)


def _await(server: Server) -> None:
    deadline = time.monotonic() + _START_S
    while not _answers(server):
        if time.monotonic() > deadline:
            raise TimeoutError(f"PostgreSQL does not start: see {server.folder}/postgres.log")
        time.sleep(0.1)


def _answers(server: Server) -> bool:
    with suppress(psycopg.OperationalError):
        return bool(server.query("SELECT true"))
    return False
