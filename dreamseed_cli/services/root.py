"""PostgreSQL refuses to run as root: here is how it runs as nobody while its files stay root's."""

from __future__ import annotations

import os

_NOBODY = 65534


def unprivileged(argv: tuple[str, ...]) -> tuple[str, ...]:
    """The command as it stands; for root, in a user namespace where root's files belong to `nobody`.

    unshare(1) replaces itself with the command, so the pid is the server's. No user is added, no folder
    opened to others.
    """
    if os.geteuid() != 0:
        return argv
    return ("unshare", "--user", f"--map-user={_NOBODY}", f"--map-group={_NOBODY}", *argv)
