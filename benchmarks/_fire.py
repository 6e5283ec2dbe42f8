"""A whole stack of emulated engines under fire: started as `dreamseed serve`, asked without a pause, and
watched at its control socket. Shared by the fault matrix, the soak and their tests.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import msgspec

from dreamseed_cli.core.paths import StateDir
from dreamseed_cli.core.processes import ProcessIdentity, signal_all
from dreamseed_cli.gateway.proto import GENERATE_STREAM
from dreamseed_cli.gateway.proto.llm_pb2 import PREMIUM, STANDARD, GenerateRequest, GenerateResponse
from dreamseed_cli.supervisor.snapshot import StackSnapshot
from dreamseed_cli.supervisor.state import read_children

PROFILE = """
name = "under-fire"
description = "three small emulated engines"
[engine]
kind = "emulated"
served_name = "emulated"
replicas = {replicas}
max_num_seqs = 32
start_timeout_s = 120.0
shutdown_timeout_s = 5
[engine.card]
source = "made up: quick, so that a fault meets answers in every stage"
prefill_tokens_per_s = 20000.0
decode_step_ms = 15.0
decode_step_ms_per_seq = 0.1
kv_cache_tokens = 50000
[gateway]
port = 0
drain_timeout_s = 10.0
[supervision]
{supervision}
[services.postgres]
mode = "off"
[services.redis]
mode = "off"
[gpu]
poll_s = {gpu_poll_s}
{more}
"""
TOKENS = 40
_PROMPTS = tuple(f"Explain exercise {number} of chapter {number % 5}, step by step." for number in range(8))
_USERS = itertools.count()
_UNAVAILABLE = grpc.StatusCode.UNAVAILABLE
_POLL_S = 0.02


@dataclass
class Tally:
    """How every request ended. Each is counted once."""

    answered: int = 0
    """Complete, with the status OK and all its tokens."""
    refused: int = 0
    """With a status before its first token, as the gateway's rules say: a full queue, a deadline."""
    cut: int = 0
    """With an error status after a part of its answer (a sampled answer cannot go on elsewhere)."""
    lost: int = 0
    """With a failure before its first token: what must never be."""
    wrong: int = 0
    """With the status OK and tokens missing, or another text than an engine without faults gives."""
    retried: int = 0
    """Attempts that were made again by the caller, as §H2's client does."""
    causes: Counter[str] = field(default_factory=Counter)
    slowest_s: float = 0.0

    @property
    def requests(self) -> int:
        return self.answered + self.refused + self.cut + self.lost + self.wrong

    def data(self) -> dict[str, object]:
        """JSON-able."""
        names = ("answered", "refused", "cut", "lost", "wrong", "retried")
        counts: dict[str, object] = {name: getattr(self, name) for name in names}
        return {**counts, "slowest_s": round(self.slowest_s, 3), "causes": dict(self.causes)}


