"""Commands of the operator's own, each in its time."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Sequence
from contextlib import suppress

from dreamseed_cli.core.errors import FailedError

_KEPT_CHARS = 4000
_KILL_WAIT_S = 1.0


async def run_command(argv: Sequence[str], within_s: float) -> str:
    """Run it to its end; what it printed. FailedError if it fails, or has to be killed after its time."""
    try:
        process = await asyncio.create_subprocess_exec(
            *argv,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
        )
    except OSError as error:
        raise FailedError(f"it cannot be started: {error.strerror}", place=argv[0]) from error
    talking = asyncio.create_task(process.communicate())
    try:
        done, _ = await asyncio.wait({talking}, timeout=within_s)
    finally:
        # Also when we are cancelled.
        if not talking.done():
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await asyncio.wait({talking}, timeout=_KILL_WAIT_S)
            talking.cancel()
    if not done:
        raise FailedError(f"it did not end within {within_s:g} s and was killed", place=argv[0])
    said = " ".join(talking.result()[0].decode(errors="replace").split())[-_KEPT_CHARS:]
    if process.returncode != 0:
        raise FailedError(f"exit code {process.returncode}: {said or 'without a word'}", place=argv[0])
    return said
