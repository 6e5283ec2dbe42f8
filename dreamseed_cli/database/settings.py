"""A server's settings, and §E1's, which are read from the file of estimates."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import psycopg

from dreamseed_cli.estimates.outcome import say
from dreamseed_cli.estimates.schema import Book, Estimate

_UNITS = {"b": 1, "kb": 1024, "mb": 1024**2, "gb": 1024**3, "tb": 1024**4}
"""PostgreSQL's: 1 GB is 1024 MB."""
_FIELD = re.compile(r"^(?P<name>.+?)(?:_(?P<unit>kb|mb|gb|tb))?$")
_SERVER_UNIT = re.compile(r"^(?P<times>\d*)(?P<unit>[A-Za-z]+)$")


@dataclass(frozen=True, slots=True)
class Wanted:
    """A setting as the document has it. unit: `GB`, `MB` or empty."""

    name: str
    value: float
    unit: str

    @property
    def said(self) -> str:
        return f"{say(self.value)} {self.unit}".strip()

    @property
    def plain(self) -> float:
        """The value in bytes, or as it is."""
        return self.value * _UNITS.get(self.unit.lower(), 1)


@dataclass(frozen=True, slots=True)
class ServerSetting:
    """A row of pg_settings, and what SHOW says. source: `configuration file`, `command line`, ...

    pending: another value is in the files and waits for a restart.
    waiting: that value as the files have it, empty where they name none any more; None where none waits, or
    where this role may not see it.
    """

    name: str
    setting: str
    unit: str | None
    context: str
    shown: str
    source: str = "default"
    pending: bool = False
    waiting: str | None = None

    @property
    def plain(self) -> float | None:
        """The value in bytes, or as it is; None for words."""
        try:
            value = float(self.setting)
        except ValueError:
            return None
        unit = _SERVER_UNIT.match(self.unit or "")
        size = _UNITS.get(unit["unit"].lower()) if unit else None
        return value if unit is None or size is None else value * size * int(unit["times"] or 1)

    @property
    def change(self) -> str:
        """What a new value needs before it holds for every session."""
        return {"postmaster": "restart", "internal": "another build"}.get(self.context, "reload")


def wanted_settings(book: Book) -> tuple[Wanted, ...]:
    """§E1's, from the rows `e1-...-settings`: what their quantity begins with, and their fields."""
    rows = (one for one in book if one.id.startswith("e1-") and one.id.endswith("-settings"))
    return tuple(wanted for row in rows for wanted in _of_row(row))


def _of_row(row: Estimate) -> list[Wanted]:
    headline = row.quantity.partition(";")[0].strip()
    unit = row.unit if row.unit.lower() in _UNITS else ""
    return [Wanted(headline, row.middle, unit), *(_field(name, value) for name, value in row.fields.items())]


def _field(name: str, value: float) -> Wanted:
    parts = _FIELD.match(name)
    assert parts is not None  # noqa: S101 - it takes every name
    return Wanted(parts["name"], value, (parts["unit"] or "").upper())


def read_settings(connection: psycopg.Connection, names: Sequence[str]) -> Mapping[str, ServerSetting]:
    """Those of `names` that the server has. Blocks."""
    rows = connection.execute(
        "SELECT name, setting, unit, context, current_setting(name), source,"
        " pending_restart FROM pg_settings WHERE name = ANY(%s)",
        [list(names)],
    ).fetchall()
    found = {row[0]: ServerSetting(*row) for row in rows}
    waiting = _waiting(connection, [name for name, one in found.items() if one.pending])
    return {name: replace(one, waiting=waiting.get(name)) for name, one in found.items()}


def _waiting(connection: psycopg.Connection, names: Sequence[str]) -> Mapping[str, str]:
    """What the files say of these; empty where this role may not read them (superusers may)."""
    if not names:
        return {}
    row = connection.execute(
        "SELECT has_table_privilege('pg_file_settings', 'SELECT')"
        " AND has_function_privilege('pg_show_all_file_settings()', 'EXECUTE')"
    ).fetchone()
    if row is None or not row[0]:
        return {}
    # The last line about a setting is the one that holds.
    lines = connection.execute(
        "SELECT name, setting FROM pg_file_settings WHERE name = ANY(%s) ORDER BY seqno", [list(names)]
    ).fetchall()
    return {**dict.fromkeys(names, ""), **{name: setting or "" for name, setting in lines}}
