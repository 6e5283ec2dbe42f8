"""Timed HTTP: an engine's connection whose bytes are dealt with, and stamped, in the moment they arrive.

The pool hands out as many connections as are wanted: a load that waits in its own client hides what it is
to measure.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Protocol, cast

from dreamseed_cli.engine.http_stream import HttpConnection, HttpPool
from dreamseed_cli.engine.types import Endpoint

_KEPT_BYTES = 64 * 1024
_STREAM_TYPES = frozenset({"text/event-stream", ""})


class Sink(Protocol):
    """Takes a stream's bytes, with the monotonic moment of their arrival; over: no more matter."""

    over: bool

    def feed(self, data: bytes, at_s: float) -> None: ...


class TimedConnection(HttpConnection):
    """One response at a time, read to its end without waking anybody in between.

    arrived: the monotonic moment of the newest bytes, or of the request.
    kept: the beginning of a body that is no event stream.
    replica, cache: as our own front tells them in headers. not_http, was_reset, stalled: why it failed.
    """

    def __init__(self) -> None:
        super().__init__()
        self._begin(None)

    def _begin(self, sink: Sink | None) -> None:
        self._sink = sink
        self._streams = False
        self.arrived = time.monotonic()
        self.kept = b""
        self.replica = ""
        self.cache = ""
        self.not_http = self.was_reset = self.stalled = False

    def ask(self, request: bytes, sink: Sink | None, *, stall_s: float, timeout_s: float) -> None:
        """Send a request; an event stream that comes of it goes to `sink`.

        TimeoutError follows after `stall_s` without a byte, and `timeout_s` from now.
        """
        self._begin(sink)
        until = self.arrived + timeout_s

        def left_s() -> float:
            silent_until = self.arrived + stall_s
            self.stalled = silent_until < until
            return min(silent_until, until) - time.monotonic()

        self.more_time = left_s
        self.send(request, self._loop.time() + min(stall_s, timeout_s))

    async def ended(self) -> None:
        """Wait for the response, or all of it that matters. Raises ConnectionCut or TimeoutError."""
        while not self._satisfied():
            await self._wait()

    @property
    def started(self) -> bool:
        """Whether status and headers have arrived."""
        return self._started

    @property
    def streams(self) -> bool:
        """Whether the response is an event stream."""
        return self._streams

    def data_received(self, data: bytes) -> None:
        self.arrived = time.monotonic()
        super().data_received(data)
        self.not_http = self._failure is not None  # the parser is all that can fail here

    def connection_lost(self, exc: Exception | None) -> None:
        self.was_reset = exc is not None
        super().connection_lost(exc)

    def on_header(self, name: bytes, value: bytes) -> None:
        super().on_header(name, value)
        lowered = name.lower()
        if lowered == b"x-dreamseed-replica":
            self.replica = value.decode("latin-1")
        elif lowered == b"x-dreamseed-cache":
            self.cache = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        self._streams = self._sink is not None and self.status == 200 and self.content_type in _STREAM_TYPES

    def on_body(self, body: bytes) -> None:
        if self._streams and self._sink is not None:
            self._sink.feed(body, self.arrived)
        elif len(self.kept) < _KEPT_BYTES:
            self.kept += body

    def _satisfied(self) -> bool:
        return self.complete or (self._sink is not None and self._sink.over)

    def _wake(self) -> None:
        # Every read would wake the waiter only to let it sleep again: at thousands of streams that is most of
        # what a token costs.
        if self._failure is not None or self._satisfied():
            super()._wake()


class TimedPool(HttpPool):
    """Timed connections to one server. connect_timeout_s: for each."""

    def __init__(
        self, endpoint: Endpoint, headers: dict[str, str], *, connect_timeout_s: float, ca_file: Path | None
    ) -> None:
        super().__init__(endpoint, headers, ca_file=ca_file)
        self._connect_timeout_s = connect_timeout_s

    def idle(self) -> TimedConnection | None:
        """One that is open and free."""
        return cast("TimedConnection | None", self._take_idle())

    async def connect(self) -> TimedConnection:
        """A new one. Raises OSError or TimeoutError."""
        return cast("TimedConnection", await self._connect(0.0))

    def post_request(self, path: str, body: bytes) -> bytes:
        """A POST to one of a few paths, as bytes."""
        return b"%b%d\r\n\r\n%b" % (self._heads.get(path) or self._make_head(path), len(body), body)

    def get_request(self, path: str) -> bytes:
        """A GET, as bytes."""
        return f"GET {self._base.path.rstrip('/')}{path} HTTP/1.1\r\n{self._lines}\r\n".encode()

    async def _connect(self, deadline: float) -> HttpConnection:
        """A new connection. deadline: not asked, as connecting has its own time here."""
        async with asyncio.timeout(self._connect_timeout_s):
            if self._endpoint.socket is not None:
                path = str(self._endpoint.socket)
                _, connection = await self._loop.create_unix_connection(TimedConnection, path)
            else:
                host, port = self._base.host or "localhost", self._base.port or 80
                _, connection = await self._loop.create_connection(TimedConnection, host, port, ssl=self.tls)
        self._all.add(connection)
        return connection
