"""A stub engine that costs next to nothing: vLLM's wire format, everything said beforehand.

A stream's first token leaves TTFT_MS (or what the command says) after its request, each further one ITL_MS
after the one before; one timer for all streams looks every millisecond at those that are due. GET /streams
tells how many are under way, how many were at most, how many came and the time between the first and the
last of them. A request whose body holds AT_ONCE is
answered whole and immediately. Every token holds MARK once, so whoever reads an answer counts bytes, however
tokens were put together on their way.
Run it: `python -m benchmarks._stub PORT [TTFT_MS ITL_MS]`.
"""

from __future__ import annotations

import asyncio
import functools
import gc
import signal
import sys
from collections import deque
from collections.abc import Sequence
from time import monotonic
from typing import cast

import httptools
import msgspec
import uvloop

MODEL = "stub"
MARK = b"~"
WORD = "word~ "
AT_ONCE = b"(at once)"
TTFT_MS = 50
ITL_MS = 10

_TICK_S = 0.001
_CREATED = 1_790_000_000
_PROMPT_TOKENS = 16
_DEFAULT_TOKENS = 16
_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: %b\r\n"
_STREAM_HEAD = _HEAD % b"text/event-stream; charset=utf-8" + b"transfer-encoding: chunked\r\n\r\n"
_LAST_CHUNK = b"0\r\n\r\n"


class _StreamOptions(msgspec.Struct, gc=False):
    include_usage: bool = False
    continuous_usage_stats: bool = False


class _Body(msgspec.Struct, gc=False):
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    """The newer name of the same; some clients send it alone."""
    stream: bool = False
    stream_options: _StreamOptions | None = None


_decode = msgspec.json.Decoder(_Body).decode


def _usage(tokens: int) -> dict[str, int]:
    return {
        "prompt_tokens": _PROMPT_TOKENS,
        "total_tokens": _PROMPT_TOKENS + tokens,
        "completion_tokens": tokens,
    }


def _document(kind: str, choices: Sequence[object]) -> dict[str, object]:
    return {"id": "chatcmpl-stub", "object": kind, "created": _CREATED, "model": MODEL, "choices": choices}


def _event(delta: dict[str, str], tokens: int, finish: str | None, *, usage: bool) -> bytes:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
    document = _document("chat.completion.chunk", [choice])
    return _sse(document | ({"usage": _usage(tokens)} if usage else {}))


def _sse(document: object) -> bytes:
    return b"data: %b\n\n" % msgspec.json.encode(document)


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


@functools.cache
def stream_chunks(tokens: int, *, usage_last: bool, usage_each: bool) -> tuple[bytes, ...]:
    """One HTTP chunk a token; head and role before the first one, usage and end mark behind the last."""
    events = [
        _event({"content": WORD}, index, "length" if index == tokens else None, usage=usage_each)
        for index in range(1, tokens + 1)
    ]
    chunks = [_chunk(event) for event in events]
    role = _event({"role": "assistant", "content": ""}, 0, None, usage=usage_each)
    chunks[0] = _STREAM_HEAD + _chunk(role) + chunks[0]
    if usage_last:
        chunks[-1] += _chunk(_sse(_document("chat.completion.chunk", []) | {"usage": _usage(tokens)}))
    chunks[-1] += _chunk(b"data: [DONE]\n\n") + _LAST_CHUNK
    return tuple(chunks)


@functools.cache
def whole_answer(tokens: int) -> bytes:
    """The response to a request that is not streamed."""
    message = {"role": "assistant", "content": WORD * tokens}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "length"}
    return json_response(_document("chat.completion", [choice]) | {"usage": _usage(tokens)})


def json_response(document: object) -> bytes:
    """A whole JSON response."""
    body = msgspec.json.encode(document)
    return _HEAD % b"application/json" + b"content-length: %d\r\n\r\n%b" % (len(body), body)


_MODELS = {
    "object": "list",
    "data": [{"id": MODEL, "object": "model", "owned_by": "stub", "max_model_len": 4096}],
}
# What routers ask of a worker before and while they use it. Unknown paths get an empty object.
_PLAIN: dict[bytes, bytes] = {
    b"/v1/models": json_response(_MODELS),
    b"/version": json_response({"version": "0.32.0"}),
    b"/metrics": _HEAD % b"text/plain; version=0.0.4" + b"content-length: 0\r\n\r\n",
}
_NOTHING = json_response({})


