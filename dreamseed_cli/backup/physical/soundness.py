"""Whether a restored server is sound inside: amcheck over every table and B-tree, where it is installed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import psycopg

from dreamseed_cli.backup.logical.server import Connection, connect, read_server, server_errors, value
from dreamseed_cli.core.counting import counted
from dreamseed_cli.core.errors import FailedError

NO_AMCHECK: Final = "this PostgreSQL is built without amcheck"

_OFFERED: Final = "SELECT count(*) FROM pg_available_extensions WHERE name = 'amcheck'"
_INSTALL: Final = "CREATE EXTENSION IF NOT EXISTS amcheck SCHEMA pg_catalog"
_HEAP: Final = """
SELECT c.oid::regclass::text, h.blkno, h.msg
FROM pg_class c, LATERAL verify_heapam(c.oid) AS h
WHERE c.relkind IN ('r', 'm', 't') AND c.relpersistence = 'p' LIMIT 1
"""
# heapallindexed: every row of the table is in the index, too.
_BTREES: Final = """
SELECT bt_index_check(c.oid, true) FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
JOIN pg_am a ON a.oid = c.relam
WHERE a.amname = 'btree' AND c.relpersistence = 'p' AND i.indisready AND i.indisvalid AND c.relkind = 'i'
"""
_TABLES: Final = "SELECT count(*) FROM pg_class WHERE relkind IN ('r', 'm')"
_INDEXES: Final = "SELECT count(*) FROM pg_class WHERE relkind = 'i'"


class Unsound(FailedError):
    """A table or an index contradicts itself."""

    kind = "unsound"


@dataclass(frozen=True, slots=True)
class Sound:
    """What was looked through, and is all right."""

    databases: int
    tables: int
    indexes: int

    def __str__(self) -> str:
        indexes, databases = counted(self.indexes, "index", "indexes"), counted(self.databases, "database")
        return f"{counted(self.tables, 'table')} and {indexes} of {databases} are sound"


@server_errors
def amcheck(dsn: str) -> Sound | None:
    """Every table and B-tree of every database; None where there is no amcheck. Unsound, with the first one.

    The server must take writes: the extension is installed and taken back where it is not there.
    """
    with connect(dsn) as connection:
        if not value(connection, _OFFERED):
            return None
        names = [database.name for database in read_server(connection).databases]
    tables = indexes = 0
    for name in names:
        with connect(dsn, name) as connection, connection.transaction(force_rollback=True):
            connection.execute(_INSTALL)
            broken = _first_damage(connection)
            if broken:
                raise Unsound(
                    f"amcheck: {broken}",
                    place=name,
                    remedy="An index alone can be rebuilt (REINDEX); else restore an older backup.",
                )
            tables += int(value(connection, _TABLES))
            indexes += int(value(connection, _INDEXES))
    return Sound(len(names), tables, indexes)


def _first_damage(connection: Connection) -> str:
    """In words; empty if there is none."""
    try:
        with connection.transaction():
            broken = connection.execute(_HEAP).fetchone()
            if broken is not None:
                return f"{broken[0]}, block {broken[1]}: {broken[2]}"
            connection.execute(_BTREES)
    except (psycopg.errors.IndexCorrupted, psycopg.errors.DataCorrupted) as error:
        return str(error).strip()
    return ""
