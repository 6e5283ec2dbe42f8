"""Tables and titles as the answer on the terminal has them."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from dreamseed_cli.core.render import wrapped


def table_of(first: str, *numbers: str) -> Table:
    """Words in the first column, numbers in the others."""
    table = Table(box=None, header_style="dim")
    table.add_column(first, overflow="fold")
    for name in numbers:
        table.add_column(name, justify="right", overflow="fold")
    return table


def titled(title: str, content: RenderableType) -> Group:
    """The content below its title and an empty line."""
    return Group(wrapped(Text(f"\n{title}", "bold")), content)
