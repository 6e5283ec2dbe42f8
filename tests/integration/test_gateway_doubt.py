"""A lone engine fails its requests, and its supervisor has yet to find out what it has."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from gateway_harness import emulated_engine, gateway_here, settings, socket_folder, target

from dreamseed_cli.gateway.proto import GENERATE
from dreamseed_cli.gateway.proto.llm_pb2 import GenerateRequest, GenerateResponse
from dreamseed_cli.gateway.server import GatewayServer
from dreamseed_cli.gateway.settings import ReplicaTarget

_NEWS_S = 0.2


@asynccontextmanager
async def _asked(folder: Path) -> AsyncIterator[tuple[GatewayServer, asyncio.Task[GenerateResponse]]]:
    """A request that its engine failed, long enough ago that news would have come."""
    async with (
        gateway_here(settings(folder, _told(folder, reason="failing"))) as server,
        grpc.aio.insecure_channel(f"127.0.0.1:{server.stats()['port']}") as channel,
    ):
        ask = channel.unary_unary(GENERATE, GenerateRequest.SerializeToString, GenerateResponse.FromString)
        call = ask(GenerateRequest(prompt="Hi", user_id="u", max_tokens=3), timeout=60.0)
        task = asyncio.create_task(_answer(call))
        await asyncio.sleep(_NEWS_S * 2.5)
        assert not task.done()
        yield server, task


async def _answer(call: grpc.aio.UnaryUnaryCall[Any, GenerateResponse]) -> GenerateResponse:
    answer: GenerateResponse = await call
    return answer


def _told(folder: Path, *, reason: str, expected_in_s: float | None = None) -> ReplicaTarget:
    told = target("r0", folder / "none.sock", ready=expected_in_s is None)
    return told.model_copy(update={"reason": reason, "expected_in_s": expected_in_s})


async def test_requests_wait_while_the_supervisor_is_in_doubt(monkeypatch: pytest.MonkeyPatch) -> None:
    """As with vLLM, whose server outlives its engine core: once it is restarted they are answered."""
    monkeypatch.setattr("dreamseed_cli.gateway.replicas._NEWS_S", _NEWS_S)
    with socket_folder() as folder, emulated_engine(folder, "back") as back:
        async with _asked(folder) as (server, task):
            await server.set_replicas([_told(folder, reason="exited", expected_in_s=5.0)])
            await asyncio.sleep(0.1)
            await server.set_replicas([target("r0", back.socket)])
            assert (await task).tokens_generated == 3


async def test_they_end_once_nothing_is_to_be_hoped_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine was found well, so that it may be the request: it is told, and not asked for ever."""
    monkeypatch.setattr("dreamseed_cli.gateway.replicas._NEWS_S", _NEWS_S)
    with socket_folder() as folder:
        async with _asked(folder) as (server, task):
            await server.set_replicas([_told(folder, reason="recovered")])
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await task
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
