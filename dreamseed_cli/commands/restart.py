"""`dreamseed restart`: restart engines one after another, without losing a request."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from dreamseed_cli.commands.options import JsonFlag, StateDirOption
from dreamseed_cli.core.result import Result

if TYPE_CHECKING:
    from collections.abc import Callable

    from dreamseed_cli.core.paths import StateDir
    from dreamseed_cli.supervisor.snapshot import RollingSnapshot

_POLL_S = 0.2


def restart(
    replica: Annotated[
        list[str] | None,
        typer.Option("--replica", help="Only this one, such as r0; may be given again. Default: all."),
    ] = None,
    wait: Annotated[bool, typer.Option(help="Wait until it is done.")] = True,
    state_dir: StateDirOption = None,
    as_json: JsonFlag = False,
) -> Result:
    """Restart replicas one after another: drain, restart, first token, the next.

    Requests go to the others meanwhile; with a single replica they wait for it, if their deadline allows.
    Also starts a failed or quarantined one again. Stops at the first that does not come back.
    """
    from rich.console import Console

    from dreamseed_cli.core.errors import FailedError
    from dreamseed_cli.core.paths import StateDir
    from dreamseed_cli.supervisor.control import begin_restart
    from dreamseed_cli.supervisor.running import require_running

    state = StateDir.locate(state_dir)
    require_running(state)
    rolling = begin_restart(state, replica or [])
    if wait:
        with Console(stderr=True).status("restarting") as shown:
            rolling = _followed(state, rolling, shown.update)
    if rolling.error:
        raise FailedError(
            f"{rolling.error}\nDone before: {', '.join(rolling.done) or 'none'}",
            place="restart",
            remedy="See why with: dreamseed incidents. The other replicas were left alone.",
        )
    took_s = None if rolling.finished_at is None else round(rolling.finished_at - rolling.began_at, 3)
    sentence = f"Restarting {', '.join(rolling.wanted)}: dreamseed status shows how far it is."
    if took_s is not None:
        sentence = f"Restarted {', '.join(rolling.done)} in {took_s:.1f} s."
    return Result(data={"wanted": rolling.wanted, "done": rolling.done, "took_s": took_s}, view=[sentence])


def _followed(state: StateDir, rolling: RollingSnapshot, say: Callable[[str], None]) -> RollingSnapshot:
    """Ask the supervisor until it is done."""
    import time

    from dreamseed_cli.supervisor.control import fetch_snapshot

    while rolling.finished_at is None:
        time.sleep(_POLL_S)
        stack = fetch_snapshot(state)
        rolling = stack.rolling or rolling
        states = {replica.name: replica.state for replica in stack.replicas}
        now = f"; {rolling.current} is {states.get(rolling.current, 'waiting')}" if rolling.current else ""
        say(f"{len(rolling.done)} of {len(rolling.wanted)} restarted{now}")
    return rolling
