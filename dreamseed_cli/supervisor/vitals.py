"""What one engine says of itself and what the gateway saw of it, joined for operators and the watchdog."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from dreamseed_cli.engine.client import EngineClient
from dreamseed_cli.engine.metrics import EngineMetrics
from dreamseed_cli.engine.types import EngineError
from dreamseed_cli.supervisor.gateway_admin import ReplicaCounts
from dreamseed_cli.supervisor.rates import RateWindow
from dreamseed_cli.supervisor.watchdog import Look

_LOOK_S = 0.8
"""An engine that hangs as a whole must not keep the others from being looked at."""


@dataclass(frozen=True, slots=True)
class Load:
    """What an engine last said of itself."""

    running: int | None = None
    waiting: int | None = None
    tokens_per_s: float | None = None
    kv_usage: float | None = None


class Vitals:
    """The figures of one engine."""

    def __init__(self, client: EngineClient) -> None:
        self.load = Load()
        self._client = client
        self._rate = RateWindow()

    def forget(self) -> None:
        """It is not there: it has no figures."""
        self.load = Load()

    async def look(self, now: float, counts: ReplicaCounts | None) -> Look:
        """Read its metrics, or where it has none what the gateway counted. now: monotonic seconds."""
        metrics = await self._metrics()
        total = metrics.generation_tokens_total if metrics else counts.tokens if counts else None
        if total is not None:
            self._rate.add(now, total)
        rate = self._rate.per_s()
        if metrics is None:
            self.load = Load(tokens_per_s=rate)
        else:
            self.load = Load(metrics.running, metrics.waiting, rate, metrics.kv_usage)
        return Look(
            outstanding=counts.outstanding if counts else None,
            progress=counts.progress if counts else None,
            running=metrics.running + metrics.waiting if metrics else None,
            computed=metrics.generation_tokens_total + metrics.prompt_tokens_total if metrics else None,
            generated=metrics.generation_tokens_total if metrics else None,
            delivered=counts.finished if counts else 0,
            undelivered=counts.failed + counts.busy if counts else 0,
        )

    async def _metrics(self) -> EngineMetrics | None:
        try:
            async with asyncio.timeout(_LOOK_S):
                return await self._client.metrics()
        except (EngineError, TimeoutError):
            return None
