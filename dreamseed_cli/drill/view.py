"""A drill and the history of drills for people: tables for the terminal. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from dreamseed_cli.core.errors import DreamseedError
from dreamseed_cli.core.render import wrapped
from dreamseed_cli.drill.history import Trend
from dreamseed_cli.drill.record import DrillRecord
from dreamseed_cli.drill.timeline import Check, Outcome
from dreamseed_cli.drill.words import duration, moment

_STYLES = {Outcome.PASSED: "bold green", Outcome.MISSED: "bold yellow", Outcome.FAILED: "bold red"}
_MARKS = {True: ("yes", "green"), False: ("NO", "bold red"), None: ("not done", "dim")}


def record_data(record: DrillRecord) -> dict[str, Any]:
    """As JSON has it; times are measured, `extrapolated` is computed."""
    data = record.model_dump(mode="json")
    data["provenance"] = {"rpo_s": "measured", "rto_s": "measured", "extrapolated": "computed"}
    return data


def record_view(record: DrillRecord) -> list[RenderableType]:
    """One drill whole."""
    head = Text.assemble(
        (record.outcome.upper(), _STYLES[record.outcome]), f"  {record.scenario}, {moment(record.began)} UTC"
    )
    parts: list[RenderableType] = [head, _figures(record)]
    parts += [Text(f"  {miss}", style="red") for miss in record.misses]
    parts += [_timeline(record), _checks(record.checks)]
    parts += [wrapped(Text(note, style="dim")) for note in record.notes]
    return [*parts, Text(f"Kept and signed: {record.id}")]


def history_view(
    records: Sequence[DrillRecord], found: Sequence[Trend], errors: Sequence[DreamseedError]
) -> list[RenderableType]:
    """Every drill, oldest first, and what they say together."""
    parts: list[RenderableType] = [Text(str(error), style="red") for error in errors]
    if not records:
        return [*parts, Text("No drill was ever made here: dreamseed drill lost-host.")]
    table = Table(box=None, pad_edge=False, header_style="dim", caption_justify="left")
    table.caption = "RPO and RTO: measured"
    for name in ("when (UTC)", "scenario", "outcome", "RPO", "RTO"):
        table.add_column(name, no_wrap=True)
    for record in records:
        style = _STYLES[record.outcome]
        table.add_row(
            moment(record.began),
            record.scenario,
            Text(record.outcome, style=style),
            duration(record.rpo_s),
            duration(record.rto_s),
        )
    return [*parts, table, *(Text(trend_text(trend)) for trend in found)]


def trend_text(trend: Trend) -> str:
    """One sentence."""
    said = f"{trend.scenario}: {trend.passed} of {trend.drills} passed"
    if trend.drills == 1:
        return f"{said}."
    before = f"RPO {duration(trend.rpo_before_s)}, RTO {duration(trend.rto_before_s)}"
    now = f"RPO {duration(trend.rpo_s)}, RTO {duration(trend.rto_s)}"
    return f"{said}; newest {now}; median before {before}."


def _figures(record: DrillRecord) -> Table:
    table = Table.grid(padding=(0, 2))
    targets = record.targets
    rows = [
        ("RPO (measured)", duration(record.rpo_s), f"target {duration(targets.rpo_s)}"),
        ("RTO (measured)", duration(record.rto_s), f"target {duration(targets.rto_s)}"),
    ]
    if record.recovered is not None:
        proof = f"{record.recovered.proof}, {moment(record.recovered.at)}"
        rows.append(("recovered up to", proof, ""))
    if record.extrapolated is not None:
        far = record.extrapolated
        rows.append(("RTO (computed)", duration(far.rto_s), f"{far.link_mbps:g} Mbit/s, the real size"))
    for name, text, note in rows:
        table.add_row(Text(name, style="dim"), text, Text(note, style="dim"))
    return table


def _timeline(record: DrillRecord) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("s", justify="right", no_wrap=True)
    table.add_column("what", no_wrap=True)
    table.add_column("", overflow="fold")
    for event in record.events:
        table.add_row(f"{event.at_s:.1f}", event.step, Text(event.detail))
    return table


def _checks(checks: Sequence[Check]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("check", "passed", "what was found"):
        table.add_column(name, overflow="fold")
    for check in checks:
        word, style = _MARKS[check.passed]
        table.add_row(check.name, Text(word, style=style), Text(check.detail))
    return table
