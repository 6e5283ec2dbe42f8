"""The server's settings beside §E1's, as a table. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping

from dreamseed_cli.bench.result import Column, FactTable
from dreamseed_cli.database.settings import ServerSetting, Wanted

COLUMNS = (
    Column(key="setting", label="setting"),
    Column(key="document", label="document (§E1)"),
    Column(key="server", label="this server"),
    Column(key="differs", label="differs"),
    Column(key="change", label="to change it"),
)


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
