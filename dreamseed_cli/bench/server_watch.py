"""What the engines say of themselves while a cell runs: whether they saw what was sent, and what they did."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any

from dreamseed_cli.bench.cell_run import ServerView
from dreamseed_cli.bench.target.key import Access
from dreamseed_cli.core.waiting import set_within
from dreamseed_cli.engine.client import EngineClient
from dreamseed_cli.engine.metrics import EngineMetrics
from dreamseed_cli.engine.types import Endpoint, EngineUnavailable

_EVERY_S = 0.2
_NONE = Access()
_COUNTERS: dict[str, Callable[[EngineMetrics], int | None]] = {
    "generation_tokens": lambda told: told.generation_tokens_total,
    "prompt_tokens": lambda told: told.prompt_tokens_total,
    "prefix_queries": lambda told: told.prefix_queries_total,
    "prefix_hits": lambda told: told.prefix_hits_total,
}

Look = Sequence[EngineMetrics | None]
"""All engines at one moment, always in the same order; None for one that told nothing."""


class Tally:
    """Adds looks up to a view of all engines. Pure.

    A sum is given only if every engine told its part: half a sum would say that requests never arrived.
    """

    def __init__(self) -> None:
        self._peak: int | None = None
        self._first: Look = ()
        self._last: Look = ()
        self._newest: dict[int, EngineMetrics] = {}
        self._began_anew = False

    def add(self, look: Look) -> int | None:
        """Take the next look in. How many requests all engines have, if each told it in this look."""
        self._first = self._first or look
        self._last = look
        for index, told in enumerate(look):
            if told is None:
                continue
            before = self._newest.get(index)
            # An engine that was started again counts from 0: what it counted before is lost.
            self._began_anew |= before is not None and _is_less(told, before)
            self._newest[index] = told
        if not look or len(self._newest) < len(look):
            return None
        in_flight = sum(told.running + told.waiting for told in look if told is not None)
        self._peak = max(self._peak or 0, in_flight)
        return None if None in look else in_flight

    def view(self) -> ServerView:
        """What all looks say together. Without a peak: an engine never told; without counters: one did not
        tell at the first or at the last look, or was started again in between.
        """
        growth: dict[str, Any] = {
            name: None if self._began_anew else self._growth(name) for name in _COUNTERS
        }
        return ServerView(peak_in_flight=self._peak, **growth)

    def _growth(self, name: str) -> int | None:
        first, last = _sum(self._first, name), _sum(self._last, name)
        return None if first is None or last is None else last - first


def _sum(look: Look, name: str) -> int | None:
    values = [None if told is None else _COUNTERS[name](told) for told in look]
    known = [value for value in values if value is not None]
    return sum(known) if values and len(known) == len(values) else None


def _is_less(told: EngineMetrics, before: EngineMetrics) -> bool:
    return any((count(told) or 0) < (count(before) or 0) for count in _COUNTERS.values())


class ServerWatch:
    """Looks at the engines' metrics five times a second, from `start` to `stop`, inside a running event loop.

    An engine that tells nothing, or vanishes, raises nothing: what it leaves open is None in the view.
    """

    def __init__(
        self, endpoints: Sequence[Endpoint], access: Access = _NONE, *, every_s: float = _EVERY_S
    ) -> None:
        self._endpoints = tuple(endpoints)
        self._access = access
        self._every_s = every_s
        self._tally = Tally()
        self.looks: list[tuple[float, int]] = []
        """When it looked, on the monotonic clock, and how many requests all engines had."""
        self._clients: list[EngineClient] = []
        self._ending = asyncio.Event()
        self._watching: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Take the first look, from which the counters' growth counts, and go on looking."""
        self._clients = [
            EngineClient(
                endpoint,
                model="",
                api="chat",
                usage_per_chunk=False,
                api_key=self._access.api_key,
                ca_file=self._access.ca_file,
            )
            for endpoint in self._endpoints
        ]
        await self._look()
        self._watching = asyncio.create_task(self._look_on())

    async def stop(self) -> ServerView:
        """Take the last look; what was seen."""
        try:
            if self._watching is not None:
                self._ending.set()
                await self._watching
        finally:
            await asyncio.gather(*(client.close() for client in self._clients))
            self._clients = []
        return self._tally.view()

    async def _look_on(self) -> None:
        over = False
        while not over:
            over = await set_within(self._ending, self._every_s)
            await self._look()

    async def _look(self) -> None:
        found = self._tally.add(await asyncio.gather(*(_metrics(client) for client in self._clients)))
        if found is not None:
            self.looks.append((time.monotonic(), found))


async def _metrics(client: EngineClient) -> EngineMetrics | None:
    try:
        return await client.metrics()
    except (EngineUnavailable, ValueError, OverflowError):  # gone, or its figures are none
        return None
