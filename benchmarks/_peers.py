"""The gateways that are compared: where they come from, how they are started, and what they cost."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import shlex
import signal
import socket
import subprocess
import sys
import venv
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic

import psutil

from benchmarks._load import Asker, GrpcAsker, HttpAsker, Meter, Reading, Way
from benchmarks._stub import MODEL
from benchmarks.gateway_overhead import port_of
from dreamseed_cli import __version__
from dreamseed_cli.gateway.command import gateway_command
from dreamseed_cli.gateway.settings import GatewaySettings, ReplicaTarget
from dreamseed_cli.profile.schema import Admission, Gateway

_START_TIMEOUT_S = 90.0
_STOP_TIMEOUT_S = 8.0
_NO_LIMIT = 1_000_000


@dataclass(frozen=True)
class Package:
    """A peer from PyPI, pinned."""

    name: str
    version: str
    extra: str = ""

    @property
    def requirement(self) -> str:
        return f"{self.name}{self.extra}=={self.version}"


LITELLM = Package("litellm", "1.106.2", "[proxy]")
VLLM_ROUTER = Package("vllm-router", "0.1.17")
SMG = Package("smg", "1.13.0")


def environment(folder: Path, package: Package) -> Path:
    """The `bin` of the peer's own virtual environment, made if need be. CalledProcessError if pip fails."""
    place = folder / f"{package.name}-{package.version}"
    complete = place / ".complete"
    if not complete.exists():
        venv.create(place, clear=True, with_pip=True)
        subprocess.run([place / "bin" / "pip", "install", "-q", package.requirement], check=True)
        complete.touch()
    return place / "bin"


@dataclass
class Peer:
    """A gateway that runs. processes: it and all that it needs on its core; empty for the direct way."""

    name: str
    way: Way
    port: int
    version: str = ""
    argv: Sequence[str] = ()
    processes: list[psutil.Process] = field(default_factory=list)

    def died(self) -> bool:
        """Whether a process of it has ended, though nobody told it to."""
        return any(process.status() == psutil.STATUS_ZOMBIE for process in self.processes)

    def cpu_s(self) -> float:
        """CPU seconds so far, user and system, of every process."""
        return sum(sum(process.cpu_times()[:2]) for process in self._all())

    def peak_rss_mib(self) -> float:
        """The sum of the processes' highest resident sizes (VmHWM)."""
        return sum(_peak_kib(process.pid) for process in self._all()) / 1024

    def _all(self) -> Iterator[psutil.Process]:
        for process in self.processes:
            yield process
            yield from process.children(recursive=True)


