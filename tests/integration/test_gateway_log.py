"""What the gateway writes down of its callers: never their prompts, whatever an engine makes of them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
from aiohttp import web
from gateway_harness import gateway_process, settings, socket_folder, target
from grpc import StatusCode

from dreamseed_cli.gateway.proto import GENERATE
from dreamseed_cli.gateway.proto.llm_pb2 import GenerateRequest, GenerateResponse

SECRET = "my password is hunter-4711"


def _event(document: object) -> bytes:
    return b"data: " + json.dumps(document).encode() + b"\n\n"


_PIECE = _event({"choices": [{"delta": {"content": "So"}, "finish_reason": None}]})
_LAST = _event(
    {
        "choices": [{"delta": {}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 1},
    }
)
_QUOTED = f"Input should be a valid string, input_value='{SECRET}'"
_ANSWERS: dict[str, tuple[int, bytes]] = {
    "answers": (200, _PIECE + _LAST + b"data: [DONE]\n\n"),
    "refuses": (400, json.dumps({"error": {"message": _QUOTED}}).encode()),
    "is full": (429, json.dumps({"error": {"message": _QUOTED}}).encode()),
    "breaks": (500, json.dumps({"error": {"message": _QUOTED}}).encode()),
    "fails in the stream": (200, _PIECE + _event({"error": {"message": _QUOTED}})),
    "sends garbage": (200, f'data: {{"{SECRET}": \n\n'.encode()),
    "sends another shape": (200, _event({"choices": [{"delta": {"content": [SECRET]}}]})),
}


@dataclass
class _Engine:
    """It gives every request the answer that it is set to."""

    status: int = 200
    body: bytes = b""

    async def answer(self, _request: web.Request) -> web.Response:
        return web.Response(status=self.status, body=self.body, content_type="text/event-stream")


@asynccontextmanager
async def _engine(socket: Path) -> AsyncIterator[_Engine]:
    engine = _Engine()
    app = web.Application()
    app.router.add_post("/v1/chat/completions", engine.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.UnixSite(runner, str(socket)).start()
    try:
        yield engine
    finally:
        await runner.cleanup()


async def _ask(address: str) -> StatusCode:
    async with grpc.aio.insecure_channel(address) as channel:
        generate = channel.unary_unary(
            GENERATE, GenerateRequest.SerializeToString, GenerateResponse.FromString
        )
        try:
            await generate(GenerateRequest(prompt=SECRET, max_tokens=5), timeout=30)
        except grpc.aio.AioRpcError as error:
            return error.code()
    return StatusCode.OK


async def test_a_prompt_is_in_no_log() -> None:
    """Also where the engine's own error quotes it, as vLLM's do: the caller alone is told that."""
    codes = {}
    with socket_folder() as folder, ExitStack() as processes:
        async with _engine(folder / "e0.sock") as engine:
            running = gateway_process(folder, settings(folder, target("r0", folder / "e0.sock")))
            gateway = await asyncio.to_thread(processes.enter_context, running)
            address = await asyncio.to_thread(lambda: gateway.address)
            for name, (engine.status, engine.body) in _ANSWERS.items():
                codes[name] = await _ask(address)
            written = gateway.log.read_text()

    assert [name for name, code in codes.items() if code is StatusCode.OK] == ["answers"]
    assert "engine failed" in written
    assert "hunter-4711" not in written
