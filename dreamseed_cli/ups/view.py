"""The UPS for people."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from dreamseed_cli.ups.draw import Runtime
from dreamseed_cli.ups.journal import Shutdown
from dreamseed_cli.ups.observation import Observation
from dreamseed_cli.ups.rehearse import Heard, Planned


def status_view(seen: Observation) -> Table:
    """What the UPS tells."""
    table = Table(box=None, show_header=False)
    for name, value in (
        ("status", seen.status),
        ("model", seen.model),
        ("charge", _with(seen.charge_percent, "%")),
        ("time left", _with(seen.runtime_s, "s")),
        ("load", _with(seen.load_percent, "%")),
        ("delivers", _with(seen.load_w, "W (computed)")),
    ):
        if value:
            table.add_row(name, value)
    return table


def timeline_view(planned: Sequence[Planned]) -> Table:
    """The shutdown's steps: when each begins at the latest, how long it may take, how long it took."""
    table = Table("step", "begins by", "may take", "took last (measured)", box=None, header_style="dim")
    for step in planned:
        took = _with(step.measured_s, "s") or "never measured"
        table.add_row(step.name, f"{step.begins_s:.0f} s", f"{step.box_s:g} s", took)
    return table


def heard_view(heard: Sequence[Heard]) -> Table:
    """Who answered."""
    table = Table("who", "answered", "after (measured)", "said", box=None, header_style="dim")
    for one in heard:
        table.add_row(one.name, "yes" if one.ok else "no", f"{one.took_ms:.0f} ms", Text(one.said))
    return table


def shutdown_view(shutdown: Shutdown) -> Table:
    """What a shutdown did."""
    table = Table("step", "ended", "took (measured)", "may take", "detail", box=None, header_style="dim")
    for step in shutdown.steps:
        table.add_row(
            step.name, step.state.value, f"{step.took_s:.2f} s", f"{step.box_s:g} s", Text(step.detail)
        )
    return table


def plan_view(runtimes: Sequence[Runtime]) -> Table:
    """How long the battery lasts at each load, against what is needed."""
    table = Table("load", "draws", "lasts (computed)", "needed", "enough", box=None, header_style="dim")
    for one in runtimes:
        lasts = f"{one.runtime_s:,.0f} s" if one.runtime_s else "not at all: over its rating"
        table.add_row(
            one.what, f"{one.draw_w:,.0f} W", lasts, f"{one.need_s:.0f} s", "yes" if one.enough else "no"
        )
    return table


def _with(value: float | None, unit: str) -> str:
    return "" if value is None else f"{value:,.1f} {unit}"
