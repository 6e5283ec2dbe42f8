"""Incidents for people: a table of many, or one with its timeline. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from dreamseed_cli.incidents.record import Incident, bounded

_STYLES = {"open": "yellow", "recovered": "green", "failed": "bold red", "abandoned": "dim"}
_NOTHING = "-"
_SHORT = 60
"""Characters of an action in the table; the whole is in the timeline."""


def incidents_view(incidents: Sequence[Incident]) -> RenderableType:
    """A table, newest last; a sentence if there are none."""
    if not incidents:
        return Text("No incident on record.")
    mixed = len({incident.simulated for incident in incidents}) > 1
    table = Table(box=None, pad_edge=False, header_style="dim", caption_justify="left")
    table.caption = "times: measured, unless marked" if mixed else f"times: {incidents[0].provenance.value}"
    table.add_column("when (UTC)\nid", no_wrap=True)
    table.add_column("what\noutcome")
    table.add_column("cause\naction")
    table.add_column("to detect, recover\nrequests")
    for incident in incidents:
        table.add_row(*_row(incident, marked=mixed and incident.simulated))
    return table


def incident_view(incident: Incident) -> list[RenderableType]:
    """One incident whole."""
    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="dim", no_wrap=True)
    facts.add_column(overflow="fold")
    for name, value in (
        ("what", _what(incident)),
        ("cause", incident.cause),
        ("outcome", incident.outcome),
        ("requests", requests_text(incident)),
        ("time to detect", _with_provenance(incident, incident.detect_s)),
        ("time to recover", _with_provenance(incident, incident.recover_s)),
    ):
        facts.add_row(name, Text(value))
    title = Text.assemble((f"Incident {incident.id}", "bold"), (_mark(incident.simulated), "magenta"))
    parts: list[RenderableType] = [title, facts, _timeline(incident)]
    if incident.detail:
        parts.append(Text(f"\n{incident.detail}", style="dim"))
    return parts


def moment(epoch_s: float) -> str:
    """A time of day in UTC, with its date."""
    return f"{datetime.fromtimestamp(epoch_s, UTC):%Y-%m-%d %H:%M:%S}"


def seconds(value: float | None) -> str:
    """A duration with as many digits as it deserves."""
    if value is None:
        return _NOTHING
    return f"{value:,.0f} s" if value >= 100 else f"{value:.1f} s" if value >= 10 else f"{value:.2f} s"


def requests_text(incident: Incident) -> str:
    """`moved 3, cut 1`; those that were not touched are left out."""
    counts = [f"{what} {count}" for what, count in incident.requests.items() if count]
    return ", ".join(counts) or ("none" if incident.requests else _NOTHING)


def _row(incident: Incident, *, marked: bool) -> list[Text]:
    outcome = (incident.outcome, _STYLES.get(incident.outcome, ""))
    times = f"{seconds(incident.detect_s)}, {seconds(incident.recover_s)}"
    return [
        Text.assemble(moment(incident.began_at), "\n", (incident.id, "dim")),
        Text.assemble(_what(incident), "\n", outcome, (_mark(marked), "magenta")),
        Text(f"{incident.cause}\n{_action(incident)}"),
        Text(f"{times}\n{requests_text(incident)}"),
    ]


def _mark(simulated: bool) -> str:
    return " · SIMULATED" if simulated else ""


def _action(incident: Incident) -> str:
    """The last one, which is what it came to; the others are in the timeline."""
    if not incident.actions:
        return _NOTHING
    before = len(incident.actions) - 1
    last = bounded(incident.actions[-1].text.partition("\n")[0], _SHORT)
    return last + (f" (after {before} more)" if before else "")


def _what(incident: Incident) -> str:
    """`restart of r0`, but not `gateway of gateway`."""
    return incident.kind if incident.kind == incident.subject else f"{incident.kind} of {incident.subject}"


def _timeline(incident: Incident) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("after", "at (UTC)"):
        table.add_column(column, no_wrap=True)
    table.add_column("timeline")
    steps = [(incident.began_at, "noticed"), *incident.actions]
    if incident.ended_at is not None:
        steps.append((incident.ended_at, incident.outcome))
    for at, text in steps:
        table.add_row(f"{at - incident.began_at:+.2f} s", moment(at), Text(text))
    return table


def _with_provenance(incident: Incident, value: float | None) -> str:
    return _NOTHING if value is None else f"{seconds(value)} ({incident.provenance.value})"
