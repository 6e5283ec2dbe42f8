"""Bounded waits for an event, the signals that set one, and the end of a task."""

from __future__ import annotations

import asyncio
import signal
from contextlib import suppress
from typing import Any


async def set_within(event: asyncio.Event, seconds: float | None) -> bool:
    """Wait until it is set, for so long at most (None: for ever); whether it was."""
    try:
        async with asyncio.timeout(seconds):
            return await event.wait()
    except TimeoutError:
        return False


async def ended(task: asyncio.Task[Any]) -> None:
    """Cancel it and wait until it has ended. Raises what it failed with, if it had."""
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


def set_by_signals(event: asyncio.Event) -> list[signal.Signals]:
    """From now on SIGTERM and Ctrl-C set it, in the running loop. Those that came, as they come: what runs
    until it is told to end exits with 0 after the one and with 130 after the other.
    """
    came: list[signal.Signals] = []

    def note(signum: signal.Signals) -> None:
        came.append(signum)
        event.set()

    for signum in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(signum, note, signum)
    return came