class Callers:
    """Clients that ask again and again over one channel; half of them greedy, half sampled.

    retries: how often a caller tries again when the gateway is not there, before its first token (§H2: 3,
    after 1, 2 and 4 s). deadline_s: how long it waits for an answer.
    """

    def __init__(self, address: str, count: int, *, retries: int = 0, deadline_s: float = 30.0) -> None:
        self.tally = Tally()
        self._address = address
        self._count = count
        self._retries = retries
        self._deadline_s = deadline_s
        self._stop = asyncio.Event()
        self._whole: dict[str, str] = {}

    @asynccontextmanager
    async def asking(self) -> AsyncIterator[Tally]:
        """They ask for as long as the block runs; at its end every request has an end."""
        options = [("grpc.initial_reconnect_backoff_ms", 100), ("grpc.max_reconnect_backoff_ms", 500)]
        async with grpc.aio.insecure_channel(self._address, options=options) as channel:
            ask = channel.unary_stream(
                GENERATE_STREAM,
                request_serializer=GenerateRequest.SerializeToString,
                response_deserializer=GenerateResponse.FromString,
            )
            if self._count:
                await self._ask_undisturbed(ask)
            tasks = [asyncio.create_task(self._ask_on(ask, number)) for number in range(self._count)]
            try:
                yield self.tally
            finally:
                self._stop.set()
                async with asyncio.timeout(60.0 + self._deadline_s):
                    await asyncio.gather(*tasks)

    async def _ask_undisturbed(self, ask: _Ask) -> None:
        """What the answers are without a fault; no more at once than there are callers."""
        places = asyncio.Semaphore(self._count)

        async def whole(prompt: str) -> str:
            async with places:
                return await _text(ask(_request(prompt, greedy=True), timeout=self._deadline_s))

        answers = await asyncio.gather(*map(whole, _PROMPTS))
        self._whole = dict(zip(_PROMPTS, answers, strict=True))

    async def _ask_on(self, ask: _Ask, number: int) -> None:
        rng = random.Random(number)  # noqa: S311 - prompts, not secrets
        await asyncio.sleep(rng.random() * 0.5)
        while not self._stop.is_set():
            began = time.monotonic()
            await self._ask_once(ask, rng.choice(_PROMPTS), greedy=number % 2 == 0)
            self.tally.slowest_s = max(self.tally.slowest_s, time.monotonic() - began)

    async def _ask_once(self, ask: _Ask, prompt: str, *, greedy: bool) -> None:
        for attempt in range(self._retries + 1):
            parts: list[str] = []
            try:
                last = GenerateResponse()
                async for last in ask(_request(prompt, greedy=greedy), timeout=self._deadline_s):
                    parts.append(last.text)
            except grpc.aio.AioRpcError as error:
                if any(parts):
                    self._note("cut", error)
                elif error.code() is _UNAVAILABLE and attempt < self._retries:
                    self.tally.retried += 1
                    await asyncio.sleep(2.0**attempt)
                    continue
                elif error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED:
                    self._note("refused", error)
                else:
                    self._note("lost", error)
                return
            complete = last.finish_reason == "stop" or last.tokens_generated == TOKENS
            whole = complete and (not greedy or "".join(parts) == self._whole[prompt])
            self.tally.answered += whole
            self.tally.wrong += not whole
            return

    def _note(self, end: str, error: grpc.aio.AioRpcError) -> None:
        setattr(self.tally, end, getattr(self.tally, end) + 1)
        self.tally.causes[f"{end}: {error.code().name}: {error.details()}"[:200]] += 1


_Ask = grpc.aio.UnaryStreamMultiCallable[Any, GenerateResponse]


def _request(prompt: str, *, greedy: bool) -> GenerateRequest:
    return GenerateRequest(
        prompt=prompt,
        user_id=f"u{next(_USERS)}",  # nobody meets the limits of one user
        max_tokens=TOKENS,
        temperature=0.0 if greedy else 0.7,
        priority=PREMIUM if greedy else STANDARD,
    )


async def _text(call: grpc.aio.UnaryStreamCall[Any, GenerateResponse]) -> str:
    return "".join([message.text async for message in call])


