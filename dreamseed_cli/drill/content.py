"""What a whole server holds: schema, rows and digests of every table; and what differs in another."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from dreamseed_cli.backup.logical.digests import LARGE_OBJECTS, digest_database
from dreamseed_cli.backup.logical.server import Connection, connect, read_server, value
from dreamseed_cli.backup.manifest import Table
from dreamseed_cli.backup.wal_names import parse_lsn
from dreamseed_cli.core.counting import counted
from dreamseed_cli.drill.heartbeats import SCHEMA
from dreamseed_cli.drill.timeline import Check

ROW_COUNTS: Final = "row counts"
DIGESTS: Final = "content digests"
NO_TABLE: Final = "there is no table to compare"

_NAMED: Final = 5

# Everything by which a restored database could differ in shape, one line each; ours is left out.
_SCHEMA: Final = r"""
WITH ours AS (
    SELECT oid, nspname FROM pg_namespace
    WHERE nspname !~ '^pg_' AND nspname NOT IN ('information_schema', 'dreamseed_drill')
)
SELECT format('column %s.%s.%s %s%s default %s', nspname, relname, attname,
        format_type(atttypid, atttypmod), CASE WHEN attnotnull THEN ' not null' ELSE '' END,
        coalesce(pg_get_expr(adbin, adrelid), 'none'))
    FROM ours JOIN pg_class c ON relnamespace = ours.oid AND relkind IN ('r', 'p', 'v', 'm', 'f', 'c')
    JOIN pg_attribute a ON attrelid = c.oid AND attnum > 0 AND NOT attisdropped
    LEFT JOIN pg_attrdef d ON adrelid = c.oid AND adnum = attnum
UNION ALL SELECT format('%s %s.%s owner %s rights %s', relkind, nspname, relname, relowner::regrole, relacl)
    FROM ours JOIN pg_class ON relnamespace = ours.oid AND relkind IN ('r', 'p', 'v', 'm', 'S', 'f')
UNION ALL SELECT format('view %s.%s %s', nspname, relname, pg_get_viewdef(c.oid))
    FROM ours JOIN pg_class c ON relnamespace = ours.oid AND relkind IN ('v', 'm')
UNION ALL SELECT 'index ' || pg_get_indexdef(indexrelid)
    FROM pg_index JOIN pg_class c ON c.oid = indexrelid JOIN ours ON relnamespace = ours.oid
UNION ALL SELECT format('constraint %s on %s %s', conname, conrelid::regclass, pg_get_constraintdef(k.oid))
    FROM pg_constraint k JOIN ours ON connamespace = ours.oid
UNION ALL SELECT 'trigger ' || pg_get_triggerdef(t.oid)
    FROM pg_trigger t JOIN pg_class c ON c.oid = tgrelid JOIN ours ON relnamespace = ours.oid
    WHERE NOT tgisinternal
UNION ALL SELECT 'function ' || pg_get_functiondef(p.oid)
    FROM pg_proc p JOIN ours ON pronamespace = ours.oid WHERE prokind IN ('f', 'p')