class _Stream:
    """One answer under way."""

    __slots__ = ("chunks", "next", "transport")

    def __init__(self, transport: asyncio.Transport, chunks: Sequence[bytes]) -> None:
        self.transport = transport
        self.chunks = chunks
        self.next = 0


class _Clock:
    """Writes what is due. Times are whole milliseconds of the monotonic clock."""

    def __init__(self, ttft_ms: int, itl_ms: int) -> None:
        self._ttft_ms = ttft_ms
        self._itl_ms = itl_ms
        self._loop = asyncio.get_running_loop()
        self._first: deque[tuple[int, _Stream]] = deque()
        self._slots: list[list[_Stream]] = [[] for _ in range(itl_ms)]
        self._running = self._peak = self._came = 0
        self._first_ms = self._last_ms = 0
        self._done_ms = 0

    def told(self) -> bytes:
        """What is known of the streams, as a response."""
        return json_response(
            {
                "running": self._running,
                "peak": self._peak,
                "came": self._came,
                "span_ms": self._last_ms - self._first_ms,
            }
        )

    def start(self, stream: _Stream) -> None:
        now = int(monotonic() * 1000)
        self._first.append((now + self._ttft_ms, stream))
        self._first_ms = self._first_ms or now
        self._last_ms = now
        self._came += 1
        self._running += 1
        self._peak = max(self._peak, self._running)
        if self._running == 1:
            self._done_ms = now
            self._loop.call_later(_TICK_S, self._tick)

    def _tick(self) -> None:
        now = int(monotonic() * 1000)
        first = self._first
        for moment in range(self._done_ms + 1, now + 1):
            due = self._slots[moment % self._itl_ms]
            while first and first[0][0] <= moment:
                due.append(first.popleft()[1])
            if due:
                self._slots[moment % self._itl_ms] = [stream for stream in due if self._write(stream)]
        self._done_ms = now
        if self._running:
            self._loop.call_later(_TICK_S, self._tick)

    def _write(self, stream: _Stream) -> bool:
        """Write a stream's next token; whether it goes on."""
        at = stream.next
        if not stream.transport.is_closing():
            stream.transport.write(stream.chunks[at])
            stream.next = at = at + 1
            if at < len(stream.chunks):
                return True
        self._running -= 1
        return False


class _Connection(asyncio.Protocol):
    """HTTP/1.1 with keep-alive."""

    _transport: asyncio.Transport

    def __init__(self, clock: _Clock) -> None:
        self._clock = clock
        self._parser = httptools.HttpRequestParser(self)
        self._path = b""
        self._body = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._transport.close()

    def on_url(self, url: bytes) -> None:
        self._path, self._body = url, b""

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        if self._path == b"/streams":
            self._transport.write(self._clock.told())
            return
        if self._path != b"/v1/chat/completions":
            self._transport.write(_PLAIN.get(self._path, _NOTHING))
            return
        body = _decode(self._body)
        at_once = AT_ONCE in self._body
        tokens = body.max_tokens or body.max_completion_tokens or _DEFAULT_TOKENS
        if not body.stream:
            chunks: tuple[bytes, ...] = (whole_answer(tokens),)
        else:
            options = body.stream_options or _StreamOptions()
            chunks = stream_chunks(
                tokens,
                usage_last=options.include_usage,
                usage_each=options.continuous_usage_stats,
            )
        if at_once:
            self._transport.write(b"".join(chunks))
        else:
            self._clock.start(_Stream(self._transport, chunks))


async def _serve(port: int, ttft_ms: int = TTFT_MS, itl_ms: int = ITL_MS) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, stop.set)
    clock = _Clock(ttft_ms, itl_ms)
    server = await loop.create_server(lambda: _Connection(clock), "127.0.0.1", port, backlog=16384)
    gc.freeze()
    async with server:
        await stop.wait()


if __name__ == "__main__":
    uvloop.run(_serve(*map(int, sys.argv[1:])))
