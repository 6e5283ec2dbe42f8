"""HTTP/1.1 for streamed answers: POST a body, read the response as it arrives, keep the connection.

A general HTTP client spends more on a request than gRPC and the rest of the gateway together, and this is the
path every token takes. The parsing is llhttp's (httptools); what is here is a connection, a pool, a deadline.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import cast
from weakref import WeakSet

import httptools
from yarl import URL

from dreamseed_cli.engine.types import Endpoint

_CONNECT_TIMEOUT_S = 5.0
# Below the 5 s after which vLLM's server closes an idle connection: a request must not race its closing.
_KEEP_IDLE_S = 2.5
_READ_AHEAD_BYTES = 256 * 1024
_LONGEST_END_WAIT_S = 1.0
_FRAMING = (b"content-length", b"transfer-encoding")
_PROVENANCE = b"x-dreamseed-provenance"


class ConnectionCut(ConnectionError):
    """The other side closed the connection, or sent what is no HTTP, before the response was complete."""


class HttpConnection(asyncio.Protocol):
    """One connection, one response at a time.

    status, content_type: of the response, once `response_started` returned.
    simulated: whether the response says that it comes from an emulated engine.
    complete: whether the response has arrived to its end.
    more_time: asked at the deadline for further seconds. on_complete: called when a response with status 200
    has arrived to its end. Both belong to one request.
    """

    _transport: asyncio.Transport
    _parser: httptools.HttpResponseParser

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._waiter: asyncio.Future[None] | None = None
        self._deadline: asyncio.TimerHandle | None = None
        # Made anew for each that waits: an error holds the frames it came through, and they hold this.
        self._failure: Callable[[], Exception] | None = None
        self._body: list[bytes] = []
        self._unread = 0
        self._paused = False
        self._busy = False
        self._started = False
        self._framed = False
        self._lasting = False
        self._keep: Callable[[HttpConnection], None] | None = None
        self.complete = False
        self.status = 0
        self.content_type = ""
        self.simulated = False
        self.idle_since = 0.0
        self.more_time: Callable[[], float] | None = None
        self.on_complete: Callable[[], None] | None = None

    def send(self, data: bytes, deadline: float) -> None:
        """Send a request; its response must be complete at `deadline` (loop time) or TimeoutError follows."""
        self._parser = httptools.HttpResponseParser(self)
        self._busy = True
        self._started = self._framed = self._lasting = self.complete = False
        self.content_type = ""
        self.simulated = False
        self._deadline = self._loop.call_at(deadline, self._expire)
        self._transport.write(data)

    async def response_started(self) -> None:
        """Wait for status and headers. Raises ConnectionCut or TimeoutError."""
        while not self._started:
            await self._wait()

    async def read(self) -> bytes:
        """All of the body that has arrived and was not read; b"" at its end. Raises as above."""
        while not self._body:
            if self.complete:
                return b""
            await self._wait()
        data = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        self._forget_body()
        return data

    def release(self, keep: Callable[[HttpConnection], None], *, satisfied: bool) -> None:
        """End the request and pass a connection that can serve another to `keep`; close any other.

        satisfied: all that matters was read. The response's end is then awaited in the background, so that
        nobody waits for it and the connection is not lost over it.
        """
        if self._deadline is not None:
            self._deadline.cancel()
        self._keep = keep
        self.more_time = self.on_complete = None
        self._forget_body()
        if not self.complete and satisfied and self.usable():
            self._deadline = self._loop.call_later(_LONGEST_END_WAIT_S, self._expire)
        else:
            self._settle()

    def _settle(self) -> None:
        keep, self._keep = self._keep, None
        if self._deadline is not None:
            self._deadline.cancel()
        if keep is not None and self.complete and self._lasting and self.usable():
            self._busy = False
            self.idle_since = self._loop.time()
            self._forget_body()
            keep(self)
        else:
            self.close()

    def usable(self) -> bool:
        """Whether the connection still stands, as far as is known."""
        return self._failure is None and not self._transport.is_closing()

    def close(self) -> None:
        """Close at once, what was not sent is dropped: the other side sees it and stops."""
        self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are not of asyncio's class.
        self._transport = cast("asyncio.Transport", transport)
        self._parser = httptools.HttpResponseParser(self)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._started and not self._framed and exc is None:
            self.complete = True  # HTTP/1.0's way to end a body
        self._fail(partial(ConnectionCut, str(exc) if exc else "the engine closed it"))
        # It holds our methods, and they hold us: both would wait for the garbage collector.
        del self._parser

    def data_received(self, data: bytes) -> None:
        if not self._busy:
            self.close()  # nobody asked for this: the connection is out of step
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._fail(partial(ConnectionCut, f"what came is not HTTP: {error}"))
            self.close()
        if self._keep is not None and self.complete:
            self._settle()
        self._wake()

    def on_message_begin(self) -> None:
        if self.complete:
            raise ConnectionCut("a second response")

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        if name == b"content-type":
            self.content_type = value.split(b";", 1)[0].strip().lower().decode("latin-1")
        elif name == _PROVENANCE:
            self.simulated = value.strip() == b"simulated"
        elif name in _FRAMING:
            self._framed = True

    def on_headers_complete(self) -> None:
        self.status = self._parser.get_status_code()
        self._started = True

    def on_body(self, body: bytes) -> None:
        self._body.append(body)
        self._unread += len(body)
        if self._unread > _READ_AHEAD_BYTES and not self._paused:
            self._paused = True
            self._transport.pause_reading()

    def on_message_complete(self) -> None:
        self.complete = True
        self._lasting = self._parser.should_keep_alive()
        if self.on_complete is not None and self.status == 200:
            self.on_complete()

    def _expire(self) -> None:
        further_s = self.more_time() if self.more_time is not None else 0.0
        if further_s > 0:
            self._deadline = self._loop.call_later(further_s, self._expire)
            return
        self._fail(TimeoutError)
        self.close()

    def _fail(self, error: Callable[[], Exception]) -> None:
        self._failure = self._failure or error
        self._wake()

    def _forget_body(self) -> None:
        self._body.clear()
        self._unread = 0
        if self._paused:
            self._paused = False
            self._transport.resume_reading()

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    async def _wait(self) -> None:
        if self._failure is not None:
            raise self._failure()
        self._waiter = self._loop.create_future()
        await self._waiter


class HttpPool:
    """Connections to one server, as many as are needed: requests queue in the engine, where they are seen.

    headers: sent with every request. ca_file: believe this authority only (PEM); None: the system's.
    tls: what connections are opened with, None for http.
    """

    def __init__(self, endpoint: Endpoint, headers: dict[str, str], *, ca_file: Path | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        self._endpoint = endpoint
        self._base = URL((endpoint.url or "http://engine").rstrip("/"))
        self._idle: deque[HttpConnection] = deque()
        self._all: WeakSet[HttpConnection] = WeakSet()
        # Reading the certificate authorities takes longer than an answer's first token: once, not each time.
        self.tls = ssl.create_default_context(cafile=ca_file) if self._base.scheme == "https" else None
        lines = {"Host": self._base.authority, **headers}
        self._lines = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        self._heads: dict[str, bytes] = {}

    async def post(self, path: str, body: bytes, deadline: float) -> HttpConnection:
        """Send `body` to one of a few paths; the connection its response arrives on. Give it back with
        release().

        deadline: loop time. Raises OSError or TimeoutError if there is no connection.
        """
        connection = self._take_idle() or await self._connect(deadline)
        head = self._heads.get(path) or self._make_head(path)
        connection.send(b"%b%d\r\n\r\n%b" % (head, len(body), body), deadline)
        return connection

    def release(self, connection: HttpConnection, *, satisfied: bool) -> None:
        """Give a connection back; it is closed unless its response was read as far as it matters."""
        connection.release(self._idle.append, satisfied=satisfied)

    def close(self) -> None:
        """Close every connection, those in use too."""
        for connection in list(self._all):
            connection.close()
        self._idle.clear()

    def _make_head(self, path: str) -> bytes:
        line = f"POST {self._base.path.rstrip('/')}{path} HTTP/1.1\r\n{self._lines}Content-Length: "
        return self._heads.setdefault(path, line.encode())

    def _take_idle(self) -> HttpConnection | None:
        oldest_allowed = self._loop.time() - _KEEP_IDLE_S
        while self._idle and not (self._idle[0].usable() and self._idle[0].idle_since >= oldest_allowed):
            self._idle.popleft().close()
        while self._idle:
            connection = self._idle.pop()
            if connection.usable():
                return connection
        return None

    async def _connect(self, deadline: float) -> HttpConnection:
        loop = self._loop
        async with asyncio.timeout_at(min(deadline, loop.time() + _CONNECT_TIMEOUT_S)):
            if self._endpoint.socket is not None:
                _, connection = await loop.create_unix_connection(HttpConnection, str(self._endpoint.socket))
            else:
                host, port = self._base.host or "localhost", self._base.port or 80
                _, connection = await loop.create_connection(HttpConnection, host, port, ssl=self.tls)
        self._all.add(connection)
        return connection
