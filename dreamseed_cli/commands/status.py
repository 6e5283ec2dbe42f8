"""`dreamseed status`: what the running stack is doing."""

from __future__ import annotations

from dreamseed_cli.commands.options import JsonFlag, StateDirOption
from dreamseed_cli.core.result import Result


def status(state_dir: StateDirOption = None, as_json: JsonFlag = False) -> Result:
    """Show the running stack: gateway, replicas and services, their load and why they are in their state.

    Exit code 3 when nothing runs.
    """
    import msgspec

    from dreamseed_cli.core.paths import StateDir
    from dreamseed_cli.supervisor.control import fetch_snapshot
    from dreamseed_cli.supervisor.orphans import left_by_killed
    from dreamseed_cli.supervisor.running import nothing_runs
    from dreamseed_cli.supervisor.state import read_supervisor
    from dreamseed_cli.supervisor.view import stack_view

    state = StateDir.locate(state_dir)
    record = read_supervisor(state)
    if record is not None and record.alive():
        snapshot = fetch_snapshot(state)
        data = {**msgspec.to_builtins(snapshot), "uptime_s": round(snapshot.uptime_s, 3)}
        return Result(data=data, view=[stack_view(snapshot)])
    raise left_by_killed(state) or nothing_runs(state)
