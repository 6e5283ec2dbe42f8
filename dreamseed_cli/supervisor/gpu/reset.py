"""`nvidia-smi --gpu-reset` in a time box."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import suppress

from dreamseed_cli.supervisor.gpu.ladder import Event, ResetDone, ResetFailed, ResetTimedOut

_KILL_WAIT_S = 1.0
"""nvidia-smi may hang in the driver, where even SIGKILL does not reach it: then it is left behind."""
_KEPT_CHARS = 600


def reset_command(card: str) -> tuple[str, ...]:
    """card: its uuid, or its index where it does not tell one."""
    return ("nvidia-smi", "--gpu-reset", "-i", card)


async def reset_card(card: str, timeout_s: float) -> Event:
    """Reset it: done, failed, or killed after `timeout_s`; what it printed is in the event's detail."""
    command = reset_command(card)
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
        )
    except OSError as error:
        return ResetFailed(f"{command[0]} cannot be started: {error.strerror}")
    output = bytearray()
    reading = asyncio.create_task(_collect(process, output))
    try:
        await asyncio.wait({reading}, timeout=timeout_s)
        late = not reading.done()
    finally:
        # Also when we are cancelled; with its helpers, which may hold its output open.
        if not reading.done():
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        await _settle(process, reading)
    said = " ".join(output.decode(errors="replace").split())[:_KEPT_CHARS] or "without a word"
    if late:
        return ResetTimedOut(f"the reset did not end within {timeout_s:g} s and was killed: {said}")
    if process.returncode != 0:
        return ResetFailed(f"the reset failed with exit code {process.returncode}: {said}")
    return ResetDone(f"reset: {said}")


async def _collect(process: asyncio.subprocess.Process, output: bytearray) -> None:
    while process.stdout is not None and (piece := await process.stdout.read(4096)):
        del output[_KEPT_CHARS * 4 :]
        output.extend(piece)
    await process.wait()


async def _settle(process: asyncio.subprocess.Process, reading: asyncio.Task[None]) -> None:
    waits = {asyncio.ensure_future(process.wait()), reading}
    _, late = await asyncio.wait(waits, timeout=_KILL_WAIT_S)
    for wait in late:
        wait.cancel()
    await asyncio.gather(*waits, return_exceptions=True)
