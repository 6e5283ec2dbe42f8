"""The engine client against servers that answer byte for byte what a test says."""

from __future__ import annotations

import asyncio
import json
import ssl
import subprocess
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from pathlib import Path

import pytest
from no_collector import living, no_collector

from dreamseed_cli.engine.client import EngineClient
from dreamseed_cli.engine.http_stream import HttpConnection
from dreamseed_cli.engine.types import (
    Chunk,
    Endpoint,
    EngineBusy,
    EngineRefused,
    EngineTimeout,
    EngineUnavailable,
    GenerationRequest,
)

_REQUEST = GenerationRequest("id", "Hi", max_tokens=3, temperature=0.0, top_p=1.0)
_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n"
_CHUNKED = _HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
_HANG = b"<hang>"
_CUT = b"<cut>"
_BOUND_S = 60.0


def _event(text: str, **more: object) -> bytes:
    document = {"choices": [{"index": 0, "delta": {"content": text}, **more}]}
    return b"data: " + json.dumps(document, ensure_ascii=False).encode() + b"\n\n"


def _usage(count: int) -> bytes:
    document = {"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": count}}
    return b"data: " + json.dumps(document).encode() + b"\n\n"


def _frame(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


_DONE = b"data: [DONE]\n\n"
_GOOD = [
    _frame(_event("Se")),
    _frame(_event("oul", finish_reason="stop")),
    _frame(_usage(2) + _DONE),
    _frame(b""),
]


class _Server:
    """Answers every request with the next script, its parts written one by one as reads of their own."""

    def __init__(self, *scripts: Sequence[bytes]) -> None:
        self.scripts = list(scripts)
        self.requests: list[bytes] = []
        self.connections = 0
        self.asked = asyncio.Event()
        self.gone = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while request := await self._read_request(reader):
                self.requests.append(request)
                self.asked.set()
                if not await self._play(self.scripts.pop(0), reader, writer):
                    break
        except (ConnectionError, asyncio.IncompleteReadError):
            self.gone.set()
        finally:
            writer.close()

    async def _play(
        self, script: Sequence[bytes], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        for part in script:
            if part == _CUT:
                return False
            if part == _HANG:
                assert await reader.read() == b""
                self.gone.set()
                return False
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(0.001)
        return True

    @staticmethod
    async def _read_request(reader: asyncio.StreamReader) -> bytes:
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(line for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:"))
        return head + await reader.readexactly(int(length.split(b":")[1]))


@pytest.fixture
def socket_dir() -> Iterator[Path]:
    """A folder whose path is short enough for a Unix socket."""
    with tempfile.TemporaryDirectory(prefix="ds-") as folder:
        yield Path(folder)


@asynccontextmanager
async def _talk(folder: Path, *scripts: Sequence[bytes]) -> AsyncIterator[tuple[_Server, EngineClient]]:
    server = _Server(*scripts)
    socket = folder / "e.sock"
    listener = await asyncio.start_unix_server(server.serve, socket)
    client = EngineClient(Endpoint(socket=socket), model="m", api="chat", usage_per_chunk=True, api_key="k3y")
    try:
        yield server, client
    finally:
        await client.close()
        listener.close()


async def _collect(client: EngineClient, timeout_s: float = 60.0) -> list[Chunk]:
    return [chunk async for chunk in client.stream(_REQUEST, timeout_s=timeout_s)]


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(_BOUND_S):
        while not condition():  # noqa: ASYNC110 - nothing announces it
            await asyncio.sleep(0.005)


def _text(chunks: Sequence[Chunk]) -> str:
    return "".join(chunk.text for chunk in chunks)


async def test_an_answer_arrives_whole_and_the_connection_is_kept(socket_dir: Path) -> None:
    """Two answers in a row come over one connection, each with its text, finish reason and counts."""
    async with _talk(socket_dir, [_CHUNKED, *_GOOD], [_CHUNKED, *_GOOD]) as (server, client):
        for _ in range(2):
            chunks = await _collect(client)
            assert _text(chunks) == "Seoul"
            assert "stop" in [chunk.finish_reason for chunk in chunks]
            assert (chunks[-1].prompt_tokens, chunks[-1].completion_tokens) == (9, 2)
            await _until(lambda: len(client._pool._idle) == 1)
        assert server.connections == 1
        assert b"Authorization: Bearer k3y\r\n" in server.requests[0]


async def test_bytes_may_be_cut_anywhere(socket_dir: Path) -> None:
    """Every byte in a read of its own, in characters of several bytes too, gives the same answer."""
    wire = b"".join([_CHUNKED, _frame(_event("서울 🏙", finish_reason="stop") + _DONE), _frame(b"")])
    async with _talk(socket_dir, [wire[i : i + 1] for i in range(len(wire))]) as (_, client):
        assert _text(await _collect(client)) == "서울 🏙"


async def test_what_waits_is_merged_into_one_chunk(socket_dir: Path) -> None:
    """Events that arrive together come out as one chunk: a slow reader gets fewer, longer ones."""
    together = b"".join(_frame(_event(word)) for word in ("a", "b", "c"))
    script = [
        _CHUNKED,
        together + _frame(_event("d", finish_reason="stop") + _usage(4) + _DONE) + _frame(b""),
    ]
    async with _talk(socket_dir, script) as (_, client):
        assert await _collect(client) == [Chunk("abcd", "stop", 9, 4)]


async def test_the_role_alone_is_no_token(socket_dir: Path) -> None:
    """vLLM opens a chat with an empty text: the first chunk is the first token."""
    async with _talk(socket_dir, [_CHUNKED, _frame(_event("")), *_GOOD]) as (_, client):
        assert (await _collect(client))[0].text == "Se"


@pytest.mark.parametrize(
    "body",
    [
        [_frame(_event("half")), _CUT],
        [_frame(_event("half")), _frame(b"")],
        [_frame(_event("half") + _DONE), _frame(b"")],
        [_frame(b'data: {"error":{"message":"boom","code":500}}\n\n' + _DONE), _frame(b"")],
        [_frame(_event("x", finish_reason="abort") + _DONE), _frame(b"")],
        [_frame(b"data: \xff\xfe\n\n")],
        [b"zz not a chunk size\r\n"],
        [_frame(b"data: " + b"x" * 600_000), _frame(b"x" * 600_000)],
    ],
)
async def test_a_stream_that_is_not_complete_is_a_failure(socket_dir: Path, body: list[bytes]) -> None:
    """Cut, ended early, failed, aborted, garbled or endless: never shown as a complete answer."""
    async with _talk(socket_dir, [_CHUNKED, *body]) as (_, client):
        with pytest.raises(EngineUnavailable):
            await _collect(client)


async def test_an_answer_that_ends_with_its_connection_is_complete(socket_dir: Path) -> None:
    """A server without chunked encoding ends the body by closing; a finish reason makes it complete."""
    script = [_HEAD + b"\r\n", _event("x", finish_reason="length"), _CUT]
    async with _talk(socket_dir, script, [_CHUNKED, *_GOOD]) as (server, client):
        assert _text(await _collect(client)) == "x"
        assert _text(await _collect(client)) == "Seoul"
        assert server.connections == 2


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (400, EngineRefused),
        (404, EngineRefused),
        (413, EngineRefused),
        (422, EngineRefused),
        (429, EngineBusy),
        (503, EngineBusy),
        (500, EngineUnavailable),
        (401, EngineUnavailable),
        (302, EngineUnavailable),
    ],
)
async def test_statuses_are_sorted_by_what_they_mean(
    socket_dir: Path, status: int, expected: type[Exception]
) -> None:
    """A refusal, a full queue and a broken engine are told apart, in the engine's own words."""
    body = b'{"error":{"message":"4097 tokens, 4096 fit","code":1}}'
    head = b"HTTP/1.1 %d X\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % (
        status,
        len(body),
    )
    async with _talk(socket_dir, [head + body], [_CHUNKED, *_GOOD]) as (server, client):
        with pytest.raises(expected, match="4097 tokens, 4096 fit"):
            await _collect(client)
        assert _text(await _collect(client)) == "Seoul"
        assert server.connections == 1


