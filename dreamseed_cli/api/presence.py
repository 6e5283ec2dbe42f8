"""Whether the gateway is there: a breaker before it, a probe that finds it, requests that wait for that."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress

from dreamseed_cli.api.metrics import ApiMetrics
from dreamseed_cli.core.dependency import Dependency, DependencyDown

_PROBE_EVERY_S = 0.5
PROBE_TIMEOUT_S = 2.0
_SPREAD_S = 0.2
"""Those that waited for it come back within this time, not all at once."""


class Presence:
    """Make it inside a running event loop.

    check: asks the gateway; raises if it does not answer or has no engine. timeout_s: the longest that any
    call may take, in seconds. most_waiting: how many requests wait at a time; each holds its body in memory.
    """

    def __init__(
        self,
        check: Callable[[], Awaitable[None]],
        metrics: ApiMetrics,
        *,
        timeout_s: float,
        most_waiting: int,
    ) -> None:
        self._check = check
        self._metrics = metrics
        self._tell_breaker = metrics.watch_breaker()
        self._waiting = 0
        self._most_waiting = most_waiting
        self._prober: asyncio.Task[None] | None = None
        self.dependency = Dependency(
            "gateway", timeout_s=timeout_s, retry_after_s=_PROBE_EVERY_S, on_state=self._breaker_changed
        )

    @property
    def up(self) -> bool:
        """Whether the gateway answered lately, as far as is known."""
        return self.dependency.state == "closed"

    async def returned(self, within_s: float) -> bool:
        """Wait until it answers and has an engine; False if it does not in time, or too many wait already."""
        if self._waiting >= self._most_waiting or within_s <= 0:
            return False
        self._count(1)
        try:
            async with asyncio.timeout(within_s):
                await asyncio.shield(self._probing())
                await asyncio.sleep(random.uniform(0, _SPREAD_S))  # noqa: S311 - spreads, hides nothing
        except TimeoutError:
            return False
        finally:
            self._count(-1)
        return self.up

    def close(self) -> None:
        """Stop looking for it."""
        if self._prober is not None:
            self._prober.cancel()

    def _count(self, change: int) -> None:
        self._waiting += change
        self._metrics.waiting.set(self._waiting)

    def _breaker_changed(self, state: str) -> None:
        self._tell_breaker(state)
        if state == "opened":
            self._probing()

    def _probing(self) -> asyncio.Task[None]:
        """One look-out for everybody: it is found without any client's request having to."""
        if self._prober is None or self._prober.done():
            self._prober = asyncio.create_task(self._probe())
        return self._prober

    async def _probe(self) -> None:
        while True:
            with suppress(DependencyDown):
                await self.dependency.call(self._check, timeout_s=PROBE_TIMEOUT_S)
                return
            await asyncio.sleep(_PROBE_EVERY_S)
