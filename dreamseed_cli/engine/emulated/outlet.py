"""Where one sequence's tokens go: an open SSE stream, or an answer that is sent as a whole."""

from __future__ import annotations

import asyncio

from dreamseed_cli.engine.emulated.chunks import GARBAGE, ChunkWriter
from dreamseed_cli.engine.emulated.text import Answer

STUCK_BYTES = 64 * 1024
"""Unsent bytes in a stream's socket from which on its tokens are merged instead of written.

So a client that does not read costs at most this and its answer's text, and delays nobody.
"""


def http_chunk(data: bytes) -> bytes:
    """`data` in HTTP's chunked transfer encoding."""
    return b"%x\r\n%s\r\n" % (len(data), data) if data else b""


class Outlet:
    """The receiving end of one sequence; `done` is set when its last token is due and gone."""

    streams = False

    def __init__(self, answer: Answer, loop: asyncio.AbstractEventLoop) -> None:
        self.answer = answer
        self.done: asyncio.Future[None] = loop.create_future()

    def prepare(self, index: int, *, garbage: bool = False) -> bytes:
        """The bytes of token `index` (from 0), made before it is due; empty if nothing is to be sent."""
        del index, garbage
        return b""

    def write(self, data: bytes) -> None:
        """Send prepared bytes."""

    def finish(self) -> None:
        """The last token was sent."""
        if not self.done.done():
            self.done.set_result(None)


class StreamOutlet(Outlet):
    """Writes events straight to the connection's transport, past the coroutine that handles the request."""

    streams = True

    def __init__(
        self,
        answer: Answer,
        loop: asyncio.AbstractEventLoop,
        *,
        writer: ChunkWriter,
        transport: asyncio.WriteTransport,
    ) -> None:
        super().__init__(answer, loop)
        self._writer = writer
        self._transport = transport
        self._opened = False
        self._unsent: list[str] = []
        self._stalled = False
        self._over = False
        self._closed = False
        # Every write goes to the kernel at once instead of at the end of the loop's turn.
        transport.set_write_buffer_limits(high=0)

    def prepare(self, index: int, *, garbage: bool = False) -> bytes:
        pieces = self.answer.pieces
        last = index + 1 == len(pieces)
        self._unsent.append(pieces[index])
        if self._stalled or (not last and self._transport.get_write_buffer_size() > STUCK_BYTES):
            return b""
        text = self._unsent[0] if len(self._unsent) == 1 else "".join(self._unsent)
        self._unsent.clear()
        self._closed = last
        if garbage:
            return http_chunk(GARBAGE)
        body = self._writer.closing(text, self.answer) if last else self._writer.token(text, index + 1)
        return self._opening() + http_chunk(body)

    def write(self, data: bytes) -> None:
        if not self.done.done():
            self._transport.write(data)

    def finish(self) -> None:
        self._over = True
        if self._closed:
            super().finish()

    def stall(self) -> None:
        """Send nothing more until `resume`."""
        self._stalled = True

    def resume(self) -> None:
        """Let go what was held back."""
        self._stalled = False
        if self._over and not self._closed:
            self._closed = True
            text = "".join(self._unsent)
            self.write(self._opening() + http_chunk(self._writer.closing(text, self.answer)))
            self.finish()

    def _opening(self) -> bytes:
        if self._opened:
            return b""
        self._opened = True
        return http_chunk(self._writer.opening())