async def test_a_page_in_place_of_a_stream_is_a_failure(socket_dir: Path) -> None:
    """A captive portal's HTML with status 200 is no answer."""
    page = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 4\r\n\r\n<a/>"
    async with _talk(socket_dir, [page]) as (_, client):
        with pytest.raises(EngineUnavailable, match="text/html"):
            await _collect(client)


async def test_a_connection_closed_without_a_word_is_a_failure(socket_dir: Path) -> None:
    """An engine that dies before it answers is unavailable, and so is one that is not there."""
    async with _talk(socket_dir, [_CUT]) as (_, client):
        with pytest.raises(EngineUnavailable):
            await _collect(client)
    absent = EngineClient(
        Endpoint(socket=socket_dir / "none.sock"), model="m", api="chat", usage_per_chunk=True
    )
    with pytest.raises(EngineUnavailable, match="No such file"):
        await _collect(absent)
    assert not await absent.health()
    with pytest.raises(EngineUnavailable):
        await absent.metrics()
    await absent.close()


async def test_the_budget_ends_a_hanging_answer_and_its_connection(socket_dir: Path) -> None:
    """When the time is up the call ends and the engine sees the connection close."""
    async with _talk(socket_dir, [_CHUNKED, _frame(_event("a")), _HANG]) as (server, client):
        with pytest.raises(EngineTimeout):
            await _collect(client, timeout_s=1.0)
        await asyncio.wait_for(server.gone.wait(), _BOUND_S)
        with pytest.raises(EngineTimeout):
            await _collect(client, timeout_s=0.0)
        assert len(server.requests) == 1


