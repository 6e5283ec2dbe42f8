"""A PostgreSQL server as its catalogs describe it: what a backup records and a restore checks."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any, Final, Literal, ParamSpec, TypeVar

import psycopg
from psycopg.conninfo import make_conninfo
from psycopg.rows import TupleRow

from dreamseed_cli.backup import ending
from dreamseed_cli.backup.manifest import Database, Extension, Locale
from dreamseed_cli.core.errors import FailedError, MissingError, UsageError

Programs = Callable[[str], Path]
"""Where a program of PostgreSQL's is."""

Told = Callable[[str, int, int], None]
"""What is being done, how much of it is done, and how much there is (tables or bytes)."""

Connection = psycopg.Connection[TupleRow]

_P = ParamSpec("_P")
_T = TypeVar("_T")

_CONNECT_S: Final = 10
_CANCEL_S: Final = 2.0
# Text forms must not depend on how a server, a database or a role is set; nor may a limit end a backup.
_SETTINGS: Final = {
    "TimeZone": "UTC",
    "DateStyle": "ISO, YMD",
    "IntervalStyle": "postgres",
    "extra_float_digits": "3",
    "bytea_output": "hex",
    "lc_monetary": "C",
    "xmlbinary": "base64",
    "search_path": "pg_catalog",
    "row_security": "off",
    "jit": "off",
    "statement_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
}
_TRANSACTION_TIMEOUT_SINCE: Final = 170000
_PROVIDERS: Final[dict[str, Literal["libc", "icu", "builtin"]]] = {"c": "libc", "i": "icu", "b": "builtin"}
# Columns that not every version has are asked for as JSON, where those that are missing are null.
_DATABASES: Final = (
    "SELECT datname, pg_encoding_to_char(encoding), datcollate, pg_database_size(oid), datctype,"
    " to_jsonb(d) ->> 'datlocprovider',"
    " coalesce(to_jsonb(d) ->> 'datlocale', to_jsonb(d) ->> 'daticulocale'), to_jsonb(d) ->> 'daticurules'"
    " FROM pg_database d WHERE datname NOT IN ('template0', 'template1')"
)
_OPEN: Final = "(datallowconn AND datconnlimit <> -2)"
"""-2: a DROP DATABASE was interrupted, and nobody can connect any more."""


class ServerUnreachable(FailedError):
    """PostgreSQL does not answer, or does not let us in."""

    kind = "server_unreachable"


class ServerFailed(FailedError):
    """PostgreSQL broke off, was shut down, or refused a statement."""

    kind = "server_failed"


@dataclass(frozen=True, slots=True)
class Server:
    """A server. roles: all but PostgreSQL's own. databases: those that take connections, but PostgreSQL's own
    templates. closed: those that take none, which nobody can dump.
    """

    version: str
    version_num: int
    system_identifier: str
    roles: tuple[str, ...]
    databases: tuple[Database, ...]
    closed: tuple[str, ...] = ()


def server_errors(work: Callable[_P, _T]) -> Callable[_P, _T]:
    """Let PostgreSQL's own errors out of `work` as ServerFailed."""

    @wraps(work)
    def named(*args: _P.args, **kwargs: _P.kwargs) -> _T:
        try:
            return work(*args, **kwargs)
        except psycopg.Error as error:
            raise ServerFailed(str(error).strip(), place="PostgreSQL", remedy="See its log.") from error

    return named


class _Ending(psycopg.Connection[TupleRow]):
    """A connection whose query is cancelled when its work is told to end."""

    forget: Callable[[], None] | None = None

    def close(self) -> None:
        if self.forget is not None:
            self.forget()
        super().close()


def _cancelling(connection: Connection) -> ending.End:
    def cancel(hard: bool) -> None:
        with suppress(psycopg.Error, OSError):
            if hard:  # the server does not hear of a cancellation: hang up
                with socket.socket(fileno=os.dup(connection.fileno())) as line:
                    line.shutdown(socket.SHUT_RDWR)
            else:
                connection.cancel_safe(timeout=_CANCEL_S)

    return cancel


