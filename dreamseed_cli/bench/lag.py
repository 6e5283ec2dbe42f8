"""How late the event loop of one process of the load is: what it measures can be that much too long."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

TICK_S = 0.01

Lags = list[tuple[float, float]]
"""When a tick came (seconds since the cell's start), and how many milliseconds late."""


async def watch_lag(clock: Callable[[], float], lags: Lags) -> None:
    """Note every tick until cancelled. A pause of half a second is fifty late ticks, not one."""
    due_s = clock()
    while True:
        due_s += TICK_S
        await asyncio.sleep(max(0.0, due_s - clock()))
        now = clock()
        lags.append((now, (now - due_s) * 1000))