async def test_more_time_is_given_when_it_is_asked_for(socket_dir: Path) -> None:
    """When the budget is used up the caller is asked once more for every extension, then the call ends."""
    further = [0.05, 0.05, 0.0]
    async with _talk(socket_dir, [_CHUNKED, _frame(_event("a")), _HANG]) as (server, client):
        stream = client.stream(_REQUEST, timeout_s=0.05, more_time=lambda: further.pop(0))
        with pytest.raises(EngineTimeout):
            assert [chunk.text async for chunk in stream] == ["a"]
        assert further == []
        await asyncio.wait_for(server.gone.wait(), _BOUND_S)


async def test_an_answer_that_has_arrived_is_told_before_it_is_read(socket_dir: Path) -> None:
    """Whoever counts the engine's places learns of the end at once; a refusal is no answer."""
    refusal = b"HTTP/1.1 503 X\r\nContent-Type: text/plain\r\nContent-Length: 4\r\n\r\nbusy"
    arrived = asyncio.Event()
    async with _talk(socket_dir, [_CHUNKED, *_GOOD], [refusal]) as (_, client):
        async with aclosing(client.stream(_REQUEST, timeout_s=60, on_complete=arrived.set)) as chunks:
            await anext(chunks)
            await asyncio.wait_for(arrived.wait(), _BOUND_S)
        arrived.clear()
        with pytest.raises(EngineBusy):
            await anext(client.stream(_REQUEST, timeout_s=60, on_complete=arrived.set))
        assert not arrived.is_set()


async def test_leaving_early_closes_the_connection(socket_dir: Path) -> None:
    """Closing the iterator after the first chunk is seen by the engine at once."""
    async with _talk(socket_dir, [_CHUNKED, _frame(_event("a")), _HANG]) as (server, client):
        async with aclosing(client.stream(_REQUEST, timeout_s=30)) as chunks:
            async for _ in chunks:
                break
        await asyncio.wait_for(server.gone.wait(), _BOUND_S)


async def test_cancelling_the_reader_closes_the_connection(socket_dir: Path) -> None:
    """A task cancelled while it waits for a token lets go of the engine."""
    async with _talk(socket_dir, [_CHUNKED, _HANG]) as (server, client):
        task = asyncio.create_task(_collect(client, timeout_s=30))
        await asyncio.wait_for(server.asked.wait(), _BOUND_S)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.wait_for(server.gone.wait(), _BOUND_S)


@pytest.mark.parametrize("script", [[*_GOOD], [_frame(_event("a")), _CUT], [_frame(_event("a")), _HANG]])
async def test_a_closed_connection_does_not_wait_for_the_garbage_collector(
    socket_dir: Path, script: list[bytes]
) -> None:
    """Nor does one that failed, with the frames of the request it failed, or one that never came about."""
    with no_collector():
        async with _talk(socket_dir, [_CHUNKED, *script]) as (_, client):
            with suppress(EngineUnavailable, EngineTimeout):
                await _collect(client, timeout_s=0.2)
            await _until(lambda: len(living(HttpConnection)) == len(client._pool._idle))
            client._pool.close()
            HttpConnection()
            await _until(lambda: not living(HttpConnection))