def _peak_kib(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next((int(line.split()[1]) for line in lines if line.startswith("VmHWM")), 0)


@contextmanager
def running(
    argv: Sequence[str | Path], core_set: Sequence[int], log: Path, env: Mapping[str, str] | None = None
) -> Iterator[psutil.Process]:
    """A process in a group of its own, pinned to `core_set` from its start; the whole group ends with us."""
    own = os.sched_getaffinity(0)
    os.sched_setaffinity(0, core_set)
    try:
        with log.open("wb") as output:
            process = subprocess.Popen(
                argv, env=os.environ | (env or {}), stdout=output, stderr=output, start_new_session=True
            )
    finally:
        os.sched_setaffinity(0, own)
    try:
        yield psutil.Process(process.pid)
    finally:
        _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(_STOP_TIMEOUT_S)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def free_port() -> int:
    """A port of loopback that nobody has at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def answers(way: Way, log: Path) -> None:
    """Wait until a request is answered whole; RuntimeError with the log's end after 90 s."""
    deadline = monotonic() + _START_TIMEOUT_S
    while monotonic() < deadline:
        asker = way.connect(Meter())
        reading = Reading(0.0, 1)
        asker.ask(reading, stream=False)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(reading.done, 5)
        await asker.close()
        if reading.whole:
            return
        await asyncio.sleep(0.1)
    raise RuntimeError(f"{log.stem} does not answer; its log ends with:\n{_end_of(log)}")


def _end_of(log: Path) -> str:
    return log.read_text()[-2000:] if log.exists() else ""


def over_http(port: int, headers: str = "") -> Way:
    """HTTP/1.1, a connection for each request under way."""

    def connect(meter: Meter) -> Asker:
        return HttpAsker(port, meter, headers)

    return Way(connect, shared=False)


def over_grpc(port: int, kind: Callable[[int, Meter], Asker] = GrpcAsker) -> Way:
    """gRPC, one connection for all."""

    def connect(meter: Meter) -> Asker:
        return kind(port, meter)

    return Way(connect, shared=True)


class House:
    """Starts peers before one engine, on one core. Everything it started ends with `stack`."""

    def __init__(
        self, stack: AsyncExitStack, folder: Path, environments: Path, core_set: Sequence[int], engine: str
    ) -> None:
        self._stack = stack
        self._folder = folder
        self._environments = environments
        self._core_set = core_set
        self._engine = engine

    async def litellm(self) -> Peer:
        """LiteLLM's proxy: one worker, its production mode. It starts with a key only, so it checks one."""
        key = f"sk-{secrets.token_hex(24)}"
        config = self._folder / "litellm.yaml"
        config.write_text(
            f"model_list:\n- model_name: {MODEL}\n  litellm_params:\n    model: openai/{MODEL}\n"
            f"    api_base: {self._engine}/v1\n    api_key: none\n"
        )
        port = free_port()
        program = await self._program(LITELLM, "litellm")
        argv = [program, "--config", str(config), "--host", "127.0.0.1", "--port", str(port)]
        env = {
            "LITELLM_MASTER_KEY": key,
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # else it looks for one on the internet
            "LITELLM_MODE": "PRODUCTION",
            "LITELLM_LOG": "ERROR",
        }
        argv += ["--num_workers", "1", "--telemetry", "False"]
        headers = f"Authorization: Bearer {key}\r\n"
        return await self._started(LITELLM.name, LITELLM.version, port, argv, env, headers)

    async def vllm_router(self) -> Peer:
        """vllm-router without its log of every request."""
        program = await self._program(VLLM_ROUTER, "vllm-router")
        return await self._router(VLLM_ROUTER, [program], "warning")

    async def smg(self) -> Peer:
        """SMG without its log of every request."""
        program = await self._program(SMG, "smg")
        return await self._router(SMG, [program, "launch"], "warn")

    async def grpc(self) -> Peer:
        """dreamseed's gateway, generation alone: no services, and a queue that holds nothing back, since
        the peers have none.
        """
        argv, process, port = await self._gateway("dreamseed gRPC")
        return await self._answering(
            Peer("dreamseed gRPC", over_grpc(port), port, __version__, argv, [process])
        )

    async def front(self, template: str) -> Peer:
        """dreamseed's HTTP front, with a gateway of its own behind it on the same core."""
        _, gateway, gateway_port = await self._gateway("gateway of the front")
        port = free_port()
        argv = [part.format(python=sys.executable, port=port) for part in shlex.split(template)]
        env = {"GPU_ENDPOINT": f"127.0.0.1:{gateway_port}"}
        peer = await self._started("dreamseed HTTP", __version__, port, argv, env)
        peer.processes.append(gateway)
        return peer

    async def _gateway(self, name: str) -> tuple[Sequence[str], psutil.Process, int]:
        admin = self._folder / f"{name}.sock"
        replica = ReplicaTarget(name="r0", endpoint=self._engine, model=MODEL, ready=True, places=_NO_LIMIT)
        settings = GatewaySettings(
            gateway=Gateway(port=0, admission=Admission(prefill_ahead_tokens=_NO_LIMIT)),
            served_name=MODEL,
            api="chat",
            max_model_len=4096,
            usage_per_chunk=True,
            simulated=False,
            api_key_env=None,
            admin_socket=str(admin),
            replicas=(replica,),
        )
        config = self._folder / f"{name}.json"
        config.write_text(settings.model_dump_json())
        argv = gateway_command(config).argv
        process = self._run(name, argv, {})
        return argv, process, await port_of(str(admin))

    async def _router(self, package: Package, start: Sequence[str], log_level: str) -> Peer:
        port = free_port()
        argv = [*start, "--worker-urls", self._engine, "--policy", "round_robin", "--host", "127.0.0.1"]
        argv += ["--port", str(port), "--prometheus-port", str(free_port()), "--log-level", log_level]
        return await self._started(package.name, package.version, port, argv, {})

    async def _started(
        self,
        name: str,
        version: str,
        port: int,
        argv: Sequence[str],
        env: Mapping[str, str],
        headers: str = "",
    ) -> Peer:
        process = self._run(name, argv, env)
        return await self._answering(Peer(name, over_http(port, headers), port, version, argv, [process]))

    async def _answering(self, peer: Peer) -> Peer:
        await answers(peer.way, self._log(peer.name))
        return peer

    async def _program(self, package: Package, name: str) -> str:
        return str(await asyncio.to_thread(environment, self._environments, package) / name)

    def _run(self, name: str, argv: Sequence[str], env: Mapping[str, str]) -> psutil.Process:
        return self._stack.enter_context(running(argv, self._core_set, self._log(name), env))

    def _log(self, name: str) -> Path:
        return self._folder / f"{name}.log"
