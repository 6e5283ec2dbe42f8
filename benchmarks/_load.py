"""The load: closed loops of streams and of unary calls over HTTP and gRPC, read as cheaply as Python can.

A reader counts the stub engine's marks in the bytes as they come and notes when the first one came; it
decodes neither JSON nor protobuf. gRPC is spoken by hand too (RFC 9113 frames, constant headers): grpc.aio's
client costs several times what the reader of HTTP does, and the comparison would be one of load generators.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import struct
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from time import perf_counter
from typing import cast

import grpc
import httptools

from benchmarks._stub import AT_ONCE, MARK, MODEL, WORD
from dreamseed_cli.gateway.proto import GENERATE, GENERATE_STREAM
from dreamseed_cli.gateway.proto.llm_pb2 import STANDARD, GenerateRequest, GenerateResponse

PROMPT = "Question {:07d}: why is the sky blue, and why is it red in the evening?"
DEADLINE_S = 60

_NUMBERS = itertools.count()
# A float of a protobuf message may hold any single byte.
_TOKEN_MARK = WORD.strip().encode()
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_FRAME = struct.Struct(">HBBBI")  # a length of 24 bits in two parts, type, flags, stream
_DATA, _HEADERS, _RESET, _SETTINGS, _PING, _GOAWAY = 0, 1, 3, 4, 6, 7
_ACK = _END_STREAM = 0x1
_END_HEADERS = 0x4
_WIDEST_WINDOW = 2**31 - 1


@dataclass(slots=True)
class Meter:
    """What all readers of one phase have read."""

    tokens: int = 0
    answers: int = 0
    messages: int = 0
    """Pieces that tokens came in; counted where they can be told apart (gRPC)."""


class Reading:
    """One request: when it was due, when its first token came, and how it ended (perf_counter seconds)."""

    __slots__ = ("done", "first", "scheduled", "tokens", "wanted", "whole", "why")

    def __init__(self, scheduled: float, wanted: int) -> None:
        self.scheduled = scheduled
        self.wanted = wanted
        self.first = 0.0
        self.tokens = 0
        self.whole = False
        self.why = ""
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def read(self, tokens: int) -> None:
        if not self.tokens:
            self.first = perf_counter()
        self.tokens += tokens

    def end(self, failure: str = "") -> None:
        """The answer is over: whole if nothing failed and it has every token that was asked for."""
        self.whole = not failure and self.tokens == self.wanted
        self.why = failure or ("" if self.whole else f"{self.tokens} tokens instead of {self.wanted}")
        if not self.done.done():
            self.done.set_result(None)


class Asker(ABC):
    """A connection on which requests are made."""

    meter: Meter

    @abstractmethod
    def ask(self, reading: Reading, *, stream: bool) -> None:
        """Send the request that `reading` will be the reading of."""

    @abstractmethod
    async def close(self) -> None:
        """Close the connection; readings under way end, not whole."""


@dataclass(frozen=True)
class Way:
    """A way to the engine.

    shared: one connection carries all requests (gRPC) instead of one each (HTTP/1.1).
    """

    connect: Callable[[Meter], Asker]
    shared: bool


def _prompt(*, stream: bool) -> str:
    prompt = PROMPT.format(next(_NUMBERS))
    return prompt if stream else f"{prompt} {AT_ONCE.decode()}"


class HttpAsker(asyncio.Protocol, Asker):
    """HTTP/1.1 with keep-alive, one request at a time."""

    def __init__(self, port: int, meter: Meter, headers: str = "") -> None:
        self.meter = meter
        self._port = port
        self._transport: asyncio.Transport | None = None
        self._reading: Reading | None = None
        self._opening: asyncio.Task[object] | None = None
        self._head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n{headers}"
        self._parser = httptools.HttpResponseParser(self)

    def ask(self, reading: Reading, *, stream: bool) -> None:
        self._reading = reading
        messages = [{"role": "user", "content": _prompt(stream=stream)}]
        options = {"stream": True} if stream else {}
        body = json.dumps({"model": MODEL, "messages": messages, "max_tokens": reading.wanted, **options})
        head = f"{self._head}Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        self._send(f"{head}{body}".encode())

    async def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()
        self._end("cut off")

    def _send(self, data: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)
        else:
            self._opening = asyncio.ensure_future(self._open(data))

    async def _open(self, data: bytes) -> None:
        try:
            await asyncio.get_running_loop().create_connection(lambda: self, "127.0.0.1", self._port)
        except OSError as error:
            self._end(f"no connection: {error.strerror}")
            return
        cast("asyncio.Transport", self._transport).write(data)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._parser = httptools.HttpResponseParser(self)

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self._transport = None
        self._end("the connection was closed")

    def data_received(self, data: bytes) -> None:
        marks = data.count(MARK)
        if marks and self._reading is not None:
            self._reading.read(marks)
            self.meter.tokens += marks
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            cast("asyncio.Transport", self._transport).abort()

    def on_message_complete(self) -> None:
        status = self._parser.get_status_code()
        self._end("" if status == 200 else f"status {status}")
        if not self._parser.should_keep_alive():
            cast("asyncio.Transport", self._transport).abort()
        self._parser = httptools.HttpResponseParser(self)

    def _end(self, failure: str) -> None:
        reading, self._reading = self._reading, None
        if reading is not None:
            self.meter.answers += 1
            reading.end(failure)


class GrpcAsker(asyncio.Protocol, Asker):
    """gRPC over one HTTP/2 connection, any number of calls at a time."""

    def __init__(self, port: int, meter: Meter) -> None:
        self.meter = meter
        self._port = port
        self._transport: asyncio.Transport | None = None
        self._opening: asyncio.Task[object] | None = None
        self._unsent: list[bytes] = []
        self._readings: dict[int, Reading] = {}
        self._streams = itertools.count(1, 2)
        self._rest = b""
        authority = f"127.0.0.1:{port}"
        self._heads = {False: _head_block(GENERATE, authority), True: _head_block(GENERATE_STREAM, authority)}

    def ask(self, reading: Reading, *, stream: bool) -> None:
        request = GenerateRequest(
            prompt=_prompt(stream=stream), max_tokens=reading.wanted, temperature=0.7, priority=STANDARD
        )
        message = request.SerializeToString()
        number = next(self._streams)
        self._readings[number] = reading
        block = self._heads[stream]
        self._send(
            _frame(_HEADERS, _END_HEADERS, number, block)
            + _frame(_DATA, _END_STREAM, number, struct.pack(">BI", 0, len(message)) + message)
        )

    async def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()
        self._end_all()

    def _send(self, data: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)
            return
        self._unsent.append(data)
        if self._opening is None:
            self._opening = asyncio.ensure_future(self._open())

    async def _open(self) -> None:
        try:
            await asyncio.get_running_loop().create_connection(lambda: self, "127.0.0.1", self._port)
        except OSError:
            self._unsent.clear()
            self._end_all()
        self._opening = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._rest = b""
        window = struct.pack(">HI", 4, _WIDEST_WINDOW)  # SETTINGS_INITIAL_WINDOW_SIZE
        whole_window = _frame(8, 0, 0, struct.pack(">I", _WIDEST_WINDOW - 65_535))  # WINDOW_UPDATE
        self._transport.write(
            b"".join([_PREFACE, _frame(_SETTINGS, 0, 0, window), whole_window, *self._unsent])
        )
        self._unsent.clear()

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self._transport = None
        self._end_all()

    def data_received(self, data: bytes) -> None:
        data = self._rest + data if self._rest else data
        at, size = 0, len(data)
        while size - at >= 9:
            high, low, kind, flags, number = _FRAME.unpack_from(data, at)
            end = at + 9 + (high << 8 | low)
            if end > size:
                break
            if kind == _DATA:
                marks = data.count(_TOKEN_MARK, at + 9, end)
                if marks and (reading := self._readings.get(number)) is not None:
                    reading.read(marks)
                    self.meter.tokens += marks
                    self.meter.messages += 1
            else:
                self._control(kind, flags, number, data[at + 9 : end])
            at = end
        self._rest = data[at:]

    def _control(self, kind: int, flags: int, number: int, payload: bytes) -> None:
        if (kind == _HEADERS and flags & _END_STREAM) or kind == _RESET:
            self._end(number, "" if kind == _HEADERS else "the stream was reset")
        elif kind in {_SETTINGS, _PING} and not flags & _ACK:
            answer = _frame(kind, _ACK, 0, payload if kind == _PING else b"")
            cast("asyncio.Transport", self._transport).write(answer)
        elif kind == _GOAWAY:
            cast("asyncio.Transport", self._transport).abort()

    def _end(self, number: int, failure: str) -> None:
        reading = self._readings.pop(number, None)
        if reading is not None:
            self.meter.answers += 1
            reading.end(failure)

    def _end_all(self) -> None:
        for number in list(self._readings):
            self._end(number, "the connection was closed")


def _frame(kind: int, flags: int, number: int, payload: bytes) -> bytes:
    length = len(payload)
    return _FRAME.pack(length >> 8, length & 0xFF, kind, flags, number) + payload


def _head_block(path: str, authority: str) -> bytes:
    """HPACK (RFC 7541) without a dynamic table: POST and http by index, the rest as literals."""

    def literal(text: str) -> bytes:
        return bytes([len(text)]) + text.encode()

    return b"".join(
        [
            b"\x83\x86",
            b"\x04" + literal(path),
            b"\x01" + literal(authority),
            b"\x0f\x10" + literal("application/grpc"),
            b"\x00" + literal("te") + literal("trailers"),
            b"\x00" + literal("grpc-timeout") + literal(f"{DEADLINE_S}S"),
        ]
    )


class GrpcAioAsker(Asker):
    """The same by grpc.aio's client: what a caller in Python pays, and what its reading costs."""

    def __init__(self, port: int, meter: Meter) -> None:
        self.meter = meter
        self._channel = grpc.aio.insecure_channel(f"127.0.0.1:{port}")
        encode, decode = GenerateRequest.SerializeToString, GenerateResponse.FromString
        self._stream = self._channel.unary_stream(GENERATE_STREAM, encode, decode)
        self._unary = self._channel.unary_unary(GENERATE, encode, decode)
        self._tasks: set[asyncio.Task[None]] = set()

    def ask(self, reading: Reading, *, stream: bool) -> None:
        request = GenerateRequest(
            prompt=_prompt(stream=stream), max_tokens=reading.wanted, temperature=0.7, priority=STANDARD
        )
        task = asyncio.ensure_future(self._read(request, reading, stream=stream))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _read(self, request: GenerateRequest, reading: Reading, *, stream: bool) -> None:
        failure = "cut off"
        try:
            if stream:
                async for message in self._stream(request, timeout=DEADLINE_S):
                    self._count(message, reading)
            else:
                self._count(await self._unary(request, timeout=DEADLINE_S), reading)
            failure = ""
        except grpc.aio.AioRpcError as error:
            failure = error.code().name
        finally:
            self.meter.answers += 1
            reading.end(failure)

    def _count(self, message: GenerateResponse, reading: Reading) -> None:
        if marks := message.text.count(MARK.decode()):
            reading.read(marks)
            self.meter.tokens += marks
            self.meter.messages += 1

    async def close(self) -> None:
        await self._channel.close()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@dataclass
