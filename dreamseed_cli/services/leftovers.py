"""Server processes that still work in a service's folder, found by what they are and where they stand.

PostgreSQL's backends and Valkey's nodes have their data folder as working directory. That proves them even
where nobody recorded their pids, and where a backend has outlived its killed server.
"""

from __future__ import annotations

import signal
from pathlib import Path

import psutil

from dreamseed_cli.core.errors import FailedError
from dreamseed_cli.core.processes import ProcessIdentity, end_all


def living_in(folder: Path, program: str) -> list[ProcessIdentity]:
    """The living processes of `program` (a file's name) whose working directory is `folder`."""
    found = []
    for process in psutil.process_iter():
        identity = ProcessIdentity.of(process.pid)
        try:
            inside = process.cwd() == str(folder) and Path(process.exe()).name == program
        except (psutil.Error, OSError):
            continue  # gone meanwhile, or another user's: ours can be looked at
        if inside and identity is not None and identity.alive():
            found.append(identity)
    return found


def end_leftovers(folder: Path, program: str, *, ask: signal.Signals, grace_s: float = 5.0) -> None:
    """End them: the signal `ask`, a bounded wait, SIGKILL. FailedError if one outlives that. Blocks."""
    survivors = end_all(living_in(folder, program), grace_s=grace_s, ask=ask)
    if survivors:
        raise FailedError(
            f"processes of an earlier run do not end: pid {', '.join(str(s.pid) for s in survivors)}",
            place=str(folder),
            remedy="They hang in the kernel, often on a disk: see `ps -o pid,stat,wchan`.",
        )
