"""What tables hold, as row counts and digests: taken at a backup's snapshot, and again after a restore.

Inside PostgreSQL every row becomes text, its columns ordered by name, with settings that fix how values are
written. Two hashes of 64 bits of that text are summed up over the table: PostgreSQL's own, which hash
partitions rely on, with two seeds (`hash64`), or in older backups the halves of its MD5, which take four
times as long (`md5`). A sum does not depend on the order of rows, and unlike an exclusive or it counts equal
rows; so a large table is summed up in pieces, side by side. SHA-256 over the columns, the count and both sums
is the digest. It finds damage and loss of any kind; it is no defence against one who writes rows to fool it.

Left out: what a dump leaves out (temporary and foreign tables, tables that an extension brings, materialised
views that were never filled), and sequences, which live outside of snapshots. Large objects count as one
table, `pg_catalog.pg_largeobject`, in pieces, since one may be larger than a value may be.
"""

from __future__ import annotations

import hashlib
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Final, LiteralString

import psycopg
from psycopg import sql

from dreamseed_cli.backup import ending
from dreamseed_cli.backup.logical.server import Connection, connect
from dreamseed_cli.backup.manifest import DigestMethod, Table
from dreamseed_cli.backup.pool import Pool
from dreamseed_cli.core.errors import FailedError

_PIECE_BLOCKS: Final = 8_192
"""Of a table: 64 MiB, a fraction of a second's work, so that no worker waits long for the last one."""
_RANGES_SINCE: Final = 140000
"""The version that finds the rows of a piece without reading the whole table."""
LARGE_OBJECTS: Final = ("pg_catalog", "pg_largeobject")

# relpages is an estimate; pg_relation_size() would wait for whoever holds a lock.
_LIST: Final = r"""
SELECT n.nspname, c.relname, c.relkind, c.relam = (SELECT oid FROM pg_am WHERE amname = 'heap'), ARRAY(
    SELECT ARRAY[a.attname::text, format_type(a.atttypid, a.atttypmod)] FROM pg_attribute a
    WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attname COLLATE "C")
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'm') AND c.relpersistence = ANY(%s) AND c.relispopulated
    AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
    AND NOT EXISTS (SELECT FROM pg_depend d
        WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
ORDER BY c.relpages DESC, 1, 2
"""
_SUMS: Final[dict[DigestMethod, LiteralString]] = {
    "md5": """
SELECT count(*), coalesce(sum(('x' || left(m, 16))::bit(64)::int8), 0)::text,
    coalesce(sum(('x' || right(m, 16))::bit(64)::int8), 0)::text
FROM (SELECT md5({row}) AS m FROM {source} OFFSET 0) AS rows
""",
    # By bytes, whatever a database's collation calls equal.
    "hash64": """
SELECT count(*), coalesce(sum(hashtextextended(t, 0)), 0)::text,
    coalesce(sum(hashtextextended(t, 1)), 0)::text
FROM (SELECT {row} COLLATE "C" AS t FROM {source} OFFSET 0) AS rows
""",
}
METHOD: Final[DigestMethod] = "hash64"
"""Of every new backup."""
# An object's size is where its last page ends; pages of zeros may be missing here and not there.
_LARGE: Final = """(
    SELECT o.oid, piece, lo_get(o.oid, piece * 1048576, 1048576) AS data FROM pg_largeobject_metadata o
    CROSS JOIN LATERAL (SELECT coalesce(max(pageno::int8 * 2048 + octet_length(data)), 0) AS size
        FROM pg_largeobject p WHERE p.loid = o.oid) s
    CROSS JOIN LATERAL generate_series(0, s.size / 1048576) AS piece) AS objects
"""
_BLOCKS: Final = "SELECT pg_relation_size({}) / current_setting('block_size')::int"
_LARGE_COUNT: Final = "SELECT count(*) FROM pg_largeobject_metadata"


class DigestFailed(FailedError):
    """A table could not be read through."""

    kind = "digest_failed"


@dataclass(frozen=True, slots=True)
class Relation:
    """A table or materialised view that holds rows itself. columns: names and types, ordered by name. heap:
    stored as most tables are, in numbered blocks.
    """

    schema: str
    name: str
    materialised: bool
    heap: bool
    columns: tuple[tuple[str, str], ...]

    @property
    def identifier(self) -> sql.Identifier:
        return sql.Identifier(self.schema, self.name)


def list_relations(connection: Connection, *, unlogged: bool = True) -> tuple[Relation, ...]:
    """All of a database that are digested, the largest first; unlogged: those that recovery empties, too."""
    kinds = ["p", "u"] if unlogged else ["p"]
    return tuple(
        Relation(schema, name, kind in {"m", b"m"}, heap, tuple((column, type_) for column, type_ in columns))
        for schema, name, kind, heap, columns in connection.execute(_LIST, (kinds,))
    )


@dataclass(frozen=True, slots=True)
class Piece:
    """Some of a table's rows: those in the blocks from `start` to before `end`; None: all that are left."""

    relation: Relation
    start: int = 0
    end: int | None = None

    @property
    def rows(self) -> sql.Composable:
        """What stands after FROM."""
        source = sql.SQL("ONLY {}").format(self.relation.identifier)
        bounds = [
            sql.SQL("ctid {} {}::tid").format(sql.SQL(operator), f"({block},0)")
            for operator, block in ((">=", self.start or None), ("<", self.end))
            if block is not None
        ]
        return sql.SQL(" WHERE ").join([source, sql.SQL(" AND ").join(bounds)]) if bounds else source


