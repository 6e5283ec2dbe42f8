"""`dreamseed top`: the running stack on one screen."""

from __future__ import annotations

from dreamseed_cli.commands.options import JsonFlag, StateDirOption
from dreamseed_cli.core.result import Result


def top(state_dir: StateDirOption = None, as_json: JsonFlag = False) -> Result:
    """Show everything live on one screen: engines, queues by class, tokens, cards, services, backups, UPS.

    Works over SSH at 80 columns and 24 lines. Up and down choose an engine, d drains it or takes it
    back, r restarts it, q ends.
    """
    import sys

    import msgspec
    from rich.console import Console

    from dreamseed_cli.core.errors import UsageError
    from dreamseed_cli.core.paths import StateDir
    from dreamseed_cli.supervisor.running import require_running
    from dreamseed_cli.top.keys import raw_keys
    from dreamseed_cli.top.loop import Looker, run

    state = StateDir.locate(state_dir)
    require_running(state)
    looker = Looker.at(state)
    if as_json:
        return Result(msgspec.to_builtins(looker.seen().snapshot))
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UsageError("this is no terminal", place="top", remedy="Use dreamseed status, or --json.")
    with raw_keys() as keyboard:
        seen = run(looker, Console(), keyboard.next_key)
    return Result(msgspec.to_builtins(seen.snapshot))
