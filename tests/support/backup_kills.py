"""Work in a process of its own that is killed in the middle of it, as a power cut or the kernel would."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Callable


def killed(work: Callable[[], object]) -> bool:
    """Whether the process that did the work was killed by SIGKILL; AssertionError if it failed otherwise.

    A fork: it begins where this process stands, without the start of a Python.
    """
    pid = os.fork()
    if pid == 0:
        _work(work)
    _, status = os.waitpid(pid, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0, "the work failed, which stands on stderr"
    return os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL


def kill_here() -> None:
    """SIGKILL to this very process: for `work` to call."""
    os.kill(os.getpid(), signal.SIGKILL)


def _work(work: Callable[[], object]) -> None:
    """Never returns: what stands above in this process belongs to the other one."""
    try:
        work()
    except BaseException:  # noqa: BLE001 - the other process tells that there was one
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)
    os._exit(0)
