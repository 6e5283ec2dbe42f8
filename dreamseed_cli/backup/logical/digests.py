"""What tables hold, as row counts and digests: taken at a backup's snapshot, and again after a restore.

Inside PostgreSQL every row becomes text, its columns ordered by name, with settings that fix how values are
written; the two halves of that text's MD5 are summed up over the table. A sum does not depend on the order
of rows, and unlike an exclusive or it counts equal rows. SHA-256 over the columns, the count and both sums is
the digest. It finds damage and loss of any kind; it is no defence against one who writes rows to fool it.

Left out: what a dump leaves out (temporary and foreign tables, tables that an extension brings, materialised
views that were never filled), and sequences, which live outside of snapshots. Large objects count as one
table, `pg_catalog.pg_largeobject`, in pieces, since one may be larger than a value may be.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Final

import psycopg
from psycopg import sql

from dreamseed_cli.backup.logical.server import Connection, connect
from dreamseed_cli.backup.manifest import Table
from dreamseed_cli.core.errors import FailedError

_CANCEL_S: Final = 5.0
LARGE_OBJECTS: Final = ("pg_catalog", "pg_largeobject")

# relpages is an estimate; pg_relation_size() would wait for whoever holds a lock.
_LIST: Final = r"""
SELECT n.nspname, c.relname, c.relkind, ARRAY(
    SELECT ARRAY[a.attname::text, format_type(a.atttypid, a.atttypmod)] FROM pg_attribute a
    WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attname COLLATE "C")
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'm') AND c.relpersistence <> 't' AND c.relispopulated
    AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
    AND NOT EXISTS (SELECT FROM pg_depend d
        WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
ORDER BY c.relpages DESC, 1, 2
"""
_SUMS: Final = """
SELECT count(*), coalesce(sum(('x' || left(m, 16))::bit(64)::int8), 0)::text,
    coalesce(sum(('x' || right(m, 16))::bit(64)::int8), 0)::text
FROM (SELECT md5({row}) AS m FROM {source} OFFSET 0) AS rows
"""
# An object's size is where its last page ends; pages of zeros may be missing here and not there.
_LARGE: Final = """(
    SELECT o.oid, piece, lo_get(o.oid, piece * 1048576, 1048576) AS data FROM pg_largeobject_metadata o
    CROSS JOIN LATERAL (SELECT coalesce(max(pageno::int8 * 2048 + octet_length(data)), 0) AS size
        FROM pg_largeobject p WHERE p.loid = o.oid) s
    CROSS JOIN LATERAL generate_series(0, s.size / 1048576) AS piece) AS objects
"""
_LARGE_COUNT: Final = "SELECT count(*) FROM pg_largeobject_metadata"


class DigestFailed(FailedError):
    """A table could not be read through."""

    kind = "digest_failed"


@dataclass(frozen=True, slots=True)
class Relation:
    """A table or materialised view that holds rows itself. columns: names and types, ordered by name."""

    schema: str
    name: str
    materialised: bool
    columns: tuple[tuple[str, str], ...]

    @property
    def identifier(self) -> sql.Identifier:
        return sql.Identifier(self.schema, self.name)


def list_relations(connection: Connection) -> tuple[Relation, ...]:
    """All of a database that are digested, the largest first."""
    return tuple(
        Relation(schema, name, kind in {"m", b"m"}, tuple((column, type_) for column, type_ in columns))
        for schema, name, kind, columns in connection.execute(_LIST)
    )


class Stopping:
    """Ends digests that are under way in other threads, when nobody wants them any more."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._connections: set[Connection] = set()
        self.stopped = False

    @contextmanager
    def watching(self, connection: Connection) -> Iterator[None]:
        with self._lock:
            self._connections.add(connection)
        try:
            yield
        finally:
            with self._lock:
                self._connections.discard(connection)

    def stop(self) -> None:
        """Cancel what their connections do; nothing new begins."""
        with self._lock:
            self.stopped = True
            for connection in self._connections:
                with suppress(psycopg.Error):
                    connection.cancel_safe(timeout=_CANCEL_S)


def digest_database(
    dsn: str,
    database: str,
    *,
    snapshot: str | None = None,
    jobs: int = 2,
    stopping: Stopping | None = None,
    told: Callable[[int, int], None] = lambda _done, _all: None,
) -> tuple[Table, ...]:
    """Every table's count and digest, ordered by name; `jobs` tables at a time, all at one snapshot.

    snapshot: an exported one, whose transaction must stay open; None: the database is at rest. stopping: what
    ends it early, with a DigestFailed. told: tables done and to do. Raises DigestFailed, ServerUnreachable.
    """
    stopping = stopping or Stopping()
    with _reading(dsn, database, snapshot) as connection, stopping.watching(connection):
        relations = list_relations(connection)
        done = [large_objects(connection, database)]
    waiting: SimpleQueue[Relation] = SimpleQueue()
    for relation in relations:
        waiting.put(relation)

    def work() -> None:
        with _reading(dsn, database, snapshot) as connection, stopping.watching(connection):
            for relation in _taken(waiting):
                if stopping.stopped:
                    raise DigestFailed("stopped, since the dump failed", place=database)
                done.append(digest_relation(connection, database, relation))
                told(len(done) - 1, len(relations))

    with ThreadPoolExecutor(jobs, thread_name_prefix="digest") as pool:
        for future in [pool.submit(work) for _ in range(min(jobs, len(relations)))]:
            future.result()
    return tuple(sorted(done, key=lambda table: (table.schema_name, table.name)))


def digest_relation(connection: Connection, database: str, relation: Relation) -> Table:
    """One table's count and digest at the connection's snapshot."""
    columns = sql.SQL(", ").join(sql.Identifier(name) for name, _ in relation.columns)
    row = sql.SQL("ROW({})::text").format(columns)
    source = sql.SQL("ONLY {}").format(relation.identifier)
    rows, sums = _sums(connection, row, source, f"{database}: {relation.schema}.{relation.name}")
    return Table(
        database=database,
        schema_name=relation.schema,
        name=relation.name,
        rows=rows,
        digest=_digest([f"{name} {type_}" for name, type_ in relation.columns], rows, sums),
    )


def large_objects(connection: Connection, database: str) -> Table:
    """All large objects of the database as if they were one table; rows: how many there are."""
    row = sql.SQL("ROW(oid, piece, data)::text")
    pieces, sums = _sums(connection, row, sql.SQL(_LARGE), f"{database}: large objects")
    counted = connection.execute(_LARGE_COUNT).fetchone()
    return Table(
        database=database,
        schema_name=LARGE_OBJECTS[0],
        name=LARGE_OBJECTS[1],
        rows=counted[0] if counted else 0,
        digest=_digest([], pieces, sums),
    )


def _sums(
    connection: Connection, row: sql.Composable, source: sql.Composable, place: str
) -> tuple[int, tuple[str, str]]:
    query = sql.SQL(_SUMS).format(row=row, source=source)
    try:
        counted = connection.execute(query).fetchone()
    except psycopg.Error as error:
        raise DigestFailed(
            str(error).strip(),
            place=place,
            remedy="A table that cannot be read cannot be saved: mend it first.",
        ) from error
    if counted is None:
        raise DigestFailed("the server gave no sums", place=place)
    return counted[0], (counted[1], counted[2])


def _digest(columns: Sequence[str], rows: int, sums: tuple[str, str]) -> str:
    return hashlib.sha256(repr((list(columns), rows, *sums)).encode()).hexdigest()


@contextmanager
def _reading(dsn: str, database: str, snapshot: str | None) -> Iterator[Connection]:
    """A connection in a read-only transaction, at `snapshot` if one is given."""
    with connect(dsn, database) as connection:
        connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        if snapshot is not None:
            connection.execute(sql.SQL("SET TRANSACTION SNAPSHOT {}").format(snapshot))
        yield connection


def _taken(waiting: SimpleQueue[Relation]) -> Iterator[Relation]:
    while True:
        try:
            yield waiting.get_nowait()
        except Empty:
            return
