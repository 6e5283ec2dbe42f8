"""`dreamseed stop`: end the running stack in order."""

from __future__ import annotations

from dreamseed_cli.commands.options import JsonFlag, StateDirOption
from dreamseed_cli.core.result import Result


def stop(state_dir: StateDirOption = None, as_json: JsonFlag = False) -> Result:
    """Stop the running stack: the gateway drains, then the engines end.

    Waits until every process has ended. Ends what a killed `serve` left behind, too. When nothing
    runs there is nothing to do: exit code 0.
    """
    from rich.console import Console

    from dreamseed_cli.core.paths import StateDir
    from dreamseed_cli.supervisor.ending import end_stack

    state = StateDir.locate(state_dir)
    with Console(stderr=True).status("stopping") as shown:
        ended = end_stack(state, progress=shown.update)
    return Result(data={"was_running": ended.was_running, "ended": ended.what}, view=[ended.sentence])