async def test_a_server_that_never_ends_its_response_does_not_delay_the_answer_for_ever(
    socket_dir: Path,
) -> None:
    """After [DONE] the answer is complete, whether or not the response ends."""
    script = [_CHUNKED, _frame(_event("a", finish_reason="stop") + _DONE), _HANG]
    async with _talk(socket_dir, script) as (server, client):
        assert _text(await asyncio.wait_for(_collect(client, timeout_s=600.0), _BOUND_S)) == "a"
        await asyncio.wait_for(server.gone.wait(), _BOUND_S)


async def test_a_reader_that_does_not_read_holds_the_engine_back(socket_dir: Path) -> None:
    """What nobody reads is not piled up without bound: the engine's writes stop."""
    flood = [_frame(_event("x" * 60_000)) for _ in range(200)]
    end = _frame(_event("", finish_reason="length") + _DONE)
    async with _talk(socket_dir, [_CHUNKED, *flood, end, _frame(b"")]) as (server, client):
        async with aclosing(client.stream(_REQUEST, timeout_s=30)) as chunks:
            first = await anext(chunks)
            connection = next(iter(client._pool._all))
            await _until(lambda: connection._paused)
            assert connection._unread < 1_000_000
            rest = [chunk async for chunk in chunks]
        assert len(first.text) + len(_text(rest)) == 200 * 60_000
        assert server.connections == 1


async def test_a_url_is_spoken_to_like_a_socket() -> None:
    """An engine at http://HOST:PORT/prefix gets its requests there, with its Host header."""
    server = _Server([_CHUNKED, *_GOOD])
    listener = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    client = EngineClient(
        Endpoint(url=f"http://127.0.0.1:{port}/engine/"), model="m", api="completions", usage_per_chunk=False
    )
    assert _text(await _collect(client)) == "Seoul"
    head = server.requests[0].split(b"\r\n\r\n")[0]
    assert head.startswith(b"POST /engine/v1/completions HTTP/1.1\r\n")
    assert b"Host: 127.0.0.1:%d\r\n" % port in head
    await client.close()
    listener.close()


def _certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate of its own authority for 127.0.0.1, and its key."""
    certificate, key = folder / "c.pem", folder / "k.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=test"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)
    return certificate, key


@asynccontextmanager
async def _https(folder: Path, *scripts: Sequence[bytes]) -> AsyncIterator[tuple[_Server, Endpoint]]:
    server = _Server(*scripts)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*_certificate(folder))
    listener = await asyncio.start_server(server.serve, "127.0.0.1", 0, ssl=context)
    try:
        yield server, Endpoint(url=f"https://127.0.0.1:{listener.sockets[0].getsockname()[1]}")
    finally:
        listener.close()


async def test_https_is_spoken_where_the_certificate_is_trusted(
    socket_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A remote engine behind TLS: the same answer, over a kept connection."""
    async with _https(socket_dir, [_CHUNKED, *_GOOD], [_CHUNKED, *_GOOD]) as (server, endpoint):
        monkeypatch.setenv("SSL_CERT_FILE", str(socket_dir / "c.pem"))
        client = EngineClient(endpoint, model="m", api="chat", usage_per_chunk=False)
        try:
            for _ in range(2):
                assert _text(await _collect(client)) == "Seoul"
                await _until(lambda: len(client._pool._idle) == 1)
        finally:
            await client.close()
        assert server.connections == 1


async def test_https_refuses_a_certificate_nobody_vouches_for(socket_dir: Path) -> None:
    """The key and the prompt go to nobody whose name is not proven."""
    async with _https(socket_dir, [_CHUNKED, *_GOOD]) as (server, endpoint):
        client = EngineClient(endpoint, model="m", api="chat", usage_per_chunk=False, api_key="k3y")
        try:
            with pytest.raises(EngineUnavailable, match="certificate verify failed"):
                await _collect(client)
        finally:
            await client.close()
        assert server.requests == []
