"""How a server of ours runs: as nobody if we are root, and no longer than we do."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

_NOBODY = 65534


def unprivileged(argv: tuple[str, ...]) -> tuple[str, ...]:
    """The command as it stands; for root, in a user namespace where root's files belong to `nobody`.

    unshare(1) replaces itself with the command, so the pid is the server's. No user is added, no folder
    opened to others.
    """
    if os.geteuid() != 0:
        return argv
    return ("unshare", "--user", f"--map-user={_NOBODY}", f"--map-group={_NOBODY}", *argv)


def dying_with_us(argv: tuple[str, ...], program: Path, ask: str = "INT") -> tuple[str, ...]:
    """Have the kernel send it `ask` when the thread that starts it ends, by SIGKILL too, where util-linux is
    there to ask it to.
    """
    setpriv = shutil.which("setpriv")
    # Right before the server: for root, unshare(1) stands first, and would make the kernel forget the wish.
    first = argv.index(str(program))
    return (*argv[:first], setpriv, "--pdeathsig", ask, *argv[first:]) if setpriv else argv
