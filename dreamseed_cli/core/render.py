"""The one place where a result or an error becomes text: Rich for people, one JSON document for machines."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from dreamseed_cli.core.errors import DreamseedError
from dreamseed_cli.core.result import Figure, Result

if TYPE_CHECKING:
    from rich.console import RenderableType


def render_result(command: str, result: Result, *, as_json: bool) -> None:
    """Print a result on stdout."""
    if as_json:
        _print_envelope(command, ok=result.exit_code == 0, data=dict(result.data), errors=[])
        return
    if result.view:
        from rich.console import Console
        from rich.text import Text

        console = Console()
        for item in result.view:
            # Lines of text keep their length: a log line or an address cut in two is of no use in a pipe.
            console.print(item, soft_wrap=isinstance(item, str | Text))


def wrapped(item: RenderableType) -> RenderableType:
    """Sentences: unlike a line of text, which keeps its length, they are broken where the window ends."""
    from rich.padding import Padding

    return Padding(item, 0, expand=False)


def render_error(command: str, error: DreamseedError, *, as_json: bool) -> None:
    """Print a failure: the JSON envelope on stdout if asked for, else words on stderr."""
    if as_json:
        _print_envelope(command, ok=False, data=None, errors=[e.to_data() for e in error.causes()])
        return
    from rich.console import Console
    from rich.text import Text

    console = Console(stderr=True)
    for single in error.causes():
        console.print(Text.assemble(("Error: ", "bold red"), str(single)), soft_wrap=True)


def _print_envelope(command: str, *, ok: bool, data: Any, errors: Sequence[dict[str, str]]) -> None:
    document = {"command": command, "ok": ok, "data": data, "errors": errors}
    plain = "utf" not in (sys.stdout.encoding or "").lower()
    sys.stdout.write(json.dumps(document, default=_plain, ensure_ascii=plain, allow_nan=False))
    sys.stdout.write("\n")
    sys.stdout.flush()


def _plain(value: object) -> object:
    """JSON for what the standard encoder does not know."""
    if isinstance(value, Figure):
        return value.to_data()
    return str(value)
