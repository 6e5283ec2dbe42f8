"""Bounded waits for an event, and the signals that set one."""

from __future__ import annotations

import asyncio
import signal


async def set_within(event: asyncio.Event, seconds: float | None) -> bool:
    """Wait until it is set, for so long at most (None: for ever); whether it was."""
    try:
        async with asyncio.timeout(seconds):
            return await event.wait()
    except TimeoutError:
        return False


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
