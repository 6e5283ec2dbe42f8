"""How far a restore got with a database of the target, so that the next one can go on.

It is told by a setting of that database (`ALTER DATABASE ... SET`), which goes with it when it is dropped. It
is taken away once all databases are restored and proven.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Final

from psycopg import sql

from dreamseed_cli.backup.logical.server import Connection
from dreamseed_cli.backup.seal import sha256

_SETTING: Final = "dreamseed.restore"
_ALL: Final = (
    "SELECT datname, setting FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase,"
    " unnest(setconfig) setting WHERE setrole = 0"
)


class Got(StrEnum):
    """BEGUN: it is being filled, and never was open to anybody. FILLED: all is in it, and is to be proven."""

    BEGUN = "begun"
    FILLED = "filled"


def read_marks(connection: Connection, backup_id: str, databases: Mapping[str, str]) -> dict[str, Got]:
    """How far restores of this very backup got, by the name in the target. databases: from the backup's names
    to those in the target; one that bears the mark of something else bears none.
    """
    marks = {(name, setting) for name, setting in connection.execute(_ALL)}
    return {
        new: got
        for name, new in databases.items()
        for got in Got
        if (new, f"{_SETTING}={_mark(got, backup_id, name)}") in marks
    }


def write_mark(connection: Connection, got: Got, backup_id: str, name: str, new: str) -> None:
    """name, new: in the backup, and in the target."""
    statement = sql.SQL("ALTER DATABASE {} SET {} TO {}")
    mark = sql.Literal(_mark(got, backup_id, name))
    connection.execute(statement.format(sql.Identifier(new), sql.Identifier(*_SETTING.split(".")), mark))


def remove_marks(connection: Connection, databases: Iterable[str]) -> None:
    """Of all of them or of none. databases: names in the target."""
    setting = sql.Identifier(*_SETTING.split("."))
    with connection.transaction():
        for new in databases:
            connection.execute(sql.SQL("ALTER DATABASE {} RESET {}").format(sql.Identifier(new), setting))


def _mark(got: Got, backup_id: str, name: str) -> str:
    return f"{got} {backup_id} {sha256(name.encode())[:16]}"
