"""How many requests our gateway or HTTP front has: those that wait in its own queue no engine has seen."""

from __future__ import annotations

import asyncio
import ssl
import time

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from dreamseed_cli.bench.target.key import Access
from dreamseed_cli.core.exposition import ONLY
from dreamseed_cli.core.waiting import set_within
from dreamseed_cli.engine.types import Endpoint

_WAITING, _UNDER_WAY = "dreamseed_queue_length", "dreamseed_replica_outstanding_requests"
_IN_FRONT = "dreamseed_api_requests_in_flight"
_NAMES = (_WAITING, _UNDER_WAY, _IN_FRONT)
_EVERY_S = 0.5
"""Seldom: the very process that is measured writes them out."""
_ASKED = [(ONLY, name) for name in _NAMES]
_NONE = Access()
_TIMEOUT = aiohttp.ClientTimeout(total=5)


def requests_in(text: str) -> int | None:
    """Waiting and under way by a gateway's metrics, or in flight by a front's; None if neither wrote them."""
    families = text_string_to_metric_families(text)
    values = [sample.value for family in families for sample in family.samples if sample.name in _NAMES]
    return int(sum(values)) if values else None


class QueueWatch:
    """Looks at three of `door`'s metrics twice a second, from `start` to `stop`, inside a running event loop.

    A door that tells nothing, or vanishes, raises nothing.
    """

    def __init__(self, door: Endpoint, access: Access = _NONE, *, every_s: float = _EVERY_S) -> None:
        self._door = door
        self._access = access
        self._every_s = every_s
        self.looks: list[tuple[float, int]] = []
        """When it looked, on the monotonic clock, and how many requests the door had."""
        self._ending = asyncio.Event()
        self._watching: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Go on looking until `stop`."""
        self._watching = asyncio.create_task(self._look_on())

    async def stop(self) -> int | None:
        """The most requests it had at a time; None if it never told."""
        self._ending.set()
        if self._watching is not None:
            await self._watching
        return max((count for _, count in self.looks), default=None)

    async def _look_on(self) -> None:
        socket = self._door.socket
        trust = ssl.create_default_context(cafile=self._access.ca_file)
        connector = aiohttp.UnixConnector(str(socket)) if socket else aiohttp.TCPConnector(ssl=trust)
        async with aiohttp.ClientSession(
            connector=connector, timeout=_TIMEOUT, headers=self._access.headers
        ) as session:
            while not await set_within(self._ending, self._every_s):
                found = await self._look(session)
                if found is not None:
                    self.looks.append((time.monotonic(), found))

    async def _look(self, session: aiohttp.ClientSession) -> int | None:
        try:
            url = f"{self._door.url or 'http://gateway'}/metrics"
            async with session.get(url, params=_ASKED) as reply:
                return requests_in(await reply.text()) if reply.status == 200 else None
        except (aiohttp.ClientError, ssl.SSLError, OSError, TimeoutError, ValueError):
            return None
