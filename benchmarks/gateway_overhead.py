"""What the gateway adds: streams through it and past it, and its unary rate beside a bare gRPC echo.

In one run and in turns, against emulated engines: TTFT and tokens/s of streams at 1 and 32 concurrent,
direct over HTTP and through the gateway, and what a bare `grpc.aio` stream takes by itself; then short unary
calls to the gateway and to a bare `grpc.aio` echo by the same client. Client, gateway, engine and echo are
a process each. Gateway and echo have the last core to themselves, the rest share the others. The engine's
times are simulated, the overhead is measured.
Run it from the repository root: `python benchmarks/gateway_overhead.py`.
"""

from __future__ import annotations

import argparse
import asyncio
import datetime as dt
import itertools
import json
import math
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

import aiohttp
import grpc
import psutil
import uvloop

from dreamseed_cli.bench.where import processor
from dreamseed_cli.engine.client import EngineClient
from dreamseed_cli.engine.emulated.command import emulated_command
from dreamseed_cli.engine.types import Endpoint, GenerationRequest
from dreamseed_cli.gateway.command import gateway_command
from dreamseed_cli.gateway.proto import GENERATE, GENERATE_STREAM, SERVICE
from dreamseed_cli.gateway.proto.llm_pb2 import GenerateRequest, GenerateResponse
from dreamseed_cli.gateway.settings import GatewaySettings, ReplicaTarget
from dreamseed_cli.profile.load import load_profile
from dreamseed_cli.profile.schema import EmulatedCard, EmulatedEngine, Gateway

RESULT = Path(__file__).parent / "results" / "gateway_overhead.json"
PROFILE = "emulated-rtx5090x3"
MODEL = "emulated"
AIMS = {"added_ttft_p50_ms": 1.0, "added_ttft_p99_ms": 3.0, "unary_rate_ratio": 0.5}
SHIPPED = cast("EmulatedEngine", load_profile(PROFILE).engine)
STEP_S = (SHIPPED.card.decode_step_ms + 31 * SHIPPED.card.decode_step_ms_per_seq) / 1000
RAMP_S = 0.5
PROMPT = "Question {:06d}: why is the sky blue, and why is it red in the evening?"

NUMBERS = itertools.count()

Ask = Callable[[str, int], AsyncIterator[int]]
Call = Callable[[], Awaitable[Any]]


@dataclass
class Streams:
    """All streams of one way at one concurrency."""

    ttft_ms: list[float] = field(default_factory=list)
    rounds_ttft_p50_ms: list[float] = field(default_factory=list)
    tokens: int = 0
    wall_s: float = 0.0
    gateway_cpu_s: float = 0.0


@dataclass
class Unary:
    """All unary calls to one server."""

    calls: int = 0
    wall_s: float = 0.0
    server_cpu_s: float = 0.0


@contextmanager
def running(argv: Sequence[str], core_set: Sequence[int]) -> Iterator[psutil.Process]:
    """A process pinned to `core_set` from its start, so that its threads are too."""
    own = os.sched_getaffinity(0)
    os.sched_setaffinity(0, core_set)
    process = subprocess.Popen(argv, stderr=subprocess.DEVNULL)
    os.sched_setaffinity(0, own)
    try:
        yield psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait(30)


def engine_settings(*, fast: bool) -> EmulatedEngine:
    """For streams, the shipped profile's card as it decodes 32 sequences; for unary calls one without delay.

    Steps of one length and a prefill that takes no time: what varies then is the wait for the next step
    alone, and a millisecond that the gateway adds is not lost in the queue for the prefill.
    """
    card = EmulatedCard(
        source=f"benchmark: {PROFILE}'s step at 32 sequences" if not fast else "benchmark: answers at once",
        prefill_tokens_per_s=1e8,
        decode_step_ms=0.05 if fast else STEP_S * 1000,
        decode_step_ms_per_seq=0.0,
        kv_cache_tokens=1_000_000,
    )
    return SHIPPED.model_copy(update={"served_name": MODEL, "card": card})


def gateway_settings(folder: Path, name: str) -> GatewaySettings:
    """A gateway on a free port before one engine."""
    replica = ReplicaTarget(name="r0", endpoint=f"unix:{folder / name}.sock", model=MODEL, ready=True)
    return GatewaySettings(
        gateway=Gateway(port=0),
        served_name=MODEL,
        api="chat",
        max_model_len=4096,
        usage_per_chunk=True,
        simulated=True,
        api_key_env=None,
        admin_socket=str(folder / f"{name}-admin.sock"),
        replicas=(replica,),
    )


