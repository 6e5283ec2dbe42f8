"""How much waits for Kafka, and whether the relay gets on: seen from the gateway, so a dead relay shows."""

from __future__ import annotations

import asyncio
import math

from dreamseed_cli.gateway.events.backoff import Backoff
from dreamseed_cli.gateway.events.connection import PostgresAway, SchemaMissing
from dreamseed_cli.gateway.events.outbox import Outbox, Waiting
from dreamseed_cli.gateway.metrics import GatewayMetrics

_EVERY_S = 10.0
_STALLED_S = 15.0


def stalled(waiting: Waiting) -> bool:
    """Whether events wait and none has gone out for a while: the relay or the brokers are away."""
    last_s = math.inf if waiting.published_s is None else waiting.published_s
    return waiting.oldest_s is not None and min(waiting.oldest_s, last_s) > _STALLED_S


class Backlog:
    """Looks at the outbox every 10 s, over every failure of PostgreSQL."""

    def __init__(self, outbox: Outbox, metrics: GatewayMetrics) -> None:
        self._outbox = outbox
        self._metrics = metrics
        self._log = Backoff("the look at what waits for Kafka")
        self._tell_state = metrics.watch_dependency("kafka")

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(_EVERY_S)

    async def look(self) -> None:
        """Set the gauges. While PostgreSQL is away nobody knows: they are NaN, and Kafka's state stays."""
        try:
            found = await self._outbox.backlog()
        except PostgresAway as error:
            if not isinstance(error, SchemaMissing):  # the journal's way into PostgreSQL says that already
                self._log.failed(error)
            count = oldest_s = math.nan
        else:
            self._log.went_well()
            count, oldest_s = float(found.events), found.oldest_s or 0.0
            self._tell_state("opened" if stalled(found) else "closed")
        self._metrics.outbox_waiting.set(count)
        self._metrics.outbox_oldest.set(oldest_s)

    async def end(self, looking: asyncio.Task[None]) -> None:
        """End a task that runs this, whatever PostgreSQL does."""
        looking.cancel()
        # psycopg would wait for the server to hear of the cancellation, and that may hang.
        self._outbox.cut()
        await asyncio.gather(looking, return_exceptions=True)
        await self._outbox.close()
