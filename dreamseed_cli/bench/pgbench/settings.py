"""The server's settings beside §E1's, which are read from the file of estimates. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

from dreamseed_cli.bench.result import Column, FactTable
from dreamseed_cli.estimates.outcome import say
from dreamseed_cli.estimates.schema import Book, Estimate

_UNITS = {"b": 1, "kb": 1024, "mb": 1024**2, "gb": 1024**3, "tb": 1024**4}
"""PostgreSQL's: 1 GB is 1024 MB."""
_FIELD = re.compile(r"^(?P<name>.+?)(?:_(?P<unit>kb|mb|gb|tb))?$")
_SERVER_UNIT = re.compile(r"^(?P<times>\d*)(?P<unit>[A-Za-z]+)$")

COLUMNS = (
    Column(key="setting", label="setting"),
    Column(key="document", label="document (§E1)"),
    Column(key="server", label="this server"),
    Column(key="differs", label="differs"),
    Column(key="change", label="to change it"),
)


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
    """A row of pg_settings, and what SHOW says."""

    name: str
    setting: str
    unit: str | None
    context: str
    shown: str

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


def settings_table(wanted: tuple[Wanted, ...], server: Mapping[str, ServerSetting]) -> FactTable:
    """Every setting of the document beside the server's own."""
    rows = tuple(_row(one, server.get(one.name)) for one in wanted)
    differing = sum(bool(row["differs"]) for row in rows)
    title = f"PostgreSQL's settings: {differing} of {len(rows)} differ from the document's"
    return FactTable(title=title, columns=COLUMNS, rows=rows)


def _row(wanted: Wanted, found: ServerSetting | None) -> dict[str, float | int | str | bool | None]:
    if found is None:
        return {
            "setting": wanted.name,
            "document": wanted.said,
            "server": "it has no such setting",
            "differs": True,
            "change": None,
        }
    differs = found.plain is None or not math.isclose(found.plain, wanted.plain, rel_tol=1e-6)
    return {
        "setting": wanted.name,
        "document": wanted.said,
        "server": found.shown,
        "differs": differs,
        "change": found.change if differs else None,
    }
