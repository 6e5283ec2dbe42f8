"""An OpenAI-compatible server that misbehaves is named for what it does."""

from __future__ import annotations

import asyncio
import errno
import json
import re
import socket
import struct
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, cast

import msgspec
import pytest

from dreamseed_cli.bench.records import Ending, Job, Record
from dreamseed_cli.bench.shapes import TargetSpec
from dreamseed_cli.bench.target.line import TimedConnection, TimedPool
from dreamseed_cli.bench.target.openai import generation_body
from dreamseed_cli.bench.target.opening import open_target
from dreamseed_cli.core.errors import MissingError, UsageError

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n"


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def _event(text: str, finish: str | None = None, total: int | None = None) -> bytes:
    document: dict[str, Any] = {"choices": [{"delta": {"content": text}, "finish_reason": finish}]}
    if total is not None:
        document["usage"] = {"prompt_tokens": 7, "completion_tokens": total}
    return _chunk(b"data: " + json.dumps(document).encode() + b"\n\n")


_DONE = _chunk(b"data: [DONE]\n\n")
_GOOD = _event("a", total=1) + _event("b", "length", total=2) + _DONE + b"0\r\n\r\n"


def _response(status: str, body: bytes, kind: str = "application/json") -> bytes:
    return f"HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body


def _says(data: bytes, *, then: str = "wait") -> Talk:
    """Sends this and waits for the client to hang up, closes, or resets the connection."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        await writer.drain()
        if then == "wait":
            await reader.read()
        elif then == "reset":
            linger = struct.pack("ii", 1, 0)
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)

    return talk


@dataclass
class _Server:
    address: str
    requests: list[bytes] = field(default_factory=list)
    connections: int = 0
    asked: asyncio.Event = field(default_factory=asyncio.Event)
    gone: asyncio.Event = field(default_factory=asyncio.Event)


@asynccontextmanager
async def _server(talk: Talk, *, keeps: bool = False) -> AsyncIterator[_Server]:
    """One answer a connection, or one a request where it `keeps` them."""

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await _until_head(reader):
            length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
            body = await reader.readexactly(int(length[1])) if length else b""
            server.requests.append(head + body)
            server.asked.set()
            await talk(reader, writer)
            if not keeps:
                break

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server.connections += 1
        serving.append(cast("asyncio.Task[None]", asyncio.current_task()))
        try:
            await converse(reader, writer)
        except ConnectionError:
            pass  # the client hung up
        finally:
            writer.close()
            server.gone.set()

    serving: list[asyncio.Task[None]] = []
    listener = await asyncio.start_server(serve, "127.0.0.1", 0)
    server = _Server(f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}")
    async with listener:
        yield server
        await asyncio.gather(*serving)


async def _until_head(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, ConnectionError):
        return b""


def _job(**changes: Any) -> Job:
    fields: dict[str, Any] = {"number": 5, "workload": "question", "prompt": "Why?", "wanted_tokens": 2}
    return Job(**(fields | changes))


def _record(job: Job) -> Record:
    return Record(number=job.number, workload=job.workload, scheduled_s=0.0, wanted_tokens=job.wanted_tokens)


async def _ask(address: str, job: Job | None = None, **changes: Any) -> Record:
    job = job or _job()
    fields: dict[str, Any] = {"model": "m", "timeout_s": 60.0, "stall_s": 60.0, "connect_timeout_s": 60.0}
    target = open_target(TargetSpec(kind="openai", address=address, **(fields | changes)))
    record, epoch = _record(job), time.monotonic()
    try:
        await target.ask(job, record, lambda: time.monotonic() - epoch)
    finally:
        await target.close()
    return record


_SSE = _HEAD + b"\r\n"
_QUICK = {"stall_s": 0.5}
_MISBEHAVIOURS: dict[str, tuple[Talk, dict[str, Any], Ending, str]] = {
    "closes at once": (_says(b"", then="close"), {}, Ending.CUT, "closed the connection before any response"),
    "resets at once": (_says(b"", then="reset"), {}, Ending.CUT, "reset the connection before any response"),
    "closes after the head": (_says(_SSE, then="close"), {}, Ending.CUT, "before the first token"),
    "resets mid-stream": (
        _says(_SSE + _event("a", total=1), then="reset"),
        {},
        Ending.CUT,
        "reset the connection in the middle of the answer",
    ),
    "closes mid-stream": (
        _says(_SSE + _event("a", total=1), then="close"),
        {},
        Ending.CUT,
        "closed the connection in the middle of the answer",
    ),
    "speaks no HTTP": (_says(b"220 mail ready\r\n"), {}, Ending.BROKEN, "what came is no HTTP"),
    "loses the chunking": (
        _says(_SSE + _event("a", total=1) + b"zz\r\n"),
        {},
        Ending.BROKEN,
        "what came is no HTTP",
    ),
    "breaks JSON": (_says(_SSE + _chunk(b"data: {oops\n\n")), {}, Ending.BROKEN, "no chunk of an answer"),
    "says nothing": (_says(b""), _QUICK, Ending.STALLED, "no byte for 0.5 s"),
    "stalls mid-stream": (_says(_SSE + _event("a", total=1)), _QUICK, Ending.STALLED, "no byte for 0.5 s"),
    "takes too long": (_says(_SSE), {"timeout_s": 0.5}, Ending.TIMED_OUT, "not complete within 0.5 s"),
    "ends without [DONE]": (
        _says(_SSE + _event("ab", "length", total=2) + b"0\r\n\r\n"),
        {},
        Ending.CUT,
        r"without \[DONE\]",
    ),
    "ends without a reason": (
        _says(_SSE + _event("ab", total=2) + _DONE),
        {},
        Ending.CUT,
        "without a finish_reason",
    ),
    "tells no usage": (_says(_SSE + _event("ab", "length") + _DONE), {}, Ending.MISCOUNTED, "no usage"),
    "counts too few": (
        _says(_SSE + _event("a") + _event("b", "length", total=1) + _DONE),
        {},
        Ending.MISCOUNTED,
        "fewer tokens than pieces",
    ),
    "counts what it does not send": (
        _says(_SSE + _event("") + _event("", "length", total=8) + _DONE),
        {},
        Ending.MISCOUNTED,
        "no text came",
    ),
    "stops early": (
        _says(_SSE + _event("a", "stop", total=1) + _DONE),
        {},
        Ending.WRONG_LENGTH,
        "shorter than the forced",
    ),
    "fails in the stream": (
        _says(_SSE + _chunk(b'data: {"error": {"message": "no memory"}}\n\n')),
        {},
        Ending.SERVER_ERROR,
        "an error in the stream: no memory",
    ),
    "is full": (
        _says(_response("429 Too Many Requests", b'{"error": {"message": "wait"}}')),
        {},
        Ending.REFUSED,
        "HTTP 429: wait",
    ),
    "is away": (
        _says(_response("503 Unavailable", b"busy", "text/plain")),
        {},
        Ending.REFUSED,
        "HTTP 503: busy",
    ),
    "fails": (
        _says(_response("500 Internal Server Error", b'{"error": "boom"}')),
        {},
        Ending.SERVER_ERROR,
        "HTTP 500: boom",
    ),
    "does not know it": (
        _says(_response("404 Not Found", b'{"detail": "Not Found"}')),
        {},
        Ending.REJECTED,
        "HTTP 404: Not Found",
    ),
    "fails with a page": (
        _says(_response("502 Bad Gateway", b"<html>nginx</html>", "text/html")),
        {},
        Ending.SERVER_ERROR,
        "HTTP 502: an HTML page",
    ),
    "is a web site": (
        _says(_response("200 OK", b"<html>Welcome</html>", "text/html")),
        {},
        Ending.BROKEN,
        "text/html instead of an event stream",
    ),
    "does not stream": (
        _says(_response("200 OK", b'{"choices": []}')),
        {},
        Ending.BROKEN,
        "application/json instead of an event stream",
    ),
    "moved": (_says(_response("302 Found", b"")), {}, Ending.BROKEN, "HTTP 302 instead of an answer"),
}


@pytest.mark.parametrize("name", _MISBEHAVIOURS)
async def test_a_misbehaviour_is_named(name: str) -> None:
    """Its ending says what kind it is, its detail says it in words, and the record has its end."""
    talk, changes, ending, detail = _MISBEHAVIOURS[name]
    async with _server(talk) as server:
        record = await _ask(server.address, **changes)
    assert (record.ending, bool(re.search(detail, record.detail))) == (ending, True), record.detail
    assert record.sent_s is not None
    assert record.end_s is not None


async def test_nobody_listens() -> None:
    """A refused connection is the server's absence, and nothing was sent."""
    async with _server(_says(b"")) as server:
        pass
    record = await _ask(server.address)
    assert (record.ending, record.detail) == (Ending.UNREACHABLE, "no connection: connection refused")
    assert record.sent_s is None


