"""What the HTTP front's tests start: fronts, gateways that follow a script, and a fallback."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
from free_ports import free_port
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from psycopg_pool import AsyncConnectionPool

from dreamseed_cli.api.connection import bound_writes
from dreamseed_cli.api.front import Front
from dreamseed_cli.api.server import build_server
from dreamseed_cli.api.settings import ApiSettings, read_settings
from dreamseed_cli.core.dependency import Dependency
from dreamseed_cli.gateway.front.service import FrontService
from dreamseed_cli.gateway.front.store import FrontStore
from dreamseed_cli.gateway.proto import SERVICE
from dreamseed_cli.gateway.proto.llm_pb2 import GenerateRequest, GenerateResponse
from dreamseed_cli.profile.schema import EmulatedCard, EmulatedEngine

KEY = "ds_a-test-key"
MODEL = "served"
FALLBACK_MODEL = "somebody-elses"
_BOUND_S = 90.0
Context = grpc.aio.ServicerContext[GenerateRequest, GenerateResponse]
Behaviour = Callable[[GenerateRequest, Context, int], Awaitable[None]]


def parts(*texts: str) -> list[GenerateResponse]:
    """A complete answer as the gateway streams it."""
    pieces = [GenerateResponse(text=text, tokens_generated=index + 1) for index, text in enumerate(texts)]
    last = GenerateResponse(
        tokens_generated=len(texts), finish_reason="stop", prompt_tokens=3, replica="r7", cache_hit=True
    )
    return [*pieces, last]


@dataclass
class ScriptedGateway:
    """A gateway whose every call is answered by `behaviour(request, context, number)`, numbers from 1.

    The behaviour writes messages (`parts()`), or aborts. calls: what was asked, with its metadata.
    """

    behaviour: Behaviour
    port: int = 0
    calls: list[tuple[GenerateRequest, dict[str, str]]] = field(default_factory=list)
    cancelled: int = 0
    front: FrontService | None = None
    _server: grpc.aio.Server | None = None

    async def start(self) -> None:
        """Listen; on the same port again after stop()."""
        self._server = grpc.aio.server(
            options=[("grpc.so_reuseport", 0), ("grpc.http2.min_ping_interval_without_data_ms", 10_000)]
        )
        respond = GenerateResponse.SerializeToString
        methods: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
            "Generate": grpc.unary_unary_rpc_method_handler(self._whole, GenerateRequest.FromString, respond),
            "GenerateStream": grpc.unary_stream_rpc_method_handler(
                self._stream, GenerateRequest.FromString, respond
            ),
        }
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, methods),))
        front = self.front or FrontService([MODEL], lambda _: True, None, check_user=any_user)
        self._server.add_generic_rpc_handlers((front.handler(),))
        servicer = health.aio.HealthServicer()
        await servicer.set("", health_pb2.HealthCheckResponse.SERVING)
        health_pb2_grpc.add_HealthServicer_to_server(servicer, self._server)
        self.port = self._server.add_insecure_port(f"127.0.0.1:{self.port}")
        await self._server.start()

    async def stop(self) -> None:
        """Go away at once, cutting what runs."""
        if self._server is not None:
            await self._server.stop(None)

    async def _stream(self, request: GenerateRequest, context: Context) -> None:
        self.calls.append((request, _texts(context)))
        try:
            await self.behaviour(request, context, len(self.calls))
        except asyncio.CancelledError:
            self.cancelled += 1
            raise

    async def _whole(self, request: GenerateRequest, context: Context) -> GenerateResponse:
        gathered = _Gatherer(context)
        await self._stream(request, gathered)  # type: ignore[arg-type]
        return gathered.whole


class _Gatherer:
    """A context that keeps what is written: the behaviour's stream as one message."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self.whole = GenerateResponse()

    async def write(self, message: GenerateResponse) -> None:
        text = self.whole.text + message.text
        self.whole.MergeFrom(message)
        self.whole.text = text

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)


def _texts(context: Context) -> dict[str, str]:
    found = context.invocation_metadata() or ()
    return {key: value for key, value in found if isinstance(value, str)}


async def answers(request: GenerateRequest, context: Context, number: int) -> None:
    """A behaviour: three words."""
    for message in parts("one ", "two ", "three"):
        await context.write(message)


async def any_user(context: grpc.aio.ServicerContext[bytes, Any]) -> None:
    """A check of users that nobody fails."""


@asynccontextmanager
async def scripted_gateway(
    behaviour: Behaviour = answers, front: FrontService | None = None
) -> AsyncIterator[ScriptedGateway]:
    """A scripted gateway that listens."""
    gateway = ScriptedGateway(behaviour, front=front)
    await gateway.start()
    try:
        yield gateway
    finally:
        await gateway.stop()


@asynccontextmanager
async def front_service(dsn: str, *, keep_events: bool = True, **more: Any) -> AsyncIterator[FrontService]:
    """FrontService on a migrated database, for every caller."""
    async with AsyncConnectionPool(dsn, min_size=1, max_size=4, open=False) as pool:
        store = FrontStore(pool, Dependency("postgres", timeout_s=2.0), keep_events=keep_events)
        yield FrontService([MODEL], lambda _: True, store, check_user=any_user, **more)


@dataclass(frozen=True, slots=True)
class RunningFront:
    """A front in this event loop."""

    port: int
    front: Front

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@asynccontextmanager
async def front_here(gateway_port: int, **environment: str) -> AsyncIterator[RunningFront]:
    """A front before the gateway at a port, with environment variables by lower-case names."""
    variables = {name.upper(): value for name, value in environment.items()}
    async with serving(read_settings({"GPU_ENDPOINT": f"127.0.0.1:{gateway_port}"} | variables)) as running:
        yield running


@asynccontextmanager
async def serving(settings: ApiSettings) -> AsyncIterator[RunningFront]:
    """A front with these settings on a free port."""
    front = Front(settings)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        bound_writes(listener)
        server = build_server(front, settings)
        task = asyncio.create_task(server.serve([listener]))
        try:
            yield RunningFront(listener.getsockname()[1], front)
        finally:
            server.should_exit = True
            await task
            await front.close()


@contextmanager
def front_process(environment: Mapping[str, str], log: Path) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """`dreamseed api` in a process of its own, and its base address."""
    port = free_port()
    code = "from dreamseed_cli.commands.api import api; api(as_json=False)"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-c", code],
            env={"PATH": "/usr/bin:/bin", "PORT": str(port), **environment},
            stdout=output,
            stderr=output,
        )
        try:
            _wait_for_port(port, process, log)
            yield process, f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@contextmanager
def fallback_engine(folder: Path, *, step_ms: float = 2.0) -> Iterator[str]:
    """An OpenAI-compatible service on loopback (an emulated engine); its base address with /v1."""
    port = free_port()
    card = EmulatedCard(
        source="a test",
        prefill_tokens_per_s=1e6,
        decode_step_ms=step_ms,
        decode_step_ms_per_seq=0.0,
        kv_cache_tokens=500_000,
    )
    config, log = folder / "fallback.json", folder / "fallback.log"
    config.write_text(
        EmulatedEngine(kind="emulated", served_name=FALLBACK_MODEL, card=card).model_dump_json()
    )
    arguments = ["-m", "dreamseed_cli.engine.emulated", "--config", str(config), "--port", str(port)]
    with log.open("wb") as output:
        process = subprocess.Popen([sys.executable, *arguments], stdout=output, stderr=output)
        try:
            _wait_for_port(port, process, log)
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            process.terminate()
            process.wait(15)


def _wait_for_port(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _BOUND_S
    while True:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.02)
