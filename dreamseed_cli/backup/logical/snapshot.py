"""One moment of a database that dump and digests share: an exported snapshot, its tables locked."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import psycopg
from psycopg import sql

from dreamseed_cli.backup.logical.digests import Relation, list_relations
from dreamseed_cli.backup.logical.server import Connection, connect, value
from dreamseed_cli.core.errors import FailedError

_TRIES: Final = 5
_LOCK_WAIT: Final = "60s"


class DatabaseBusy(FailedError):
    """Tables are locked, or made and dropped, all the time: no quiet moment was found."""

    kind = "database_busy"


@contextmanager
def exported_snapshot(dsn: str, database: str) -> Iterator[str]:
    """The snapshot's name, valid while the context is open. Raises DatabaseBusy, ServerUnreachable.

    All tables are locked (ACCESS SHARE) before the snapshot is taken: one that is truncated, rewritten or
    dropped between the two would look empty or be gone, and both dump and digests would believe it.
    """
    with connect(dsn, database) as connection:
        connection.execute("SELECT set_config('lock_timeout', %s, false)", (_LOCK_WAIT,))
        for _ in range(_TRIES):
            if begin_locked(connection, database):
                yield str(value(connection, "SELECT pg_export_snapshot()"))
                return
        raise DatabaseBusy(
            "tables appear faster than they can be locked", place=database, remedy="Try later."
        )


def begin_locked(connection: Connection, database: str) -> bool:
    """Whether a transaction is open in whose snapshot every table is locked. DatabaseBusy."""
    tables = _tables(connection)
    connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
    try:
        for table in sorted(tables, key=lambda relation: (relation.schema, relation.name)):
            connection.execute(sql.SQL("LOCK TABLE ONLY {} IN ACCESS SHARE MODE").format(table.identifier))
    except psycopg.errors.UndefinedTable:
        connection.execute("ROLLBACK")
        return False
    except psycopg.errors.LockNotAvailable as error:
        raise DatabaseBusy(
            "a table is locked all the time", place=database, remedy="Look into pg_locks."
        ) from error
    if _tables(connection) - tables:
        connection.execute("ROLLBACK")
        return False
    return True


def _tables(connection: Connection) -> set[Relation]:
    return {relation for relation in list_relations(connection) if not relation.materialised}