async def test_a_client_without_files_blames_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """No descriptor for the connection: the request was not sent, and no server did that."""

    async def without(pool: TimedPool) -> TimedConnection:
        raise OSError(errno.EMFILE, "too many open files")

    monkeypatch.setattr(TimedPool, "connect", without)
    record = await _ask("http://127.0.0.1:1")
    assert (record.ending, record.sent_s) == (Ending.UNSENT, None)
    assert "ulimit -n" in record.detail


async def test_a_good_answer_and_its_connection() -> None:
    """It is complete, the moments are in order, and the next request uses the same connection."""
    head = (
        _HEAD
        + b"x-dreamseed-provenance: simulated\r\nx-dreamseed-replica: gpu1\r\nx-dreamseed-cache: hit\r\n\r\n"
    )
    async with _server(_says(head + _GOOD, then="go on"), keeps=True) as server:
        target = open_target(TargetSpec(kind="openai", address=server.address, model="m"))
        epoch = time.monotonic()
        records = [_record(_job()), _record(_job())]
        for record in records:
            await target.ask(_job(), record, lambda: time.monotonic() - epoch)
        await target.close()
    for record in records:
        assert (record.ending, record.piece_tokens) == (Ending.COMPLETE, [1, 2])
        assert (record.replica, record.cache_hit, record.simulated) == ("gpu1", True, True)
        moments = [record.sent_s, record.first_token_s, record.last_token_s, record.end_s]
        assert moments == sorted(moment for moment in moments if moment is not None)
        assert record.piece_s == [record.first_token_s, record.last_token_s]
    assert server.connections == 1
    assert [record.connect_s is None for record in records] == [False, True]


