"""`terraform fmt`, as far as files go that have no heredoc: indentation, and `=` below `=`.

By the rules of HCL's own formatter (hclwrite/format.go), since no package registry has Terraform: two spaces
for each bracket that is open; one space around an assignment, but in lines that follow each other, and whose
values end in their own line, all `=` stand below each other.
"""

from __future__ import annotations

import re

_TEXTS = re.compile(r'"(?:\\.|[^"\\])*"')
_ASSIGNMENT = re.compile(r"([A-Za-z_][\w-]*) *= *(.+)")


def canonical(text: str) -> str:
    """The same file as `terraform fmt` writes it."""
    lines: list[str] = []
    chain: list[tuple[int, str, str]] = []
    depth = 0
    for line in text.splitlines():
        words = line.strip()
        opened = _opened(words)
        indent = "  " * (depth + min(opened, 0))
        depth += opened
        found = _ASSIGNMENT.fullmatch(words)
        if found is None or opened:
            _align(lines, chain)
            lines.append((indent + (f"{found[1]} = {found[2]}" if found else words)).rstrip())
            continue
        chain.append((len(lines), indent + found[1], found[2]))
        lines.append("")
    _align(lines, chain)
    return "\n".join(lines) + "\n"


def _opened(words: str) -> int:
    """How many brackets more are opened than closed, outside of texts and comments."""
    code = _TEXTS.sub("", words).partition("#")[0]
    return sum((one in "{[(") - (one in "}])") for one in code)


def _align(lines: list[str], chain: list[tuple[int, str, str]]) -> None:
    """Write the chain's lines with their `=` below each other; the chain is over then."""
    width = max((len(name) for _, name, _ in chain), default=0)
    for number, name, value in chain:
        lines[number] = f"{name:{width}} = {value}"
    chain.clear()