async def port_of(admin_socket: str) -> int:
    """The gateway's port, once it listens; TimeoutError after 30 s."""
    async with (
        asyncio.timeout(30),
        aiohttp.ClientSession(connector=aiohttp.UnixConnector(admin_socket)) as session,
    ):
        while True:
            try:
                async with session.get("http://gateway/stats") as reply:
                    return int((await reply.json())["port"])
            except (aiohttp.ClientError, OSError):
                await asyncio.sleep(0.05)


def ask_directly(client: EngineClient) -> Ask:
    """Streams past the gateway: yields the tokens so far with every chunk."""

    async def ask(prompt: str, tokens: int) -> AsyncIterator[int]:
        request = GenerationRequest("", prompt, tokens, 0.7, 0.9)
        async for chunk in client.stream(request, timeout_s=120):
            yield chunk.completion_tokens or 0

    return ask


def ask_gateway(channel: grpc.aio.Channel) -> Ask:
    """Streams through the gateway."""
    stream = channel.unary_stream(
        GENERATE_STREAM, GenerateRequest.SerializeToString, GenerateResponse.FromString
    )

    async def ask(prompt: str, tokens: int) -> AsyncIterator[int]:
        request = GenerateRequest(prompt=prompt, max_tokens=tokens, temperature=0.7)
        async for message in stream(request, timeout=120):
            yield message.tokens_generated

    return ask


async def stream_round(ask: Ask, seed: int, concurrency: int, per_stream: int) -> Streams:
    """`concurrency` streams at a time, each `per_stream` answers in a row, of 8 to 24 tokens.

    They start one after the other, and each one's first answer fills the batch without being counted. A
    random pause of up to a step before each request keeps them out of step with the engine: in step, whatever
    the gateway adds before a step begins would vanish in the wait for it. The same seed asks for the same
    lengths; no prompt is asked twice, which a prefix cache would know.
    """
    rng = random.Random(seed)  # noqa: S311 - lengths, not secrets
    plan = [[rng.randint(8, 24) for _ in range(per_stream + 1)] for _ in range(concurrency)]
    found = Streams()

    async def worker(place: int, lengths: list[int]) -> None:
        await asyncio.sleep(RAMP_S * place / concurrency)
        for index, length in enumerate(lengths):
            await asyncio.sleep(rng.random() * STEP_S)
            start = time.perf_counter()
            first = 0.0
            total = 0
            async for tokens in ask(PROMPT.format(next(NUMBERS)), length):
                first = first or time.perf_counter() - start
                total = tokens
            found.tokens += total
            if index:
                found.ttft_ms.append(first * 1000)

    begin = time.perf_counter()
    await asyncio.gather(*(worker(place, lengths) for place, lengths in enumerate(plan)))
    found.wall_s = time.perf_counter() - begin
    return found


async def compare_streams(
    ways: dict[str, Ask], gateway: psutil.Process, concurrency: int, rounds: int
) -> dict[str, Streams]:
    """Direct, through, and gRPC without an engine behind it, in turns, the order changing each round."""
    totals = {name: Streams() for name in ways}
    for index in range(rounds):
        for name in sorted(ways, reverse=bool(index % 2)):
            cpu = cpu_s(gateway)
            part = await stream_round(ways[name], index, concurrency, per_stream=12)
            totals[name].ttft_ms += part.ttft_ms
            totals[name].rounds_ttft_p50_ms.append(statistics.median(part.ttft_ms))
            totals[name].tokens += part.tokens
            totals[name].wall_s += part.wall_s
            totals[name].gateway_cpu_s += cpu_s(gateway) - cpu
    return totals


