"""How soon a caller that leaves has freed its place: in the engine, and in the queue before it.

A stack of one small emulated engine. A streamed call is cancelled after its first token, or while it waits in
the queue because all places are taken; from then on the engine's own metric, or the gateway's of its queue,
is read without a pause until the place is free. Aim (issue 3): within 250 ms.
Run it from the repository root: `python -m benchmarks.cancel`.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import uvloop

from benchmarks._fire import all_ready, stack
from benchmarks.gateway_overhead import device, rounded
from benchmarks.priorities import quantiles
from dreamseed_cli.engine.client import EngineClient
from dreamseed_cli.engine.types import Endpoint
from dreamseed_cli.gateway.proto import GENERATE_STREAM
from dreamseed_cli.gateway.proto.llm_pb2 import STANDARD, GenerateRequest, GenerateResponse

RESULT = Path(__file__).parent / "results" / "cancel.json"
AIM_MS = 250.0
ROUNDS = 60
PLACES = 28  # of 32, 4 are kept for PREMIUM


class Bench:
    """A stack, a channel to its gateway, and what both sides say of their places."""

    def __init__(
        self, engine: EngineClient, channel: grpc.aio.Channel, session: aiohttp.ClientSession
    ) -> None:
        self._engine = engine
        self._session = session
        self._ask = channel.unary_stream(
            GENERATE_STREAM,
            request_serializer=GenerateRequest.SerializeToString,
            response_deserializer=GenerateResponse.FromString,
        )
        self._users = 0

    def call(self) -> grpc.aio.UnaryStreamCall[Any, GenerateResponse]:
        """A long answer for a user of its own."""
        self._users += 1
        request = GenerateRequest(
            prompt=f"Tell {self._users}",
            max_tokens=1500,
            temperature=0.7,
            user_id=f"u{self._users}",
            priority=STANDARD,
        )
        return self._ask(request, timeout=120.0)

    async def metric(self, name: str) -> float:
        """The sum of a metric of the gateway."""
        async with self._session.get("http://gateway/metrics") as response:
            lines = (await response.text()).splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name))

    async def in_the_engine(self) -> float:
        """Requests that the engine itself has."""
        found = await self._engine.metrics()
        return found.running + found.waiting if found else 0.0

    async def waiting(self) -> float:
        """Requests in the gateway's queue."""
        return await self.metric("dreamseed_queue_length")

    async def cancelled(
        self, call: grpc.aio.UnaryStreamCall[Any, Any], count: Callable[[], Awaitable[float]]
    ) -> float:
        """Milliseconds from the cancel until `count` has gone down."""
        before = await count()
        start = time.perf_counter()
        call.cancel()
        while await count() >= before:  # noqa: ASYNC110 - it is another process's count
            await asyncio.sleep(0.001)
        return (time.perf_counter() - start) * 1000


async def measure() -> dict[str, Any]:
    """Both kinds of places, one cancel after another."""
    with tempfile.TemporaryDirectory(prefix="ds-cancel-") as folder:
        async with stack(Path(folder), replicas=1) as stand:
            ready = await stand.until(all_ready, 60)
            endpoint = Endpoint.parse(ready.replicas[0].endpoint)
            admin = aiohttp.UnixConnector(str(stand.state.socket("gateway-admin")))
            async with (
                grpc.aio.insecure_channel(str(ready.gateway.address)) as channel,
                aiohttp.ClientSession(connector=admin) as session,
            ):
                engine = EngineClient(endpoint, model="", api="chat", usage_per_chunk=True)
                bench = Bench(engine, channel, session)
                try:
                    return {"engine_ms": await engine_places(bench), "queue_ms": await queue_places(bench)}
                finally:
                    await engine.close()


async def engine_places(bench: Bench) -> dict[str, float]:
    """Cancelled in mid-answer."""
    times = []
    for _ in range(ROUNDS):
        call = bench.call()
        await call.read()
        times.append(await bench.cancelled(call, bench.in_the_engine))
    return quantiles(times)


async def queue_places(bench: Bench) -> dict[str, float]:
    """Cancelled in the queue, behind answers that take all places."""
    holding = [bench.call() for _ in range(PLACES)]
    await asyncio.gather(*(call.read() for call in holding))
    times = []
    for _ in range(ROUNDS):
        call = bench.call()
        reading = asyncio.create_task(call.read())
        while not await bench.waiting():  # noqa: ASYNC110 - the same
            await asyncio.sleep(0.001)
        times.append(await bench.cancelled(call, bench.waiting))
        await asyncio.gather(reading, return_exceptions=True)
    for call in holding:
        call.cancel()
    return quantiles(times)


def main() -> None:
    """Run it, print and write the result."""
    found = rounded(
        {
            "benchmark": "cancel",
            "device": device(),
            "provenance": "measured: the gateway; the engine's tokens are simulated",
            "aim_ms": AIM_MS,
            **uvloop.run(measure()),
        }
    )
    RESULT.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
