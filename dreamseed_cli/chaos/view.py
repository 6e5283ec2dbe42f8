"""Rehearsals and faults for people and as data."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from dreamseed_cli.chaos.faults import FAULTS
from dreamseed_cli.chaos.rehearsal import Rehearsal
from dreamseed_cli.chaos.story import Observation, Step
from dreamseed_cli.core.result import Provenance, Result
from dreamseed_cli.incidents.record import bounded
from dreamseed_cli.incidents.view import seconds

_NOTE_LENGTH = 100


def faults_result() -> Result:
    """Every fault with what it does."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("fault", no_wrap=True)
    table.add_column("what it does")
    table.add_column("what should follow")
    for fault in FAULTS:
        table.add_row(fault.name, fault.does, fault.expect)
    data = [{"name": fault.name, "does": fault.does, "expect": fault.expect} for fault in FAULTS]
    return Result({"faults": data}, view=[table])


def rehearsal_result(rehearsal: Rehearsal) -> Result:
    """The timeline and the verdict; a target missed if it did not recover."""
    verdict = rehearsal.verdict
    data = {
        "fault": rehearsal.fault.name,
        "subjects": list(rehearsal.subjects),
        "provenance": Provenance.SIMULATED.value,
        "faulted_at": rehearsal.faulted_at,
        "watched_s": round(rehearsal.watched_s, 3),
        "steps": [_step_data(step) for step in rehearsal.steps],
        "detect_s": _rounded(verdict.detect_s),
        "recover_s": _rounded(verdict.recover_s),
        "recovered": verdict.recover_s is not None,
        "calls_failed": rehearsal.calls_failed,
        "incidents": list(rehearsal.incidents),
    }
    view = [_title(rehearsal), _timeline(rehearsal), _summary(rehearsal), *_hint(rehearsal)]
    return Result(data, view=view, target_met=verdict.recover_s is not None)


@contextmanager
def telling() -> Iterator[Callable[[Observation], None]]:
    """Show on stderr, if that is a terminal, what is seen while it is waited for."""
    console = Console(file=sys.stderr)
    if not console.is_terminal:
        yield lambda _: None
        return
    with console.status("") as status:
        yield lambda observation: status.update(Text(_moment(observation)))


def _moment(observation: Observation) -> str:
    states = ", ".join(f"{part.name} {part.state}" for part in observation.parts)
    return f"{observation.at_s:.1f} s since the fault: {states}"


def _title(rehearsal: Rehearsal) -> Text:
    name = f"{rehearsal.fault.name} of {', '.join(rehearsal.subjects)}"
    return Text.assemble((name, "bold"), (" · SIMULATED", "magenta"), f": {rehearsal.fault.does}")


def _timeline(rehearsal: Rehearsal) -> RenderableType:
    if not rehearsal.steps:
        return Text("Nothing changed its state.")
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("after", justify="right", no_wrap=True)
    for column in ("what", "state", "why"):
        table.add_column(column, no_wrap=column != "why")
    for step in rehearsal.steps:
        table.add_row(f"{step.at_s:.2f} s", step.subject, step.state, Text(_why(step)))
    return table


def _summary(rehearsal: Rehearsal) -> Table:
    verdict, calls = rehearsal.verdict, rehearsal.calls_failed
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True)
    for name, value in (
        ("time to detect", _figure(verdict.detect_s)),
        ("time to recover", _figure(verdict.recover_s)),
        ("calls failed", "unknown: the gateway that counted them is gone" if calls is None else str(calls)),
        ("incident", ", ".join(rehearsal.incidents) or "none was recorded"),
    ):
        grid.add_row(name, value)
    return grid


def _hint(rehearsal: Rehearsal) -> list[Text]:
    """What to know beyond the figures."""
    verdict = rehearsal.verdict
    hints = []
    if verdict.recover_s is None:
        how = "It has been given up." if verdict.given_up else f"Not well after {rehearsal.watched_s:.0f} s."
        hints.append(Text(how, style="bold red"))
    lasts = rehearsal.fault.order is not None or rehearsal.fault.name == "freeze"
    if lasts and verdict.recover_s is None:
        hints.append(Text(f"End the fault with: dreamseed chaos heal --replica {rehearsal.subjects[0]}"))
    return hints


def _why(step: Step) -> str:
    # The last lines themselves are in the incident: here their heading would lead to nothing.
    first = bounded(step.detail.partition("\n")[0].removesuffix("; its last lines:"), _NOTE_LENGTH)
    return ": ".join(part for part in (step.reason, first) if part)


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{seconds(value)} ({Provenance.SIMULATED.value})"


def _step_data(step: Step) -> dict[str, Any]:
    return {
        "at_s": round(step.at_s, 3),
        "subject": step.subject,
        "state": step.state,
        "reason": step.reason,
        "detail": step.detail,
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