async def compare_unary(
    calls: dict[str, tuple[Call, psutil.Process]], concurrency: int, rounds: int, per_round: int
) -> dict[str, Unary]:
    """The echo and the gateway in turns."""
    totals = {name: Unary() for name in calls}
    for index in range(rounds):
        for name in sorted(calls, reverse=bool(index % 2)):
            call, server = calls[name]
            cpu, begin = cpu_s(server), time.perf_counter()
            await asyncio.gather(*(_repeat(call, per_round // concurrency) for _ in range(concurrency)))
            totals[name].wall_s += time.perf_counter() - begin
            totals[name].server_cpu_s += cpu_s(server) - cpu
            totals[name].calls += per_round // concurrency * concurrency
    return totals


async def _repeat(call: Call, times: int) -> None:
    for _ in range(times):
        await call()


def unary_call(channel: grpc.aio.Channel) -> Call:
    """A one-token request, the same for both servers."""
    method = channel.unary_unary(GENERATE, GenerateRequest.SerializeToString, GenerateResponse.FromString)
    request = GenerateRequest(prompt="Why?", max_tokens=1)

    async def call() -> GenerateResponse:
        return await method(request, timeout=60)

    return call


def cpu_s(process: psutil.Process) -> float:
    """CPU seconds of a process, user and system."""
    times = process.cpu_times()
    return times.user + times.system


def summarise_streams(found: dict[str, Streams]) -> dict[str, Any]:
    """Quantiles of each way, and through minus direct."""
    ttft = {
        name: {f"p{share}": _quantile(streams.ttft_ms, share / 100) for share in (50, 90, 99)}
        for name, streams in found.items()
    }
    rate = {name: streams.tokens / streams.wall_s for name, streams in found.items()}
    through = found["through"]
    return {
        "answers_each_way": len(through.ttft_ms),
        "ttft_ms": ttft,
        "added_ttft_ms": {key: ttft["through"][key] - ttft["direct"][key] for key in ttft["direct"]},
        # How much the direct way differs from itself: between its even and its odd rounds.
        "noise_ttft_ms": noise(found["direct"]),
        "tokens_per_s": {name: rate[name] for name in ("direct", "through")},
        "tokens_per_s_ratio": rate["through"] / rate["direct"],
        "gateway_cpu_us_per_token": through.gateway_cpu_s / through.tokens * 1e6,
        "gateway_cpu_share_of_its_core": through.gateway_cpu_s / through.wall_s,
    }


def summarise_unary(found: dict[str, Unary]) -> dict[str, Any]:
    """Rates, and the CPU that a call costs the server."""
    rate = {name: unary.calls / unary.wall_s for name, unary in found.items()}
    cost = {name: unary.server_cpu_s / unary.calls * 1e6 for name, unary in found.items()}
    return {
        "calls_each": found["echo"].calls,
        "calls_per_s": rate,
        "rate_ratio": rate["gateway"] / rate["echo"],
        "server_cpu_us_per_call": cost,
        "server_cpu_share_of_its_core": {
            name: unary.server_cpu_s / unary.wall_s for name, unary in found.items()
        },
        "calls_per_cpu_s_ratio": cost["echo"] / cost["gateway"],
    }


def noise(streams: Streams) -> dict[str, float]:
    """How the quantiles of even and odd rounds differ; a difference of two ways below that means nothing."""
    size = len(streams.ttft_ms) // len(streams.rounds_ttft_p50_ms)
    halves: list[list[float]] = [[], []]
    for index, value in enumerate(streams.ttft_ms):
        halves[index // size % 2].append(value)
    return {
        f"p{share}": abs(_quantile(halves[0], share / 100) - _quantile(halves[1], share / 100))
        for share in (50, 90, 99)
    }


def _quantile(values: Sequence[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, math.ceil(share * len(ordered)) - 1)]


def device() -> dict[str, Any]:
    """Where and with what this ran."""
    packages = ("grpcio", "protobuf", "aiohttp", "httptools", "uvloop", "msgspec")
    return {
        "cpu": processor(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "kernel": platform.release(),
        "versions": {name: version(name) for name in packages},
        "date": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "load_average_before": os.getloadavg()[0],
    }


async def measure(rounds: int) -> dict[str, Any]:
    """Start everything, take turns, and return the report."""
    stamp = device()
    cores = sorted(os.sched_getaffinity(0))
    server_core, other_cores = cores[-1:], cores[:-1] or cores
    os.sched_setaffinity(0, other_cores)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ds-")))
        gateways = {}
        for name, fast in (("card", False), ("fast", True)):
            (folder / f"{name}.json").write_text(engine_settings(fast=fast).model_dump_json())
            engine = emulated_command(folder / f"{name}.json", folder / f"{name}.sock")
            stack.enter_context(running(engine.argv, other_cores))
            chosen = gateway_settings(folder, name)
            (folder / f"{name}-gateway.json").write_text(chosen.model_dump_json())
            command = gateway_command(folder / f"{name}-gateway.json")
            process = stack.enter_context(running(command.argv, server_core))
            gateways[name] = process, await port_of(chosen.admin_socket)
        echo_argv = [sys.executable, __file__, "--echo", str(folder / "echo.port")]
        echo = stack.enter_context(running(echo_argv, server_core))
        echo_port = await asyncio.to_thread(_read_port, folder / "echo.port")
        streams = await _streams(folder / "card.sock", *gateways["card"], echo_port, rounds)
        unary = await _unary(echo, echo_port, *gateways["fast"], rounds)
    return report(stamp, streams, unary)


async def _streams(
    socket: Path, gateway: psutil.Process, port: int, echo_port: int, rounds: int
) -> dict[int, dict[str, Streams]]:
    client = EngineClient(Endpoint(socket=socket), model=MODEL, api="chat", usage_per_chunk=True)
    await client.first_token(30)
    async with (
        grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel,
        grpc.aio.insecure_channel(f"127.0.0.1:{echo_port}") as echo_channel,
    ):
        ways = {
            "direct": ask_directly(client),
            "through": ask_gateway(channel),
            "grpc_alone": ask_gateway(echo_channel),
        }
        for ask in ways.values():
            await stream_round(ask, 0, 32, per_stream=1)
        found = {
            1: await compare_streams(ways, gateway, 1, rounds * 3),
            32: await compare_streams(ways, gateway, 32, rounds),
        }
    await client.close()
    return found


async def _unary(
    echo: psutil.Process, echo_port: int, gateway: psutil.Process, gateway_port: int, rounds: int
) -> dict[int, dict[str, Unary]]:
    async with (
        grpc.aio.insecure_channel(f"127.0.0.1:{echo_port}") as echo_channel,
        grpc.aio.insecure_channel(f"127.0.0.1:{gateway_port}") as channel,
    ):
        calls = {"echo": (unary_call(echo_channel), echo), "gateway": (unary_call(channel), gateway)}
        await compare_unary(calls, 64, 1, 1024)
        return {
            1: await compare_unary(calls, 1, rounds, 500),
            64: await compare_unary(calls, 64, rounds, 3200),
        }


def _read_port(file: Path) -> int:
    deadline = time.monotonic() + 30
    while not (file.exists() and file.read_text()):
        if time.monotonic() > deadline:
            raise TimeoutError("the echo server does not start")
        time.sleep(0.05)
    return int(file.read_text())


def report(
    stamp: dict[str, Any], streams: dict[int, dict[str, Streams]], unary: dict[int, dict[str, Unary]]
) -> dict[str, Any]:
    """The result file."""
    summary = {f"streams_{n}": summarise_streams(found) for n, found in streams.items()}
    summary |= {f"unary_{n}": summarise_unary(found) for n, found in unary.items()}
    return {
        "benchmark": "gateway_overhead",
        "device": stamp,
        "provenance": {
            "engine": f"simulated: a step of {PROFILE}'s card at 32 sequences; for unary calls no delay",
            "overhead": "measured: through the gateway minus direct, in turns in one run",
        },
        "placement": "gateway and echo on the last core, client and engine on the others",
        "aims": AIMS,
        "reached": {
            "added_ttft_p50_ms": summary["streams_32"]["added_ttft_ms"]["p50"] <= AIMS["added_ttft_p50_ms"],
            "added_ttft_p99_ms": summary["streams_32"]["added_ttft_ms"]["p99"] <= AIMS["added_ttft_p99_ms"],
            "unary_rate_ratio": summary["unary_64"]["rate_ratio"] >= AIMS["unary_rate_ratio"],
        },
        "summary": summary,
        "raw": {
            "streams": {n: {way: asdict(found[way]) for way in found} for n, found in streams.items()},
            "unary": {n: {server: asdict(found[server]) for server in found} for n, found in unary.items()},
        },
    }


async def serve_echo(tell_port: Callable[[str], Any]) -> None:
    """The bare echo: bytes in, a constant answer out; streams at once, then in the engine's rhythm."""
    answer = GenerateResponse(text="word", tokens_generated=1, latency_ms=1.0).SerializeToString()

    async def echo(_request: bytes, _context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
        return answer

    async def stream(request: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> None:
        await context.write(answer)
        for _ in range(GenerateRequest.FromString(request).max_tokens):
            await asyncio.sleep(STEP_S)
            await context.write(answer)

    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    methods: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {
        "Generate": grpc.unary_unary_rpc_method_handler(echo),
        "GenerateStream": grpc.unary_stream_rpc_method_handler(stream),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, methods),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    tell_port(str(port))
    await server.wait_for_termination()


def rounded(value: Any) -> Any:
    """The same document with four decimals."""
    if isinstance(value, float):
        return round(value, 4)
    if isinstance(value, dict):
        return {str(key): rounded(item) for key, item in value.items()}
    return [rounded(item) for item in value] if isinstance(value, list) else value


def main() -> None:
    """Run it, print the summary, write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=10, help="turns of each way")
    parser.add_argument("--echo", type=Path, metavar="PORT_FILE", help="be the echo server")
    parser.add_argument("--output", type=Path, default=RESULT)
    options = parser.parse_args()
    if options.echo:
        uvloop.run(serve_echo(options.echo.write_text))
        return
    found = uvloop.run(measure(options.rounds))
    options.output.write_text(json.dumps(rounded(found)) + "\n")
    print(json.dumps({key: rounded(found[key]) for key in ("device", "summary", "reached")}, indent=1))


if __name__ == "__main__":
    main()
