"""A connection to PostgreSQL for work off the request path: whatever hangs is cut after some seconds."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress

import psycopg
from psycopg import AsyncConnection, sql

from dreamseed_cli.core.errors import DreamseedError

CONNECT_TIMEOUT_S = 5
STATEMENT_TIMEOUT_S = 10.0


class PostgresAway(DreamseedError):
    """It does not answer, or not as it should: the same may go through later."""


class SchemaMissing(PostgresAway):
    """The tables are not there, or not in this program's version."""


class KeptConnection:
    """Connects when it is first asked for a session, and anew after one that PostgreSQL failed."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._connection: AsyncConnection | None = None

    def cut(self) -> None:
        """Make what is under way fail at once."""
        if self._connection is not None:
            cut(self._connection)

    async def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    @asynccontextmanager
    async def _session(self) -> AsyncIterator[AsyncConnection]:
        """The connection for some seconds' work. PostgresAway for what fails in PostgreSQL."""
        if self._connection is None:
            self._connection = await connect(self._dsn)
        try:
            with time_box(self._connection):
                yield self._connection
        except psycopg.Error as error:
            await self.close()
            raise away(error) from error


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
