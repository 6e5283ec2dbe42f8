"""The front and clients that hold it up: heads and bodies that drip in, answers that nobody reads."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import grpc
import pytest
from api_harness import KEY, Context, ScriptedGateway, answers, front_here, scripted_gateway
from gateway_harness import until

from dreamseed_cli.api import connection, http
from dreamseed_cli.gateway.proto.llm_pb2 import GenerateRequest, GenerateResponse

_HEAD = (
    f"POST /v1/chat/completions HTTP/1.1\r\nHost: front\r\nAuthorization: Bearer {KEY}\r\n"
    "Content-Length: {}\r\n\r\n"
)
_BODY = '{"model": "served", "messages": [{"role": "user", "content": "Hello"}], "stream": true}'
_WHOLE = (_HEAD.format(len(_BODY)) + _BODY).encode()


@asynccontextmanager
async def _connected(port: int) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        async with asyncio.timeout(10):
            yield reader, writer
    finally:
        writer.close()


@asynccontextmanager
async def _visiting() -> AsyncIterator[tuple[ScriptedGateway, asyncio.StreamReader, asyncio.StreamWriter]]:
    """A gateway that answers, and a connection to the front before it."""
    async with (
        scripted_gateway() as gateway,
        front_here(gateway.port) as front,
        _connected(front.port) as (reader, writer),
    ):
        yield gateway, reader, writer


async def _rest(reader: asyncio.StreamReader) -> bytes:
    """What comes until the front closes the connection."""
    try:
        return await reader.read()
    except ConnectionResetError:
        return b""


@pytest.mark.parametrize("sent", [b"", b"POST /v1/chat/comp", _WHOLE[:100]])
async def test_a_head_that_does_not_come_ends_the_connection(
    sent: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever there is of it: every open connection takes one of the process's few descriptors."""
    monkeypatch.setattr(connection, "HEAD_S", 0.2)
    async with _visiting() as (_, reader, writer):
        writer.write(sent)
        assert await _rest(reader) == b""


async def test_bytes_after_an_answer_are_no_way_to_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty line is no request, and ends uvicorn's own bound on idle connections."""
    monkeypatch.setattr(connection, "HEAD_S", 0.5)
    async with _visiting() as (_, reader, writer):
        writer.write(_WHOLE)
        assert b"one " in await reader.readuntil(b"0\r\n\r\n")
        writer.write(b"\r\n")
        assert await _rest(reader) == b""


async def test_a_head_without_end_is_refused() -> None:
    """It would fill the memory: the parser keeps it all."""
    async with _visiting() as (_, reader, writer):
        writer.write(_WHOLE[:60])
        writer.write(b"X-Long: " + b"x" * connection.LONGEST_HEAD_BYTES)
        assert (await _rest(reader)).startswith(b"HTTP/1.1 400 ")


async def test_a_body_that_drips_in_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """408, and the gateway was not asked."""
    monkeypatch.setattr(http, "BODY_S", 0.2)
    async with _visiting() as (gateway, reader, writer):
        writer.write(_WHOLE[:-1])
        answer = await reader.readuntil(b"}")
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert b"body_too_slow" in answer
        assert gateway.calls == []


async def test_an_answer_that_nobody_reads_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that is there, and takes nothing: the gateway is told to stop, and the front forgets it."""
    monkeypatch.setattr(connection, "UNREAD_S", 0.3)

    ended = asyncio.Event()

    async def endless(request: GenerateRequest, context: Context, number: int) -> None:
        if number > 1:
            await answers(request, context, number)
            return
        try:
            # A write that gRPC cannot make any more may come before the call's cancellation.
            with suppress(grpc.aio.InternalError):
                while True:
                    await context.write(GenerateResponse(text="x" * 4096, tokens_generated=1))
        finally:
            ended.set()

    async with scripted_gateway(endless) as gateway, front_here(gateway.port) as front:
        with socket.socket() as idle:
            idle.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            idle.setblocking(False)
            loop = asyncio.get_running_loop()
            await loop.sock_connect(idle, ("127.0.0.1", front.port))
            await loop.sock_sendall(idle, _WHOLE)
            await until(ended.is_set)
        async with _connected(front.port) as (reader, writer):
            writer.write(_WHOLE)
            assert b"one " in await reader.readuntil(b"0\r\n\r\n")
