"""How often a stream sends: the more streams there are, the fewer and longer their messages."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

# A grpc.aio server writes two to three times as many on one core; the rest is for everything else.
_MESSAGES_PER_S = 8000.0
_SHORTEST_PAUSE_S = 0.005


class Pace:
    """Shared by all streams of a gateway.

    A message costs the gateway far more than the tokens in it. With few streams every chunk is sent as it
    comes; with many, each stream pauses after a message, so that all of them together send about 8,000 a
    second, and what the engine generates meanwhile becomes one message. First tokens never wait.
    """

    def __init__(self) -> None:
        self._streams = 0

    @contextmanager
    def stream(self) -> Iterator[None]:
        """While one stream is under way."""
        self._streams += 1
        try:
            yield
        finally:
            self._streams -= 1

    def pause_s(self) -> float:
        """How long a stream waits after a message, in seconds."""
        pause_s = self._streams / _MESSAGES_PER_S
        return pause_s if pause_s >= _SHORTEST_PAUSE_S else 0.0

    async def wait(self) -> None:
        """After a message; gives way to the other streams' first tokens in any case."""
        await asyncio.sleep(self.pause_s())
