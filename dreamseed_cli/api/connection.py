"""A client's connection: uvicorn's, with bounds it lacks, so that slow clients do not use up the front."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_S = 30.0
"""How long a request's head may take from its first byte, or from the connection's opening."""
LONGEST_HEAD_BYTES = 64 * 1024
UNREAD_S = 30.0
"""How long a client may leave unread what it was sent."""


def bound_writes(listener: socket.socket) -> None:
    """Have the kernel end a connection whose client takes nothing for UNREAD_S, as if it had broken: an
    answer to one that is open and reads nothing would stay in memory for ever. Connections inherit it.
    """
    if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(UNREAD_S * 1000))


class Connection(HttpToolsProtocol):
    """Closes at once what sends no whole head in HEAD_S; answers 400 to a head that is too long."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._overdue: asyncio.TimerHandle | None = None
        self._in_head = False
        self._head_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn's
        super().connection_made(transport)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        self._unwatch()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        # Bytes between two requests end uvicorn's own bound on idle connections.
        if self._overdue is None and (self.cycle is None or self.cycle.response_complete):
            self._watch()
        super().data_received(data)
        if self._in_head:
            self._head_bytes += len(data)
            if self._head_bytes > LONGEST_HEAD_BYTES and not self.transport.is_closing():
                self.send_400_response("The request's head is too long.")

    def on_message_begin(self) -> None:
        self._in_head, self._head_bytes = True, 0
        self._watch()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._unwatch()
        super().on_headers_complete()

    def _watch(self) -> None:
        self._unwatch()
        self._overdue = self.loop.call_later(HEAD_S, self.transport.abort)

    def _unwatch(self) -> None:
        if self._overdue is not None:
            self._overdue.cancel()
            self._overdue = None