UNION ALL SELECT format('extension %s %s', extname, extversion) FROM pg_extension
UNION ALL SELECT format('label %s of %s', enumlabel, enumtypid::regtype) FROM pg_enum
ORDER BY 1
"""

Key = tuple[str, str, str]
"""Database, schema and table."""


@dataclass(frozen=True, slots=True)
class Content:
    """lsn: all of it was written before that. schema: lines by database."""

    lsn: int
    schema: Mapping[str, tuple[str, ...]]
    tables: Mapping[Key, Table]

    @property
    def rows(self) -> int:
        return sum(table.rows for table in self.tables.values())

    @property
    def size(self) -> str:
        """For people."""
        return f"{counted(len(self.tables), 'table')}, {counted(self.rows, 'row')}"


def schema_lines(connection: Connection) -> tuple[str, ...]:
    """The shape of one database."""
    return tuple(line for (line,) in connection.execute(_SCHEMA))


def read_schema(dsn: str) -> dict[str, tuple[str, ...]]:
    """The shape of every database of the server. Raises ServerUnreachable."""
    with connect(dsn) as connection:
        names = [database.name for database in read_server(connection).databases]
    found = {}
    for name in names:
        with connect(dsn, name) as connection:
            found[name] = schema_lines(connection)
    return found


def read_content(dsn: str) -> Content:
    """Everything a server that takes writes holds, but the drills' own rows. DigestFailed.

    Every database has the table of its large objects; where it holds none, that is no content to compare.
    """
    schema = read_schema(dsn)
    tables = {
        (name, table.schema_name, table.name): table
        for name in schema
        for table in digest_database(dsn, name)
        if table.schema_name != SCHEMA and (table.rows or (table.schema_name, table.name) != LARGE_OBJECTS)
    }
    with connect(dsn) as connection:
        lsn = parse_lsn(str(value(connection, "SELECT pg_current_wal_insert_lsn()")))
    return Content(lsn, schema, tables)


@dataclass(frozen=True, slots=True)
class Compared:
    """Tables by how they compare. moving: those that differ and cannot be compared, since the source changed
    meanwhile or what is here is older than it.
    """

    equal: tuple[Key, ...]
    wrong_count: tuple[Key, ...]
    wrong_content: tuple[Key, ...]
    moving: tuple[Key, ...]


def compare_tables(
    before: Content, found: Content, again: Callable[[], Content], *, complete: bool
) -> Compared:
    """Sort every table. again: the source's content now, asked for only if something differs.

    complete: `found` has all that was in `before`; without it a difference is what was lost, not damage.
    """
    differing = [
        key
        for key in sorted(before.tables.keys() | found.tables.keys())
        if not _equal(before.tables.get(key), found.tables.get(key))
    ]
    equal = tuple(sorted(before.tables.keys() - set(differing)))
    if not differing:
        return Compared(equal, (), (), ())
    now = again().tables
    moving = {key for key in differing if not complete or not _equal(before.tables.get(key), now.get(key))}
    wrong = [key for key in differing if key not in moving]
    counts = {key for key in wrong if _rows(before, key) != _rows(found, key)}
    return Compared(
        equal, tuple(sorted(counts)), tuple(key for key in wrong if key not in counts), tuple(sorted(moving))
    )


def checks_of(
    before: Content, found: Content, again: Callable[[], Content], *, complete: bool
) -> list[Check]:
    """Schema, row counts and digests as checks, for people. Where a difference may be what was lost, no table
    with rows stood still, or there is no table, counts and digests are not checked: passed is None.
    """
    compared = compare_tables(before, found, again, complete=complete)
    tables, still = len(before.tables), len(compared.equal)
    rows = sum(before.tables[key].rows for key in compared.equal)
    told = still > 0 if not compared.moving else complete and rows > 0
    left_out = _left_out(compared.moving, complete=complete)

    def check(name: str, what: str, wrong: tuple[Key, ...], equal: str) -> Check:
        if wrong:
            return Check(name, False, f"other {what} in {_names(wrong)}")
        any_table = before.tables or found.tables
        return Check(name, True if told else None, f"{equal}{left_out}" if any_table else NO_TABLE)

    return [
        _schema_check(before, found, complete=complete),
        check(
            ROW_COUNTS,
            "counts",
            compared.wrong_count,
            f"{still} of {counted(tables, 'table')}, {counted(rows, 'row')}, equal",
        ),
        check(DIGESTS, "content", compared.wrong_content, f"{still} of {counted(tables, 'table')} equal"),
    ]


def _left_out(moving: tuple[Key, ...], *, complete: bool) -> str:
    if not moving:
        return ""
    if complete:
        return f"; {len(moving)} changed meanwhile: {_names(moving)}"
    return f"; {len(moving)} differ, as what is older than the noted content may: {_names(moving)}"


def schema_difference(
    before: Mapping[str, tuple[str, ...]], found: Mapping[str, tuple[str, ...]]
) -> str | None:
    """What differs between two servers' schemas (lines by database), for people; None: nothing."""
    lost = [line for name, lines in before.items() for line in set(lines) - set(found.get(name, ()))]
    more = [line for name, lines in found.items() for line in set(lines) - set(before.get(name, ()))]
    if not lost and not more:
        return None
    first = "; ".join(line[:120] for line in [*sorted(lost), *sorted(more)][:_NAMED])
    return f"{counted(len(lost), 'line')} missing, {len(more)} new: {first}"


def _schema_check(before: Content, found: Content, *, complete: bool) -> Check:
    difference = schema_difference(before.schema, found.schema)
    if difference is not None:
        return Check("schema", False if complete else None, difference)
    lines = sum(len(one) for one in before.schema.values())
    return Check(
        "schema", True, f"{counted(lines, 'definition')} in {counted(len(before.schema), 'database')} equal"
    )


def _equal(one: Table | None, other: Table | None) -> bool:
    return one is not None and other is not None and (one.rows, one.digest) == (other.rows, other.digest)


def _rows(content: Content, key: Key) -> int | None:
    table = content.tables.get(key)
    return table.rows if table else None


def _names(keys: tuple[Key, ...]) -> str:
    more = f" and {len(keys) - _NAMED} more" if len(keys) > _NAMED else ""
    return ", ".join(".".join(key) for key in keys[:_NAMED]) + more
