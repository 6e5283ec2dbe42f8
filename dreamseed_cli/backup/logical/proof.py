"""Whether a restored database holds what the backup says it held."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from dreamseed_cli.backup.logical.digests import list_relations
from dreamseed_cli.backup.logical.server import Connection
from dreamseed_cli.backup.manifest import Table
from dreamseed_cli.core.counting import counted
from dreamseed_cli.core.errors import FailedError

_NAMED: Final = 10


class DigestsDiffer(FailedError):
    """The restored content is not the backup's."""

    kind = "digests_differ"


@dataclass(frozen=True, slots=True)
class Compared:
    """What was proven equal, and the materialised views that were filled anew with something else."""

    tables: int
    rows: int
    refreshed: tuple[str, ...]


def tables_text(tables: int, rows: int) -> str:
    """So many, for people: `9 tables (1 row)`."""
    return f"{counted(tables, 'table')} ({counted(rows, 'row')})"


def compare(connection: Connection, saved: Sequence[Table], found: Sequence[Table]) -> Compared:
    """Compare a database's tables with those of the backup; DigestsDiffer names what is wrong.

    A materialised view may differ: its content is in no dump, and one that was stale is up to date now.
    """
    views = {(view.schema, view.name) for view in list_relations(connection) if view.materialised}
    return compare_tables(saved, found, views)


def compare_tables(saved: Sequence[Table], found: Sequence[Table], views: set[tuple[str, str]]) -> Compared:
    """The pure part of compare(). views: schema and name of the materialised ones."""
    before = {(table.schema_name, table.name): table for table in saved}
    after = {(table.schema_name, table.name): table for table in found}
    differing = [key for key in sorted(before.keys() & after.keys()) if not _equal(before[key], after[key])]
    wrong = [
        *(f"{_name(key)} is missing" for key in sorted(before.keys() - after.keys())),
        *(f"{_name(key)} is not in the backup" for key in sorted(after.keys() - before.keys())),
        *(_difference(before[key], after[key]) for key in differing if key not in views),
    ]
    if wrong:
        more = f"; and {len(wrong) - _NAMED} more" if len(wrong) > _NAMED else ""
        raise DigestsDiffer(
            "; ".join(wrong[:_NAMED]) + more,
            place=saved[0].database if saved else "",
            remedy="Do not use this database. Restore an older backup, and report this.",
        )
    return Compared(
        tables=len(after),
        rows=sum(table.rows for table in found),
        refreshed=tuple(_name(key) for key in differing),
    )


def _equal(before: Table, after: Table) -> bool:
    return before.rows == after.rows and before.digest in {None, after.digest}


def _difference(before: Table, after: Table) -> str:
    name = _name((before.schema_name, before.name))
    if before.rows != after.rows:
        return f"{name} has {counted(after.rows, 'row')}, {before.rows:,} in the backup"
    return f"{name} has other content"


def _name(key: tuple[str, str]) -> str:
    return ".".join(key)
