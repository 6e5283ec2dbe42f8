"""A database of the bench's own on a server that others may use, and what that server says of itself."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass

import psycopg
from psycopg import sql

from dreamseed_cli.core.errors import FailedError
from dreamseed_cli.database.connection import CONNECT_TIMEOUT_S, administration
from dreamseed_cli.database.settings import ServerSetting, read_settings

PREFIX = "dreamseed_bench_"
_NAME = "dreamseed bench"
_SPARE = 5
"""Connections left to the stack: its gateway must not be shut out while it is measured."""
_LOCK = "SELECT pg_try_advisory_lock(hashtextextended(%s, 0))"
_DURABLE = ("fsync", "synchronous_commit", "full_page_writes")


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """version: as the server says it. most: its max_connections; free: those the bench may take.

    memory_bytes: what the server believes the system's cache and its own hold (effective_cache_size).
    careless: settings that are off and without which a power cut loses what was committed.
    """

    version: str
    most: int
    free: int
    memory_bytes: int
    careless: tuple[str, ...]


@contextmanager
def scratch_database(dsn: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    """A fresh database's name, and the names of those that killed runs left and that are gone now.

    It is dropped at the end, whoever still uses it. Blocks. Raises MissingError if there is no server,
    FailedError if PostgreSQL refuses.
    """
    name = PREFIX + secrets.token_hex(6)
    with administration(dsn, _NAME) as connection:
        dropped = _drop_leftovers(connection)
        # Held as long as this run lives: that is how another one knows that it does.
        connection.execute(_LOCK, [name])
        with _refusals(connection):
            connection.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(name)))
        try:
            yield name, dropped
        finally:
            _drop_at_last(dsn, name)


def server_facts(dsn: str) -> ServerFacts:
    """Its limits and habits, as of now. Blocks. Raises as `scratch_database` does."""
    with administration(dsn, _NAME) as connection:
        row = connection.execute(
            "SELECT current_setting('server_version'), current_setting('max_connections')::int,"
            " current_setting('superuser_reserved_connections')::int"
            " + coalesce(current_setting('reserved_connections', true), '0')::int,"
            " (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'),"
            " pg_size_bytes(current_setting('effective_cache_size'))"
        ).fetchone()
        assert row is not None  # noqa: S101 - it has no condition
        version, most, reserved, used, memory = row
        careless = [
            f"{name} = off"
            for name in _DURABLE
            if connection.execute("SELECT current_setting(%s) = 'off'", [name]).fetchone() == (True,)
        ]
    return ServerFacts(version, most, max(0, most - reserved - used - _SPARE), memory, tuple(careless))


def server_settings(dsn: str, names: Sequence[str]) -> Mapping[str, ServerSetting]:
    """Those of `names` that the server has. Blocks."""
    with administration(dsn, _NAME) as connection:
        return read_settings(connection, names)


def _drop_leftovers(connection: psycopg.Connection) -> tuple[str, ...]:
    """Drop the databases of runs that are no more. One that is still in use is left for the next run."""
    found = connection.execute("SELECT datname FROM pg_database WHERE starts_with(datname, %s)", [PREFIX])
    dropped = []
    for (name,) in found.fetchall():
        if connection.execute(_LOCK, [name]).fetchone() != (True,):
            continue
        try:
            connection.execute(sql.SQL("DROP DATABASE IF EXISTS {}").format(sql.Identifier(name)))
            dropped.append(name)
        except psycopg.Error:
            continue  # in use, or another user's
        finally:
            connection.execute("SELECT pg_advisory_unlock(hashtextextended(%s, 0))", [name])
    return tuple(dropped)


def _drop_at_last(dsn: str, name: str) -> None:
    """By a connection of its own: the other one may have been lost. What fails here the next run repeats."""
    with (
        suppress(psycopg.Error),
        closing(psycopg.connect(dsn, autocommit=True, connect_timeout=CONNECT_TIMEOUT_S)) as last,
    ):
        last.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


@contextmanager
def _refusals(connection: psycopg.Connection) -> Iterator[None]:
    try:
        yield
    except psycopg.errors.InsufficientPrivilege as error:
        raise FailedError(
            "this user may not create the database to measure in",
            place="bench db",
            remedy=f'Let it, as an administrator: ALTER ROLE "{connection.info.user}" CREATEDB.',
        ) from error
    except psycopg.Error as error:
        raise FailedError(f"PostgreSQL refuses: {str(error).strip()}", place="bench db") from error
