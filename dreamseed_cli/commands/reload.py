"""`dreamseed reload`: have the running stack read its profile again."""

from __future__ import annotations

from dreamseed_cli.commands.options import JsonFlag, StateDirOption
from dreamseed_cli.core.result import Result


def reload(state_dir: StateDirOption = None, as_json: JsonFlag = False) -> Result:
    """Have the running stack read its profile again, and take what needs no restart.

    Shows what it took, and what needs a restart and goes on as it was. A profile with a mistake changes
    nothing: exit code 2.
    """
    import msgspec

    from dreamseed_cli.core.paths import StateDir
    from dreamseed_cli.supervisor.reload_request import outcome_error, request_reload
    from dreamseed_cli.supervisor.view import reload_view

    outcome = request_reload(StateDir.locate(state_dir))
    error = outcome_error(outcome)
    if error is not None:
        raise error
    return Result(data=msgspec.to_builtins(outcome), view=[reload_view(outcome)])
