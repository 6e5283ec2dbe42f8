"""Other programs' words, within a bound."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from shutil import which

from dreamseed_cli.core.bounded import output_within

WITHIN_S = 2.4


def told(*argv: str) -> str:
    """What it writes to stdout; empty if it is not installed, says nothing, or takes too long."""
    program = which(argv[0])
    if program is None:
        return ""
    try:
        done = output_within([program, *argv[1:]], WITHIN_S)
    except OSError:
        return ""
    return done.stdout.strip() if done else ""


def told_units(names: Sequence[str], *wanted: str) -> Iterator[Mapping[str, str]]:
    """`Id` and the wanted properties of each unit, systemctl(1); none where no systemd answers."""
    said = told("systemctl", "show", f"--property={','.join(('Id', *wanted))}", *names)
    for block in said.split("\n\n") if said else ():
        yield dict(line.partition("=")[::2] for line in block.splitlines())
