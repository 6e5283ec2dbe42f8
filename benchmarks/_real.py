"""Emulated engines and a gateway as processes, and clients that ask in open loop: the real half of
`priorities.py`.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import os
import random
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import ExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import aiohttp
import grpc
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from prometheus_client.parser import text_string_to_metric_families

from benchmarks._peers import running
from benchmarks.gateway_overhead import port_of
from dreamseed_cli.engine.client import EngineClient
from dreamseed_cli.engine.emulated.command import emulated_command
from dreamseed_cli.engine.types import Endpoint, GenerationRequest
from dreamseed_cli.gateway.command import gateway_command
from dreamseed_cli.gateway.proto import GENERATE, GENERATE_STREAM
from dreamseed_cli.gateway.proto.llm_pb2 import (
    BATCH,
    PREMIUM,
    STANDARD,
    GenerateRequest,
    GenerateResponse,
    Priority,
)
from dreamseed_cli.gateway.settings import GatewaySettings, ReplicaTarget
from dreamseed_cli.gateway.status import DETAILS_KEY
from dreamseed_cli.profile.schema import Accounts, Admission, EmulatedEngine, Gateway

PROFILE = "emulated-rtx5090x3"
MODEL = "emulated"
NAMES = {BATCH: "batch", STANDARD: "standard", PREMIUM: "premium"}
PATIENCE_S = {PREMIUM: 30.0, STANDARD: 20.0, BATCH: 120.0}
USERS = 40
NUMBERS = itertools.count()


@dataclass(frozen=True, slots=True)
class Setting:
    """What one run is made of. Lengths in tokens, times in seconds."""

    engine: EmulatedEngine
    rules: Admission
    prompt_tokens: int
    premium_prompt_tokens: int
    answer_tokens: int
    premium_load: float
    """PREMIUM's requests, of the requests of the others that the cards can do."""
    ramp_s: float
    window_s: float

    def premium_prompt(self, phase: str) -> int:
        """PREMIUM's prompt in a phase: where PREMIUM alone overloads the cards, as long as the others'."""
        return self.prompt_tokens if phase == "endless_premium" else self.premium_prompt_tokens

    def phases(self, capacity: float) -> dict[str, dict[Priority, float]]:
        """Requests a second by class; capacity: what the cards can do of STANDARD's and BATCH's."""
        premium = self.premium_load * capacity
        return {
            "premium_alone": {PREMIUM: premium},
            "standard_and_batch": {STANDARD: capacity, BATCH: capacity},
            "overload": {
                PREMIUM: premium,
                STANDARD: 1.5 * capacity,
                BATCH: (1.5 - self.premium_load) * capacity,
            },
            "endless_premium": {PREMIUM: 2 * capacity, STANDARD: capacity / 2, BATCH: capacity / 2},
        }


@dataclass
class Found:
    """What one phase saw; only what began inside its window counts, but for the engines' own counters."""

    ttft_ms: dict[Priority, list[float]] = field(default_factory=lambda: defaultdict(list))
    answers: Counter[str] = field(default_factory=Counter)
    work_tokens: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    reject_ms: list[float] = field(default_factory=list)
    retry_after_s: list[float] = field(default_factory=list)
    lag_ms: list[float] = field(default_factory=list)
    generated_per_s: float = 0.0
    began: float = math.inf
    ended: float = math.inf

    def counts(self, at: float) -> bool:
        """Whether this moment is inside the window."""
        return self.began <= at < self.ended


