"""Looks after the relay: it has no door to knock at, so what can be known is that its process goes on."""

from __future__ import annotations

import asyncio

from dreamseed_cli.services.keeping import RunStep

_GOOD_START_S = 2.0


class RelayKeeper:
    """Make it inside a running event loop."""

    def __init__(self) -> None:
        self._started_at = 0.0

    async def prepare(self, run: RunStep) -> None:
        self._started_at = asyncio.get_running_loop().time()

    async def probe(self) -> str | None:
        """None once it has not ended for two seconds: wrong settings end it before."""
        young = asyncio.get_running_loop().time() - self._started_at < _GOOD_START_S
        return "it is starting" if young else None
