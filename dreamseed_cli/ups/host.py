"""Whether this process may stop the host."""

from __future__ import annotations

import os
from collections.abc import Mapping


def in_unit(environment: Mapping[str, str] = os.environ, pid: int | None = None) -> bool:
    """Whether systemd started this very process (systemd.exec(5)). A shell that runs in some unit has its
    INVOCATION_ID, too, but is not the process that systemd names.

    pid: this process, unless it is given.
    """
    named = environment.get("SYSTEMD_EXEC_PID", "")
    ours = str(os.getpid() if pid is None else pid)
    return bool(environment.get("INVOCATION_ID")) and named in {"", ours}