async def test_a_cancelled_request_is_hung_up() -> None:
    """Who is cancelled lets the server know, so that it stops generating."""
    async with _server(_says(_SSE + _event("a", total=1))) as server:
        asking = asyncio.create_task(_ask(server.address))
        await server.asked.wait()
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        await asyncio.wait_for(server.gone.wait(), 60)


async def test_the_key_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """It comes from the named variable."""
    monkeypatch.setenv("BENCH_KEY", "sk-1")
    async with _server(_says(_SSE + _GOOD)) as server:
        await _ask(server.address, api_key_env="BENCH_KEY")
    assert b"\r\nAuthorization: Bearer sk-1\r\n" in server.requests[0]


@pytest.mark.parametrize(
    ("status", "ending"), [("200 OK", Ending.COMPLETE), ("404 Not Found", Ending.REJECTED)]
)
async def test_a_page_is_fetched(status: str, ending: Ending) -> None:
    """A job with a path is a GET; whatever comes with a good status is complete."""
    async with _server(_says(_response(status, b"<html></html>", "text/html"))) as server:
        record = await _ask(server.address, _job(path="/static/a.css", wanted_tokens=0))
    assert server.requests[0].startswith(b"GET /static/a.css HTTP/1.1\r\n")
    assert record.ending is ending


def test_vllms_extensions_are_for_vllm() -> None:
    """A forced length needs ignore_eos; a server that does not know it is not sent it."""
    spec = TargetSpec(kind="openai", address="http://e", model="m")
    body = generation_body(_job(system_prompt="Be kind.", seed=4), spec)
    assert body == {
        "model": "m",
        "stream": True,
        "stream_options": {"include_usage": True, "continuous_usage_stats": True},
        "messages": [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Why?"}],
        "max_tokens": 2,
        "temperature": 0.7,
        "top_p": 0.9,
        "seed": 4,
        "ignore_eos": True,
    }
    plain = generation_body(
        _job(), TargetSpec(kind="openai", address="http://e", api="completions", vllm=False)
    )
    assert plain["prompt"] == "Why?"
    assert plain.keys().isdisjoint({"ignore_eos", "messages", "seed"})
    assert plain["stream_options"] == {"include_usage": True}


def test_our_own_wishes_are_for_our_own_front() -> None:
    """Cache, class and label go to it as they go to the gateway; a foreign server is sent none of them."""
    foreign = TargetSpec(kind="openai", address="http://e", model="m")
    job = _job(priority="BATCH")
    extra = {"priority": "batch", "workload": job.workload, "cache": False}
    ours = msgspec.structs.replace(foreign, ours=True)
    assert generation_body(job, ours) == generation_body(job, foreign) | extra
    assert generation_body(job, foreign).keys().isdisjoint(extra)
    assert "cache" not in generation_body(_job(bypass_cache=False), ours)


async def test_an_unforced_length_is_not_judged() -> None:
    """A server without ignore_eos cannot be held to a length, and the record says that it was not."""
    async with _server(_says(_SSE + _event("a", "stop", total=1) + _DONE)) as server:
        record = await _ask(server.address, vllm=False)
    assert (record.ending, record.forced) == (Ending.COMPLETE, False)


async def test_a_target_that_cannot_be() -> None:
    """An address without a scheme and a key that is not there are said before anything is asked."""
    with pytest.raises(UsageError, match="no base URL"):
        open_target(TargetSpec(kind="openai", address="127.0.0.1:8000"))
    with pytest.raises(MissingError, match="BENCH_NO_KEY"):
        open_target(TargetSpec(kind="openai", address="http://e", api_key_env="BENCH_NO_KEY"))
