"""Another program's words, for which nobody waits longer than they were given."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Sequence
from contextlib import suppress

_KILL_WAIT_S = 1.0


def output_within(argv: Sequence[str], within_s: float) -> subprocess.CompletedProcess[str] | None:
    """Run it to its end; None: it had to be killed after its time, with all that it had started.

    Not subprocess.run, which waits for whom it has killed: a process inside a driver that hangs cannot be
    killed, and whoever waits for it hangs, too. Raises OSError where it cannot be started.
    """
    process = subprocess.Popen(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    heard = False
    try:
        said, complained = process.communicate(timeout=within_s)
        heard = True
    except subprocess.TimeoutExpired:
        return None
    finally:
        # Also when we are interrupted, and when what it had started holds the pipes after its own end.
        if not heard:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            with suppress(subprocess.TimeoutExpired):
                process.wait(_KILL_WAIT_S)
        for pipe in (process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()
    return subprocess.CompletedProcess(argv, process.returncode, said, complained)