@dataclass
class Stack:
    """A running `dreamseed serve` on a folder."""

    folder: Path
    state: StateDir
    argv: tuple[str, ...]
    env: Mapping[str, str]
    process: subprocess.Popen[bytes] | None = None
    seen: set[ProcessIdentity] = field(default_factory=set)

    def start(self) -> None:
        """Start it; its words go to serve.log."""
        with (self.folder / "serve.log").open("ab") as log:
            self.process = subprocess.Popen(
                self.argv, stdout=log, stderr=log, env={**os.environ, **self.env}, start_new_session=True
            )

    async def snapshot(self) -> StackSnapshot | None:
        """What the supervisor says; None while it does not answer."""
        connector = aiohttp.UnixConnector(str(self.state.socket("control")))
        timeout = aiohttp.ClientTimeout(total=10.0)
        with suppress(aiohttp.ClientError, OSError, TimeoutError):
            async with (
                aiohttp.ClientSession(connector=connector, timeout=timeout) as session,
                session.get("http://control/status") as response,
            ):
                return msgspec.json.decode(await response.read(), type=StackSnapshot)
        return None

    async def until(self, condition: Callable[[StackSnapshot], bool], bound_s: float) -> StackSnapshot:
        """The first snapshot that the condition holds for. TimeoutError with the log's end after that."""
        deadline = time.monotonic() + bound_s
        while True:
            now = await self.snapshot()
            if now is not None:
                self.remember()
                if condition(now):
                    return now
            over = self.process is not None and self.process.poll() is not None
            if over or time.monotonic() > deadline:
                said = (self.folder / "serve.log").read_text(errors="replace")[-3000:]
                raise TimeoutError(f"not within {bound_s:.0f} s; last: {now}\n{said}")
            await asyncio.sleep(_POLL_S)

    def remember(self) -> None:
        """Take down who runs, to be sure later that nobody does."""
        for child in read_children(self.state):
            self.seen.update(child.members)

    def child(self, name: str) -> ProcessIdentity:
        """The leader of a child's processes."""
        return next(child.leader for child in read_children(self.state) if child.name == name)

    def kill(self, name: str, signum: signal.Signals = signal.SIGKILL) -> None:
        """A signal to every process of a child."""
        for child in read_children(self.state):
            if child.name == name:
                signal_all(child.members, signum)

    async def order(self, replica: str, **fault: object) -> None:
        """Have an emulated engine misbehave; one that crashes gives no answer."""
        connector = aiohttp.UnixConnector(str(self.state.socket(replica)))
        async with aiohttp.ClientSession(connector=connector) as session:
            with suppress(aiohttp.ClientError):
                await session.post("http://engine/control/fault", json=fault)

    def left(self) -> list[ProcessIdentity]:
        """Processes of it that live."""
        return [member for member in self.seen if member.alive()]

    def end(self) -> int:
        """SIGTERM and wait; its exit code."""
        if self.process is None:
            return 0
        self.process.terminate()
        try:
            return self.process.wait(120)
        finally:
            signal_all(self.left(), signal.SIGKILL)


@asynccontextmanager
async def stack(
    folder: Path,
    *,
    replicas: int = 3,
    supervision: str = "",
    gpu_poll_s: float = 5.0,
    more: str = "",
    module: Sequence[str] = ("dreamseed_cli", "serve"),
    env: Mapping[str, str] | None = None,
) -> AsyncIterator[Stack]:
    """A stack, all of whose replicas are ready; ended with the block.

    supervision: lines of that table of the profile; the defaults otherwise. more: further tables.
    module: what to run in place of `dreamseed serve`, with the same options.
    """
    profile = folder / "profile.toml"
    profile.write_text(
        PROFILE.format(replicas=replicas, supervision=supervision, gpu_poll_s=gpu_poll_s, more=more)
    )
    state = StateDir(folder / "s")
    argv = (sys.executable, "-m", *module, "--profile", str(profile), "--state-dir", str(state.root))
    made = Stack(folder, state, argv, env or {})
    made.start()
    try:
        yield made
    finally:
        made.remember()
        made.end()


def all_ready(snapshot: StackSnapshot) -> bool:
    """Every replica is ready, and the gateway serves."""
    states = [replica.state for replica in snapshot.replicas]
    return snapshot.gateway.state == "serving" and set(states) == {"ready"}


def away(name: str) -> Callable[[StackSnapshot], bool]:
    """A replica, or the gateway, is not what it should be."""

    def look(snapshot: StackSnapshot) -> bool:
        if name == "gateway":
            return snapshot.gateway.state != "serving"
        return any(replica.name == name and replica.state != "ready" for replica in snapshot.replicas)

    return look


def incidents(state: StateDir) -> list[dict[str, object]]:
    """What `dreamseed incidents` tells."""
    argv = [sys.executable, "-m", "dreamseed_cli", "incidents", "--json", "--state-dir", str(state.root)]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    found: list[dict[str, object]] = json.loads(done.stdout)["data"]["incidents"]
    return found