class Phase:
    """What the readers of one phase saw. Times are seconds.

    ttft_s: of every request, from the moment it was due; what never came counts as long as it was waited for.
    without_token: how many of those never had a first token.
    failed: how many ended without being whole, by what was seen of the reason.
    unfinished: how many were still under way when the phase was cut off.
    tokens, answers, messages: read within `window_s`, in which all loops ran.
    """

    ttft_s: list[float] = field(default_factory=list)
    without_token: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    unfinished: int = 0
    tokens: int = 0
    answers: int = 0
    messages: int = 0
    window_s: float = 0.0


@dataclass(frozen=True)
class Plan:
    """One phase: `loops` requests at a time for `seconds`, the first ones spread over `ramp_s`."""

    loops: int
    tokens: int
    stream: bool
    seconds: float
    ramp_s: float
    grace_s: float = 6.0
    """How long answers under way at the end may take to end."""


async def run_phase(way: Way, plan: Plan, on_window: Callable[[bool], None]) -> Phase:
    """Run the loops. `on_window` is told when the measured window opens (True) and closes (False)."""
    meter = Meter()
    shared = way.connect(meter) if way.shared else None
    askers = [shared or way.connect(meter) for _ in range(plan.loops)]
    begin = perf_counter()
    readings: list[Reading] = []
    loops = [
        asyncio.ensure_future(_loop(asker, plan, begin, place, readings))
        for place, asker in enumerate(askers)
    ]
    found = Phase()
    try:
        await asyncio.sleep(plan.ramp_s * 2)
        on_window(True)
        opened, before = perf_counter(), replace(meter)
        await asyncio.sleep(begin + plan.seconds - perf_counter())
        on_window(False)
        found.window_s = perf_counter() - opened
        found.tokens, found.answers = meter.tokens - before.tokens, meter.answers - before.answers
        found.messages = meter.messages - before.messages
        await asyncio.wait(loops, timeout=plan.grace_s)
    finally:
        _judge(readings, found)
        for loop in loops:
            loop.cancel()
        await asyncio.gather(*loops, return_exceptions=True)
        for asker in {id(asker): asker for asker in askers}.values():
            await asker.close()
    return found


async def _loop(asker: Asker, plan: Plan, begin: float, place: int, readings: list[Reading]) -> None:
    due = begin + plan.ramp_s * place / plan.loops
    await asyncio.sleep(due - perf_counter())
    while due < begin + plan.seconds:
        reading = Reading(due, plan.tokens)
        readings.append(reading)
        asker.ask(reading, stream=plan.stream)
        await reading.done
        if not reading.whole:
            await asyncio.sleep(0.05)  # a server that refuses at once must not be hammered
        due = perf_counter()


def _judge(readings: list[Reading], found: Phase) -> None:
    now = perf_counter()
    for reading in readings:
        if not reading.done.done():
            found.unfinished += 1
        elif not reading.whole:
            found.failed[reading.why] += 1
        found.without_token += not reading.first
        found.ttft_s.append((reading.first or now) - reading.scheduled)
