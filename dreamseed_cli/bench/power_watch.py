"""What the cards draw while a cell runs, read through NVML by the supervisor's own reader."""

from __future__ import annotations

import asyncio
import time

from dreamseed_cli.bench.cell_run import PowerSample
from dreamseed_cli.core.waiting import set_within
from dreamseed_cli.supervisor.gpu.reading import Poll, Problem
from dreamseed_cli.supervisor.gpu.telemetry import CHILD, Telemetry

_EVERY_S = 0.2
"""NVML's own figure is an average over a tenth of a second to a second, by card."""
_CALL_TIMEOUT_S = 5.0
_NOTHING_THERE = frozenset({Problem.DRIVER_MISSING, Problem.NO_CARDS})


def total_watts(poll: Poll) -> float | None:
    """The power of all cards; None unless every one told: half a sum would make the energy look good."""
    told = [card.power_w for card in poll.cards]
    known = [watts for watts in told if watts is not None]
    if poll.problem is not None or poll.lost or not told or len(known) < len(told):
        return None
    return sum(known)


class PowerWatch:
    """Samples the power of all this machine's cards, from `start` to `stop`, inside a running event loop.

    Raises nothing: without a card there are no samples, and a moment in which a card does not tell has none.
    """

    def __init__(self, *, every_s: float = _EVERY_S, argv: tuple[str, ...] = CHILD) -> None:
        self._every_s = every_s
        self._reader = Telemetry(call_timeout_s=_CALL_TIMEOUT_S, on_xid=lambda _: None, argv=argv)
        self._samples: list[tuple[float, float]] = []
        self._watching: asyncio.Task[None] | None = None
        self._ending = asyncio.Event()
        self._began_s = 0.0

    async def start(self) -> None:
        """Take the first sample, which starts the reader, and go on taking them."""
        there = await self._sample()
        self._began_s = time.monotonic()
        if there:
            self._watching = asyncio.create_task(self._go_on())

    async def stop(self, began_s: float | None = None) -> tuple[PowerSample, ...]:
        """The samples, in seconds since `began_s` (of time.monotonic(); None: since `start` returned).

        The first one is a little before that.
        """
        if self._watching is not None:
            # Not cancelled: that would end the reader, and a new one would have to be started.
            self._ending.set()
            await self._watching
        await self._reader.close()
        origin = self._began_s if began_s is None else began_s
        return tuple(PowerSample(at - origin, watts) for at, watts in self._samples)

    async def _go_on(self) -> None:
        over = False
        while not over:
            over = await set_within(self._ending, self._every_s)
            if not await self._sample():
                return

    async def _sample(self) -> bool:
        """Take one; whether there is anything to sample."""
        poll = await self._reader.poll()
        watts = total_watts(poll)
        if watts is not None:
            self._samples.append((time.monotonic(), watts))
        return poll.problem not in _NOTHING_THERE
