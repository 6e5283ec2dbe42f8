"""`dreamseed logs`: what supervisor, gateway and engines wrote."""

from __future__ import annotations

from typing import Annotated

import typer

from dreamseed_cli.commands.options import JsonFlag, StateDirOption
from dreamseed_cli.core.errors import UsageError
from dreamseed_cli.core.result import Result


def logs(
    name: Annotated[
        str | None, typer.Argument(help="supervisor, gateway, r0, r1, ...; without it all of them.")
    ] = None,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, help="Last lines of each log.")] = 50,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on with new lines until Ctrl-C.")
    ] = False,
    state_dir: StateDirOption = None,
    as_json: JsonFlag = False,
) -> Result:
    """Show the last lines of the stack's logs, also after it has ended."""
    from rich.console import Console
    from rich.text import Text

    from dreamseed_cli.core.paths import StateDir
    from dreamseed_cli.supervisor.logreader import LogLine, follow_logs, read_logs

    if follow and as_json:
        raise UsageError("--follow has no end, --json is one document", remedy="Leave one of them out.")
    state = StateDir.locate(state_dir)

    def shown(line: LogLine) -> Text:
        return Text(line.line) if name else Text.assemble((f"{line.name:<10} │ ", "cyan"), line.line)

    if follow:
        console = Console(soft_wrap=True)
        for line in follow_logs(state, name, lines):
            console.print(shown(line))
    read = read_logs(state, name, lines)
    data = [{"name": line.name, "line": line.line} for line in read]
    return Result(data={"lines": data}, view=[shown(line) for line in read])