class Stand:
    """Engines and gateway of a run, and the two ways to them."""

    def __init__(self, setting: Setting, sockets: Sequence[Path], channel: grpc.aio.Channel) -> None:
        self.setting = setting
        self.premium_prompt_tokens = setting.premium_prompt_tokens
        self.sockets = sockets
        encode, decode = GenerateRequest.SerializeToString, GenerateResponse.FromString
        self._stream = channel.unary_stream(GENERATE_STREAM, encode, decode)
        self._unary = channel.unary_unary(GENERATE, encode, decode)

    def prompt(self, tokens: int) -> str:
        """A text of so many tokens, four bytes each, that no prefix cache knows."""
        start = f"{next(NUMBERS):08d}: "
        return start + "why is it so? " * (tokens * 4 // 14 - 1)

    async def ask(self, cls: Priority, found: Found) -> None:
        """One request through the gateway: PREMIUM streamed, the others whole."""
        began = time.perf_counter()
        premium = cls == PREMIUM
        length = self.premium_prompt_tokens if premium else self.setting.prompt_tokens
        request = GenerateRequest(
            prompt=self.prompt(length),
            user_id=f"user-{next(NUMBERS) % USERS}",
            max_tokens=self.setting.answer_tokens,
            temperature=0.7,
            priority=cls,
            bypass_cache=True,
        )
        try:
            if premium:
                last = await self._streamed(request, found, began)
            else:
                last = await self._unary(request, timeout=PATIENCE_S[cls])
        except grpc.aio.AioRpcError as error:
            self._note_failure(error, cls, found, began)
            return
        if found.counts(time.perf_counter()):
            found.answers[NAMES[cls]] += 1
            found.work_tokens[NAMES[cls]] += last.tokens_generated + last.prompt_tokens

    async def _streamed(self, request: GenerateRequest, found: Found, began: float) -> GenerateResponse:
        last = GenerateResponse()
        first = False
        async for message in self._stream(request, timeout=PATIENCE_S[PREMIUM]):
            if not first and found.counts(began):
                found.ttft_ms[PREMIUM].append((time.perf_counter() - began) * 1000)
            first, last = True, message
        return last

    @staticmethod
    def _note_failure(error: grpc.aio.AioRpcError, cls: Priority, found: Found, began: float) -> None:
        if not found.counts(began):
            return
        code = error.code()
        found.refused[f"{NAMES[cls]} {code.name}"] += 1
        if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
            found.reject_ms.append((time.perf_counter() - began) * 1000)
            found.retry_after_s.append(retry_after_s(error))

    async def generated(self) -> float:
        """Tokens that all engines have generated so far, by their own counters."""
        total = 0.0
        for socket in self.sockets:
            connector = aiohttp.UnixConnector(str(socket))
            async with (
                aiohttp.ClientSession(connector=connector) as session,
                session.get("http://engine/metrics") as reply,
            ):
                total += sum(
                    sample.value
                    for family in text_string_to_metric_families(await reply.text())
                    for sample in family.samples
                    if sample.name == "vllm:generation_tokens_total"
                )
        return total


def retry_after_s(error: grpc.aio.AioRpcError) -> float:
    """What the refusal's RetryInfo says."""
    for key, value in error.trailing_metadata() or ():
        if key == DETAILS_KEY:
            info = RetryInfo()
            Status.FromString(cast("bytes", value)).details[0].Unpack(info)
            return float(info.retry_delay.ToTimedelta().total_seconds())
    raise ValueError("the refusal carries no RetryInfo")


@asynccontextmanager
async def standing(setting: Setting) -> AsyncIterator[Stand]:
    """Start three engines and a gateway that lets everybody ask for everything; the gateway has a core of its
    own, as in the other benchmarks, the engines share the others with the callers.
    """
    gateway_core, *others = sorted(os.sched_getaffinity(0))
    with ExitStack() as stack:
        stack.callback(os.sched_setaffinity, 0, [gateway_core, *others])
        os.sched_setaffinity(0, others)
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ds-")))
        (folder / "engine.json").write_text(setting.engine.model_dump_json())
        sockets = [folder / f"r{index}.sock" for index in range(setting.engine.replicas)]
        for socket in sockets:
            argv = emulated_command(folder / "engine.json", socket).argv
            stack.enter_context(running(argv, others, socket.with_suffix(".log")))
        settings = gateway_settings(setting, folder, sockets)
        (folder / "gateway.json").write_text(settings.model_dump_json())
        argv = gateway_command(folder / "gateway.json").argv
        stack.enter_context(running(argv, [gateway_core], folder / "gateway.log"))
        port = await port_of(settings.admin_socket)
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            stand = Stand(setting, sockets, channel)
            await answering(stand)
            yield stand


def gateway_settings(setting: Setting, folder: Path, sockets: Sequence[Path]) -> GatewaySettings:
    """The profile's queue before the engines; without services, every user counts as a paying one."""
    replicas = tuple(
        ReplicaTarget(
            name=socket.stem,
            endpoint=f"unix:{socket}",
            model=MODEL,
            ready=True,
            places=setting.engine.max_num_seqs,
        )
        for socket in sockets
    )
    return GatewaySettings(
        gateway=Gateway(
            port=0,
            drain_timeout_s=1.0,
            admission=setting.rules,
            accounts=Accounts(unknown_user_tier="paid"),
        ),
        served_name=MODEL,
        api="chat",
        max_model_len=setting.engine.max_model_len,
        usage_per_chunk=True,
        simulated=True,
        api_key_env=None,
        admin_socket=str(folder / "admin.sock"),
        replicas=replicas,
    )


async def answering(stand: Stand) -> None:
    """Until every engine has answered through the gateway."""
    async with asyncio.timeout(60):
        while not all(socket.exists() for socket in stand.sockets):  # noqa: ASYNC110 - nothing announces it
            await asyncio.sleep(0.05)
    await asyncio.gather(*(stand.ask(PREMIUM, Found()) for _ in range(6)))


async def arrivals(
    rate: float, seed: int, until: float, begin: Callable[[], None], pause: Callable[[float], Awaitable[None]]
) -> None:
    """Call `begin` at the times of a Poisson process of `rate` a second, until a perf_counter time."""
    rng = random.Random(seed)  # noqa: S311 - times, not secrets
    due = time.perf_counter()
    while (due := due + rng.expovariate(rate)) < until:
        await pause(max(0.0, due - time.perf_counter()))
        begin()


async def open_loop(stand: Stand, rates: dict[Priority, float], ramp_s: float) -> Found:
    """Let requests arrive at these rates, whatever becomes of them; what a window after the ramp saw."""
    found, tasks = Found(), set[asyncio.Task[None]]()
    start = time.perf_counter()
    end = start + ramp_s + stand.setting.window_s

    def starter(cls: Priority) -> Callable[[], None]:
        def begin() -> None:
            task = asyncio.create_task(stand.ask(cls, found))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

        return begin

    async def lag() -> None:
        """How late this process is at its own timers: what a rejection's latency seems to be at least."""
        while (due := time.perf_counter() + 0.02) < end:
            await asyncio.sleep(0.02)
            found.lag_ms.append((time.perf_counter() - due) * 1000)

    async def window() -> None:
        await asyncio.sleep(ramp_s)
        found.began, tokens = time.perf_counter(), await stand.generated()
        await asyncio.sleep(stand.setting.window_s)
        found.generated_per_s = (await stand.generated() - tokens) / (time.perf_counter() - found.began)
        found.ended = time.perf_counter()

    await asyncio.gather(
        window(),
        lag(),
        *(arrivals(rate, cls, end, starter(cls), asyncio.sleep) for cls, rate in rates.items()),
    )
    await finish(tasks, stand)
    return found


async def finish(tasks: set[asyncio.Task[None]], stand: Stand) -> None:
    """Give up all that is left and wait until the engines are idle."""
    for task in list(tasks):
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    before = -1.0
    while (now := await stand.generated()) != before:
        before = now
        await asyncio.sleep(0.3)


async def one_at_a_time(stand: Stand, count: int) -> Found:
    """PREMIUM requests one after the other on idle engines."""
    found = Found(began=0.0)
    for _ in range(count):
        await stand.ask(PREMIUM, found)
    return found


async def direct(stand: Stand) -> dict[str, float]:
    """The engines past the gateway, each kept full with a few requests more than it has places."""
    setting = stand.setting
    clients = [
        EngineClient(Endpoint(socket=socket), model=MODEL, api="chat", usage_per_chunk=True)
        for socket in stand.sockets
    ]
    answered = 0

    async def worker(client: EngineClient) -> None:
        nonlocal answered
        while True:
            prompt = stand.prompt(setting.prompt_tokens)
            request = GenerationRequest(f"d-{next(NUMBERS)}", prompt, setting.answer_tokens, 0.7, 0.9)
            async with aclosing(client.stream(request, timeout_s=600)) as chunks:
                async for _ in chunks:
                    pass
            answered += 1

    each = setting.engine.max_num_seqs + 32
    tasks = [asyncio.create_task(worker(client)) for client in clients for _ in range(each)]
    await asyncio.sleep(setting.ramp_s)
    before, began, done = await stand.generated(), time.perf_counter(), answered
    await asyncio.sleep(setting.window_s)
    tokens, took_s = await stand.generated() - before, time.perf_counter() - began
    rate = (answered - done) / took_s
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    for client in clients:
        await client.close()
    return {"tokens_per_s": tokens / took_s, "requests_per_s": rate}
