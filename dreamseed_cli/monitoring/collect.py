"""One exposition from several collectors, none of which can spoil or hold up the others."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping

import structlog
from prometheus_client import CollectorRegistry, Gauge, generate_latest

Collector = Callable[[], Awaitable[bytes]]
"""Text in Prometheus's exposition format, its names nobody else's. It may fail."""
COLLECT_WITHIN_S = 4.0
"""Less than Prometheus's scrape timeout as rendered (5 s)."""


class Exposition:
    """Asks all collectors at once, each within a bound. Which failed is told and, if it `logs`, logged when
    it begins.
    """

    def __init__(
        self, collectors: Mapping[str, Collector], within_s: float = COLLECT_WITHIN_S, *, logs: bool = True
    ) -> None:
        self._collectors = collectors
        self._within_s = within_s
        self._logs = logs
        self._failing: set[str] = set()

    async def text(self) -> bytes:
        """What they tell, and which did: `dreamseed_collector_up`. Never fails."""
        pieces = await asyncio.gather(*(self._piece(name) for name in self._collectors))
        registry = CollectorRegistry()
        up = Gauge("dreamseed_collector_up", "Whether this part could be asked", ["part"], registry=registry)
        for name in self._collectors:
            up.labels(name).set(name not in self._failing)
        return b"".join([*pieces, generate_latest(registry)])

    async def _piece(self, name: str) -> bytes:
        try:
            piece = await asyncio.wait_for(self._collectors[name](), self._within_s)
        except Exception as error:  # noqa: BLE001 - whatever a part does, the others are told
            if self._logs and name not in self._failing:
                structlog.get_logger().warning("cannot be asked", part=name, error=str(error) or repr(error))
            self._failing.add(name)
            return b""
        self._failing.discard(name)
        return piece
