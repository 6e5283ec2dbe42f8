"""What the gateway's tests start: emulated engines, and gateways in processes of their own or here."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp

from dreamseed_cli.engine.emulated.command import emulated_command
from dreamseed_cli.engine.types import Command
from dreamseed_cli.gateway.command import gateway_command
from dreamseed_cli.gateway.server import GatewayServer
from dreamseed_cli.gateway.settings import GatewaySettings, ReplicaTarget
from dreamseed_cli.profile.schema import Cache, EmulatedCard, EmulatedEngine, Gateway

MODEL = "emulated"
_START_TIMEOUT_S = 90.0


@contextmanager
def socket_folder() -> Iterator[Path]:
    """A folder whose path is short enough for Unix sockets."""
    with tempfile.TemporaryDirectory(prefix="ds-") as folder:
        yield Path(folder)


def target(name: str, socket: Path, *, ready: bool = True) -> ReplicaTarget:
    """An engine as the gateway is told of it."""
    return ReplicaTarget(name=name, endpoint=f"unix:{socket}", model=MODEL, ready=ready)


def settings(folder: Path, *targets: ReplicaTarget, **gateway: Any) -> GatewaySettings:
    """Settings of a gateway on a free port, before emulated engines: every call reaches an engine, unless
    `cache` says otherwise.
    """
    defaults: dict[str, Any] = {"port": 0, "drain_timeout_s": 10.0, "cache": Cache(enabled=False)}
    return GatewaySettings(
        gateway=Gateway(**(defaults | gateway)),
        served_name="served",
        api="chat",
        max_model_len=4096,
        usage_per_chunk=True,
        simulated=True,
        api_key_env=None,
        admin_socket=str(folder / "admin.sock"),
        replicas=targets,
    )


@dataclass(frozen=True, slots=True)
class RunningEngine:
    """An emulated engine in a process of its own."""

    socket: Path
    process: subprocess.Popen[bytes]

    async def order_fault(self, **order: Any) -> None:
        """Make it misbehave."""
        async with (
            _session(self.socket) as session,
            session.post("http://e/control/fault", json=order) as reply,
        ):
            assert reply.status == 200, await reply.text()

    async def behave(self) -> None:
        """End every fault."""
        async with _session(self.socket) as session, session.delete("http://e/control/fault") as reply:
            assert reply.status == 200


@contextmanager
def emulated_engine(
    folder: Path, name: str, *, step_ms: float = 2.0, **engine: Any
) -> Iterator[RunningEngine]:
    """Start an emulated engine with tiny times and wait until it listens."""
    path = folder / f"{name}.sock"
    config = folder / f"{name}.json"
    card = EmulatedCard(
        source="a test",
        prefill_tokens_per_s=1e6,
        decode_step_ms=step_ms,
        decode_step_ms_per_seq=0.0,
        kv_cache_tokens=500_000,
    )
    config.write_text(
        EmulatedEngine(kind="emulated", served_name=MODEL, card=card, **engine).model_dump_json()
    )
    with _running(emulated_command(config, path), folder / f"{name}.log") as process:
        _wait_until(partial(_listens, path), process, folder / f"{name}.log")
        yield RunningEngine(path, process)


@dataclass(frozen=True, slots=True)
class RunningGateway:
    """A gateway in a process of its own."""

    process: subprocess.Popen[bytes]
    admin_socket: Path
    log: Path

    def stats(self) -> dict[str, Any]:
        """What `GET /stats` says."""
        return asyncio.run(get_stats(self.admin_socket))

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.stats()['port']}"


@contextmanager
def gateway_process(folder: Path, gateway_settings: GatewaySettings) -> Iterator[RunningGateway]:
    """Start a gateway process and wait until its admin interface listens."""
    config, log = folder / "gateway.json", folder / "gateway.log"
    config.write_text(gateway_settings.model_dump_json())
    admin_socket = Path(gateway_settings.admin_socket)
    with _running(gateway_command(config), log) as process:
        _wait_until(lambda: admin_socket.exists() and _answers(admin_socket), process, log)
        yield RunningGateway(process, admin_socket, log)


@asynccontextmanager
async def gateway_here(gateway_settings: GatewaySettings) -> AsyncIterator[GatewayServer]:
    """A gateway in this event loop."""
    server = GatewayServer(gateway_settings)
    try:
        await server.start()
        yield server
    finally:
        await server.stop()


async def get_stats(admin_socket: Path) -> dict[str, Any]:
    """What `GET /stats` of a gateway says."""
    async with _session(admin_socket) as session, session.get("http://gateway/stats") as reply:
        found: dict[str, Any] = await reply.json()
        return found


async def put_replicas(admin_socket: Path, body: Any) -> tuple[int, Any]:
    """`PUT /replicas`: status and answer."""
    async with (
        _session(admin_socket) as session,
        session.put("http://gateway/replicas", data=json.dumps(body)) as reply,
    ):
        return reply.status, await reply.json()


async def until(condition: Any, timeout_s: float = 60.0) -> None:
    """Wait until `condition()`, or what it awaits, is true; AssertionError after `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while True:
        found = condition()
        if asyncio.iscoroutine(found):
            found = await found
        if found:
            return
        assert time.monotonic() < deadline, "the condition did not come true in time"
        await asyncio.sleep(0.01)


def _session(socket: Path) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=aiohttp.UnixConnector(str(socket)), timeout=aiohttp.ClientTimeout(total=30)
    )


def _listens(path: Path) -> bool:
    """Whether it takes connections: the file is there a moment earlier."""
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(str(path)) == 0


def _answers(admin_socket: Path) -> bool:
    try:
        return "port" in asyncio.run(get_stats(admin_socket))
    except (aiohttp.ClientError, OSError):
        return False


@contextmanager
def _running(command: Command, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with ExitStack() as stack:
        output = stack.enter_context(log.open("wb"))
        process = stack.enter_context(
            subprocess.Popen(command.argv, stdout=output, stderr=output, stdin=subprocess.DEVNULL)
        )
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()


def _wait_until(condition: Any, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _START_TIMEOUT_S
    while not condition():
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.02)