def connect(dsn: str, database: str | None = None) -> Connection:
    """A connection in autocommit whose text forms are fixed. ServerUnreachable; see ending.check."""
    ending.check()
    target = make_conninfo(dsn, **({} if database is None else {"dbname": database}))
    try:
        connection = _Ending.connect(target, autocommit=True, connect_timeout=_CONNECT_S)
    except psycopg.OperationalError as error:
        raise ServerUnreachable(
            str(error).strip(), place="PostgreSQL", remedy="Start the server, or mend the connection string."
        ) from error
    connection.forget = ending.on_end(_cancelling(connection))
    settings = dict(_SETTINGS)
    if connection.info.server_version >= _TRANSACTION_TIMEOUT_SINCE:
        settings["transaction_timeout"] = "0"
    for name, value in settings.items():
        connection.execute("SELECT set_config(%s, %s, false)", (name, value))
    return connection


def read_server(connection: Connection) -> Server:
    """What the server is. UsageError unless the role is a superuser: only one sees all there is to save."""
    if not _is_superuser(connection):
        raise UsageError(
            "this role is no superuser, and could leave out what it may not see",
            place="PostgreSQL",
            remedy="Give backups a role with SUPERUSER.",
        )
    return Server(
        version=str(value(connection, "SHOW server_version")).split()[0],
        version_num=connection.info.server_version,
        system_identifier=str(value(connection, "SELECT system_identifier FROM pg_control_system()")),
        roles=tuple(
            name
            for (name,) in connection.execute(
                r"SELECT rolname FROM pg_roles WHERE rolname !~ '^pg_' ORDER BY 1"
            )
        ),
        databases=tuple(map(_database, connection.execute(f"{_DATABASES} AND {_OPEN} ORDER BY 1"))),
        closed=tuple(row[0] for row in connection.execute(f"{_DATABASES} AND NOT {_OPEN} ORDER BY 1")),
    )


def require_same_role(connection: Connection, database: str) -> None:
    """UsageError if a setting of the database has made the superuser somebody else there: pg_dump would fail
    at the first thing that one may not read.
    """
    if not _is_superuser(connection):
        raise UsageError(
            "a setting of this database (ALTER DATABASE ... SET role) makes backups run as another role",
            place=f"database {database}",
            remedy="RESET it, or add options='-c role=none' to the connection string that backups get.",
        )


def _is_superuser(connection: Connection) -> bool:
    return bool(value(connection, "SHOW is_superuser") == "on")


def _database(row: TupleRow) -> Database:
    name, encoding, collation, size, ctype, provider, locale, icu_rules = row
    return Database(
        name=name,
        encoding=encoding,
        collation=collation or "",
        size=size,
        locale=Locale(
            ctype=ctype or "",
            provider=None if provider is None else _PROVIDERS[provider],
            name=locale or "",
            icu_rules=icu_rules or "",
        ),
    )


def read_extensions(connection: Connection) -> tuple[Extension, ...]:
    """The extensions of the connection's database, but those that every database has."""
    rows = connection.execute(
        "SELECT current_database(), extname, extversion FROM pg_extension"
        " WHERE extname <> 'plpgsql' ORDER BY 2"
    )
    return tuple(Extension(database=database, name=name, version=version) for database, name, version in rows)


def missing_extensions(connection: Connection, wanted: tuple[Extension, ...]) -> list[str]:
    """Names of extensions that this server cannot install."""
    there = {name for (name,) in connection.execute("SELECT name FROM pg_available_extensions")}
    return sorted({extension.name for extension in wanted} - there)


def value(connection: Connection, query: str, parameters: tuple[Any, ...] = ()) -> Any:
    """The one value that a query gives."""
    row = connection.execute(query, parameters).fetchone()
    if row is None:
        raise MissingError("the server answered with no row", place=query)
    return row[0]
