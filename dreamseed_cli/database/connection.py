"""One connection for a command, with PostgreSQL's failures as errors an operator can act on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager

import psycopg

from dreamseed_cli.core.errors import FailedError, MissingError
from dreamseed_cli.database.address import require_dsn

CONNECT_TIMEOUT_S = 5
_STATEMENT_TIMEOUT_MS = 30_000


def no_server(error: Exception) -> MissingError:
    """What to raise when no connection could be made."""
    return MissingError(
        f"PostgreSQL does not answer: {str(error).strip()}",
        place="database",
        remedy="Start it (dreamseed serve starts the embedded one), or mend the connection string.",
    )


@contextmanager
def administration(dsn: str, application_name: str) -> Iterator[psycopg.Connection]:
    """A connection that commits each statement at once. MissingError if there is no server."""
    try:
        connection = psycopg.connect(
            dsn, autocommit=True, connect_timeout=CONNECT_TIMEOUT_S, application_name=application_name
        )
    except psycopg.OperationalError as error:
        raise no_server(error) from error
    with closing(connection):
        yield connection


@contextmanager
def connected(dsn: str) -> Iterator[psycopg.Connection]:
    """A connection whose work is committed at the end of the block, or not done at all if it fails.

    Raises MissingError if there is no server or no schema, FailedError for what PostgreSQL refuses.
    """
    require_dsn(dsn, place="database")
    try:
        connection = psycopg.connect(dsn, connect_timeout=CONNECT_TIMEOUT_S, application_name="dreamseed")
    except psycopg.OperationalError as error:
        raise no_server(error) from error
    try:
        with connection:
            connection.execute(f"SET statement_timeout = {_STATEMENT_TIMEOUT_MS}")
            yield connection
    except (psycopg.errors.UndefinedTable, psycopg.errors.UndefinedColumn) as error:
        raise MissingError(
            "the database does not have this program's schema",
            place="database",
            remedy="Bring it there with: dreamseed db migrate.",
        ) from error
    except psycopg.Error as error:
        raise FailedError(f"PostgreSQL refuses: {str(error).strip()}", place="database") from error
