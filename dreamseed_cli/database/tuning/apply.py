"""Change a server's settings by ALTER SYSTEM, and take it back."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import sql

from dreamseed_cli.core.errors import FailedError, MissingError
from dreamseed_cli.core.files import write_atomically
from dreamseed_cli.database.connection import administration

_PLACE = "db tune"


@dataclass(frozen=True, slots=True)
class WayBack:
    """What the settings were before: a value that ALTER SYSTEM had set, or None where it had set none.

    server: the cluster's identifier, so that it is not applied to another one.
    """

    server: str
    before: Mapping[str, str | None]

    def save(self, path: Path) -> None:
        """Durably, before the first setting is changed."""
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_atomically(path, json.dumps({"server": self.server, "before": self.before}, indent=1).encode())

    @classmethod
    def load(cls, path: Path) -> WayBack:
        """MissingError if nothing was applied from here; FailedError for a file that is not one of ours."""
        try:
            data = json.loads(path.read_text())
            return cls(str(data["server"]), dict(data["before"]))
        except FileNotFoundError as error:
            raise MissingError(
                "nothing was applied from here, so there is nothing to take back",
                place=str(path),
                remedy="See what was set with: SELECT name, setting FROM pg_file_settings.",
            ) from error
        except (ValueError, KeyError, TypeError) as error:
            raise FailedError(
                "this is not a way back that db tune wrote",
                place=str(path),
                remedy="Take single settings back with: ALTER SYSTEM RESET name.",
            ) from error


@contextmanager
def tuned(dsn: str) -> Iterator[psycopg.Connection]:
    """A connection that commits every statement at once, as ALTER SYSTEM asks for.

    Raises MissingError if there is no server, FailedError for what PostgreSQL refuses.
    """
    try:
        with administration(dsn, "dreamseed db tune") as connection:
            yield connection
    except psycopg.errors.InsufficientPrivilege as error:
        raise FailedError(
            f"PostgreSQL refuses: {str(error).strip()}",
            place=_PLACE,
            remedy="Connect as a superuser (--dsn-env), or have one GRANT ALTER SYSTEM ON PARAMETER.",
        ) from error
    except psycopg.Error as error:
        raise FailedError(f"PostgreSQL refuses: {str(error).strip()}", place=_PLACE) from error


def apply(connection: psycopg.Connection, values: Mapping[str, str], way_back: Path) -> None:
    """Set all of `values` or, where PostgreSQL refuses one, none; and have the server read them.

    The way back is written first and keeps the oldest values: two runs and one undo lead to the start.
    """
    server = _identifier(connection)
    before = {**_set_by_alter_system(connection, values), **_kept(way_back, server)}
    WayBack(server, before).save(way_back)
    now = _set_by_alter_system(connection, values)
    try:
        _alter(connection, values)
    except psycopg.Error:
        _alter(connection, now)
        raise
    connection.execute("SELECT pg_reload_conf()")


def take_back(connection: psycopg.Connection, way_back: Path) -> Mapping[str, str | None]:
    """Set what was before the first `apply`, and forget it. Returns what was set; None: reset."""
    found = WayBack.load(way_back)
    if found.server != _identifier(connection):
        raise FailedError(
            "the settings were applied to another server",
            place=str(way_back),
            remedy="Connect to that one (--dsn-env).",
        )
    _alter(connection, found.before)
    connection.execute("SELECT pg_reload_conf()")
    way_back.unlink()
    return found.before


def _alter(connection: psycopg.Connection, values: Mapping[str, str | None]) -> None:
    for name, value in values.items():
        words = sql.SQL("RESET {}") if value is None else sql.SQL("SET {} = {}")
        parts = (sql.Identifier(name),) if value is None else (sql.Identifier(name), sql.Literal(value))
        connection.execute(sql.SQL("ALTER SYSTEM ") + words.format(*parts))


def _set_by_alter_system(connection: psycopg.Connection, names: Iterable[str]) -> dict[str, str | None]:
    rows = connection.execute(
        "SELECT name, setting FROM pg_file_settings"
        " WHERE sourcefile = current_setting('data_directory') || '/postgresql.auto.conf' AND name = ANY(%s)",
        [list(names)],
    ).fetchall()
    return {**dict.fromkeys(names), **dict(rows)}


def _kept(way_back: Path, server: str) -> Mapping[str, str | None]:
    """What an earlier run found before it, on this server."""
    try:
        found = WayBack.load(way_back)
    except MissingError:
        return {}
    return found.before if found.server == server else {}


def _identifier(connection: psycopg.Connection) -> str:
    row = connection.execute("SELECT system_identifier::text FROM pg_control_system()").fetchone()
    assert row is not None  # noqa: S101 - a function's row
    return str(row[0])
