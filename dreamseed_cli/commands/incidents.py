"""`dreamseed incidents`: what went wrong, what was done about it, and how long it took."""

from __future__ import annotations

from typing import Annotated

import typer

from dreamseed_cli.commands.options import JsonFlag, StateDirOption
from dreamseed_cli.core.result import Result


def incidents(
    incident_id: Annotated[
        str | None,
        typer.Argument(metavar="ID", help="Show this one with its timeline.", show_default=False),
    ] = None,
    last: Annotated[int, typer.Option("--last", "-n", min=0, help="Show this many, the newest.")] = 20,
    subject: Annotated[
        str | None,
        typer.Option("--subject", help="Only those of r0, gateway, 'card 1', ...", show_default=False),
    ] = None,
    kind: Annotated[
        str | None,
        typer.Option(
            "--kind",
            help="Only ejection, restart, crash_loop, gpu, failover, gateway, supervisor or service.",
            show_default=False,
        ),
    ] = None,
    state_dir: StateDirOption = None,
    as_json: JsonFlag = False,
) -> Result:
    """Show the incidents of this stack, newest last: when, what, cause, action, requests, times, outcome.

    The last 1000 are kept, also over restarts. Times to detect and to recover count from the fault, or from
    its detection where the fault's moment is not known. Exit code 3 if no stack has run here.
    """
    from dreamseed_cli.core.paths import StateDir
    from dreamseed_cli.incidents.read import read_incident, read_incidents
    from dreamseed_cli.incidents.record import incidents_file
    from dreamseed_cli.incidents.view import incident_view, incidents_view

    path = incidents_file(StateDir.locate(state_dir))
    if incident_id is not None:
        one = read_incident(path, incident_id)
        return Result(one.to_data(), view=incident_view(one))
    found = read_incidents(path, last, subject=subject, kind=kind)
    return Result({"incidents": [one.to_data() for one in found]}, view=[incidents_view(found)])
