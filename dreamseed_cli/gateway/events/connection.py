"""A connection to PostgreSQL for work off the request path: whatever hangs is cut after some seconds."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psycopg
from psycopg import AsyncConnection, sql

from dreamseed_cli.core.errors import DreamseedError

CONNECT_TIMEOUT_S = 5
STATEMENT_TIMEOUT_S = 10.0


class PostgresAway(DreamseedError):
    """It does not answer, or not as it should: the same may go through later."""


class SchemaMissing(PostgresAway):
    """The tables are not there, or not in this program's version."""


async def connect(dsn: str) -> AsyncConnection:
    """An autocommit connection. Raises PostgresAway."""
    try:
        async with asyncio.timeout(2 * CONNECT_TIMEOUT_S):
            connection = await AsyncConnection.connect(
                dsn,
                autocommit=True,
                connect_timeout=CONNECT_TIMEOUT_S,
                application_name="dreamseed events",
                # A server that vanished without a word is noticed while nothing is asked, too.
                keepalives_idle=10,
                keepalives_interval=5,
                keepalives_count=3,
            )
            with time_box(connection, CONNECT_TIMEOUT_S):
                await connection.execute(
                    sql.SQL("SET statement_timeout = {}").format(int(STATEMENT_TIMEOUT_S * 1000))
                )
    except (psycopg.Error, TimeoutError, OSError) as error:
        raise away(error) from error
    return connection


@contextmanager
def time_box(connection: AsyncConnection, seconds: float = STATEMENT_TIMEOUT_S) -> Iterator[None]:
    """Cut the connection if the block takes longer: the statement under way then fails at once.

    Cancelling it instead would ask the very server that does not answer, and wait for that.
    """
    timer = asyncio.get_running_loop().call_later(seconds, cut, connection)
    try:
        yield
    finally:
        timer.cancel()


def cut(connection: AsyncConnection) -> None:
    """Shut the connection's socket down; what is under way on it fails."""
    with (
        suppress(psycopg.OperationalError, OSError),
        socket.socket(fileno=os.dup(connection.fileno())) as door,
    ):
        door.shutdown(socket.SHUT_RDWR)


def away(error: BaseException) -> PostgresAway:
    """What to tell about a failure that is PostgreSQL's own."""
    cause = str(error).strip().partition("\n")[0] or type(error).__name__
    if isinstance(error, psycopg.ProgrammingError) and error.sqlstate is None:
        # libpq quotes the part it does not understand, which may be the password.
        cause = "the connection string is not valid"
    if isinstance(error, (psycopg.errors.UndefinedTable, psycopg.errors.UndefinedColumn)):
        return SchemaMissing(cause, place="database", remedy="Bring the schema up: dreamseed db migrate.")
    return PostgresAway(
        cause, place="database", remedy="Nothing is lost; it goes on when PostgreSQL is back."
    )
