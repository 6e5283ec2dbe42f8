"""`dreamseed chaos`: break one thing on purpose, on emulated engines, and see how the stack takes it."""

from __future__ import annotations

from typing import Annotated

import typer

from dreamseed_cli.commands.options import JsonFlag, StateDirOption
from dreamseed_cli.core.result import Result


def chaos(
    fault: Annotated[
        str | None,
        typer.Argument(metavar="FAULT", help="What to break; --list names them.", show_default=False),
    ] = None,
    replica: Annotated[
        str | None,
        typer.Option("--replica", help="Whose. Default: the first that is ready.", show_default=False),
    ] = None,
    wait: Annotated[
        float, typer.Option("--wait", min=0, help="Seconds to watch for the recovery, at most.")
    ] = 60.0,
    list_faults: Annotated[bool, typer.Option("--list", help="List the faults and break nothing.")] = False,
    state_dir: StateDirOption = None,
    as_json: JsonFlag = False,
) -> Result:
    """Inject one fault into a running emulated stack and print what happened. Everything is simulated.

    Refuses where the engines are not emulated ones of this stack. Exit code 1 if it has not recovered within
    --wait; what a fault leaves behind in an engine goes with `dreamseed chaos heal`.
    """
    from dreamseed_cli.chaos.faults import choose_fault
    from dreamseed_cli.chaos.rehearsal import rehearse
    from dreamseed_cli.chaos.view import faults_result, rehearsal_result, telling
    from dreamseed_cli.core.paths import StateDir

    if list_faults:
        return faults_result()
    chosen = choose_fault(fault)
    with telling() as tell:
        return rehearsal_result(rehearse(StateDir.locate(state_dir), chosen, replica, wait_s=wait, tell=tell))