@dataclass(slots=True)
class Sums:
    """What the rows of a table add up to; sums of parts of it can be added."""

    rows: int = 0
    left: int = 0
    right: int = 0

    def add(self, other: Sums) -> None:
        self.rows += other.rows
        self.left += other.left
        self.right += other.right


class _Tally:
    """Adds up the pieces of all tables, from any thread."""

    def __init__(self, relations: Sequence[Relation], pieces: Sequence[Piece]) -> None:
        self.totals = {relation: Sums() for relation in relations}
        self._left = Counter(piece.relation for piece in pieces)
        self._done = 0
        self._lock = threading.Lock()

    def add(self, piece: Piece, sums: Sums) -> int:
        """How many tables are done with."""
        with self._lock:
            self.totals[piece.relation].add(sums)
            self._left[piece.relation] -= 1
            self._done += not self._left[piece.relation]
            return self._done


def digest_database(
    dsn: str,
    database: str,
    *,
    snapshot: str | None = None,
    unlogged: bool = True,
    jobs: int = 2,
    told: Callable[[int, int], None] = lambda _done, _all: None,
    method: DigestMethod = METHOD,
) -> tuple[Table, ...]:
    """Every table's count and digest, ordered by name; `jobs` tables at a time, all at one snapshot.

    snapshot: an exported one, whose transaction must stay open; None: the database is at rest. told: tables
    done and to do. Raises DigestFailed, ServerUnreachable.
    """
    with _reading(dsn, database, snapshot) as connection:
        relations = list_relations(connection, unlogged=unlogged)
        pieces = [piece for relation in relations for piece in divided(connection, relation)]
        done = [large_objects(connection, database, method)]
    tally = _Tally(relations, pieces)
    waiting: SimpleQueue[Piece] = SimpleQueue()
    for piece in pieces:
        waiting.put(piece)

    def work() -> None:
        with _reading(dsn, database, snapshot) as connection:
            for piece in _taken(waiting):
                ending.check()
                told(tally.add(piece, sum_up(connection, database, piece, method)), len(relations))

    with Pool(jobs, "digest") as pool:
        for future in [pool.submit(work) for _ in range(min(jobs, len(pieces)))]:
            ending.result(future)
    done += [_table(database, relation, sums) for relation, sums in tally.totals.items()]
    return tuple(sorted(done, key=lambda table: (table.schema_name, table.name)))


def divided(connection: Connection, relation: Relation, blocks: int = _PIECE_BLOCKS) -> Iterator[Piece]:
    """A table in pieces of so many blocks. It must be locked, or at rest: its rows have to stay in place.

    A materialised view, which may be refreshed at any time, is one piece.
    """
    size = 0
    if relation.heap and not relation.materialised and connection.info.server_version >= _RANGES_SINCE:
        literal = sql.Literal(relation.identifier.as_string(connection))
        row = connection.execute(sql.SQL(_BLOCKS).format(literal)).fetchone()
        size = row[0] or 0 if row else 0
    start = 0
    while start + blocks < size:
        yield Piece(relation, start, start + blocks)
        start += blocks
    yield Piece(relation, start)


def sum_up(connection: Connection, database: str, piece: Piece, method: DigestMethod = METHOD) -> Sums:
    """A piece's rows at the connection's snapshot. DigestFailed."""
    relation = piece.relation
    columns = sql.SQL(", ").join(sql.Identifier(name) for name, _ in relation.columns)
    row = sql.SQL("ROW({})::text").format(columns)
    query = sql.SQL(_SUMS[method]).format(row=row, source=piece.rows)
    return _sums(connection, query, f"{database}: {relation.schema}.{relation.name}")


def _table(database: str, relation: Relation, sums: Sums) -> Table:
    return Table(
        database=database,
        schema_name=relation.schema,
        name=relation.name,
        rows=sums.rows,
        digest=_digest([f"{name} {type_}" for name, type_ in relation.columns], sums),
    )


def large_objects(connection: Connection, database: str, method: DigestMethod = METHOD) -> Table:
    """All large objects of the database as if they were one table; rows: how many there are."""
    row = sql.SQL("ROW(oid, piece, data)::text")
    query = sql.SQL(_SUMS[method]).format(row=row, source=sql.SQL(_LARGE))
    pieces = _sums(connection, query, f"{database}: large objects")
    counted = connection.execute(_LARGE_COUNT).fetchone()
    return Table(
        database=database,
        schema_name=LARGE_OBJECTS[0],
        name=LARGE_OBJECTS[1],
        rows=counted[0] if counted else 0,
        digest=_digest([], pieces),
    )


def _sums(connection: Connection, query: sql.Composed, place: str) -> Sums:
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
    return Sums(counted[0], int(counted[1]), int(counted[2]))


def _digest(columns: Sequence[str], sums: Sums) -> str:
    parts = (list(columns), sums.rows, str(sums.left), str(sums.right))
    return hashlib.sha256(repr(parts).encode()).hexdigest()


@contextmanager
def _reading(dsn: str, database: str, snapshot: str | None) -> Iterator[Connection]:
    """A connection in a read-only transaction, at `snapshot` if one is given."""
    with connect(dsn, database) as connection:
        connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        if snapshot is not None:
            connection.execute(sql.SQL("SET TRANSACTION SNAPSHOT {}").format(snapshot))
        yield connection


def _taken(waiting: SimpleQueue[Piece]) -> Iterator[Piece]:
    while True:
        try:
            yield waiting.get_nowait()
        except Empty:
            return
