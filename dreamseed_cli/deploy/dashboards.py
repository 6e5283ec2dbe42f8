"""Grafana's dashboards, from the pages in dashboards.toml."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

_SOURCE = {"type": "prometheus", "uid": "dreamseed-prometheus"}
_WIDTH, _HEIGHT = 12, 8
_SCHEMA = 41


@dataclass(frozen=True, slots=True)
class Panel:
    """One plot. lines: expression and legend of each. unit: Grafana's name of it."""

    title: str
    unit: str
    lines: tuple[tuple[str, str], ...]
    about: str = ""


@dataclass(frozen=True, slots=True)
class Dashboard:
    """One page."""

    name: str
    title: str
    panels: tuple[Panel, ...]


def _load() -> tuple[Dashboard, ...]:
    text = files("dreamseed_cli.deploy").joinpath("dashboards.toml").read_text()
    return tuple(
        Dashboard(page["name"], page["title"], tuple(_read(one) for one in page["panel"]))
        for page in tomllib.loads(text)["page"]
    )


def _read(one: dict[str, Any]) -> Panel:
    lines = tuple((expression, legend) for expression, legend in one["lines"])
    return Panel(one["title"], one["unit"], lines, one.get("about", ""))


DASHBOARDS = _load()


def dashboard_json(dashboard: Dashboard, usd_per_kwh: str) -> dict[str, Any]:
    """Grafana's model of a page. usd_per_kwh: what its variable of that name begins with."""
    uses_price = any("$usd_per_kwh" in expression for expression, _ in _lines(dashboard.panels))
    return {
        "uid": f"dreamseed-{dashboard.name}",
        "title": dashboard.title,
        "tags": ["dreamseed"],
        "timezone": "browser",
        "schemaVersion": _SCHEMA,
        "editable": False,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "templating": {"list": [_price(usd_per_kwh)] if uses_price else []},
        "panels": [_panel(one, index) for index, one in enumerate(dashboard.panels)],
    }


def expressions() -> list[str]:
    """Every expression of every page, so that a test can look for its metrics."""
    return [expression for one in DASHBOARDS for expression, _ in _lines(one.panels)]


def _lines(panels: Sequence[Panel]) -> list[tuple[str, str]]:
    return [line for panel in panels for line in panel.lines]


def _price(value: str) -> dict[str, Any]:
    return {
        "name": "usd_per_kwh",
        "label": "USD a kWh",
        "type": "textbox",
        "query": value,
        "current": {"text": value, "value": value},
    }


def _panel(panel: Panel, index: int) -> dict[str, Any]:
    row, column = divmod(index, 2)
    return {
        "id": index + 1,
        "type": "timeseries",
        "title": panel.title,
        "description": panel.about,
        "datasource": _SOURCE,
        "gridPos": {"x": column * _WIDTH, "y": row * _HEIGHT, "w": _WIDTH, "h": _HEIGHT},
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "targets": [_line(number, *line) for number, line in enumerate(panel.lines)],
    }


def _line(number: int, expression: str, legend: str) -> dict[str, Any]:
    letter = chr(ord("A") + number)
    return {"refId": letter, "datasource": _SOURCE, "expr": expression, "legendFormat": legend}
