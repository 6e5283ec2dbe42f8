"""How often a call takes a piece of its answer: the more calls there are, the fewer and longer the pieces."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

# A grpc.aio server writes two to three times as many on one core; the rest is for everything else.
_MESSAGES_PER_S = 8000.0
_SHORTEST_PAUSE_S = 0.005


class Pace:
    """Shared by all calls of a gateway.

    A message costs the gateway far more than the tokens in it. With few calls every chunk is passed on as
    it comes; with many, each pauses after a piece, so that all of them together pass on about 8,000 a
    second, and what the engine generates meanwhile becomes one piece. First tokens never wait.
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

    async def wait(self, *, last: bool) -> None:
        """After a piece; gives way to the others' first tokens in any case. last: no other piece follows."""
        await asyncio.sleep(0.0 if last else self.pause_s())
