"""A real vLLM on the CPU under fire: its engine core killed or stopped while it works, its supervisor killed.

Shared by `vllm_faults.py` and its tests. Every fault leaves the stack ready again.
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import grpc
import psutil

from benchmarks._fire import Stack, all_ready, incidents
from dreamseed_cli.core.processes import ProcessIdentity, signal_all
from dreamseed_cli.gateway.proto import GENERATE, GENERATE_STREAM
from dreamseed_cli.gateway.proto.llm_pb2 import STANDARD, GenerateRequest, GenerateResponse
from dreamseed_cli.supervisor.replica import Reason
from dreamseed_cli.supervisor.snapshot import StackSnapshot

REPLICA = "r0"
DEADLINE_S = 180.0
"""What a caller gives its request: noticing, a start of vLLM and an answer fit into it."""
TOKENS = 160
_SHORT = 48
_WHOLE, _LATE = 6, 2
_QUESTION = "Write the numbers from 1 to 100, separated by commas."
_BOUND_S = 240.0
_POLL_S = 0.02


@dataclass(frozen=True, slots=True)
class Ending:
    """How a request ended for its caller. status: gRPC's name. asked: the most tokens it may have."""

    status: str
    took_s: float
    asked: int
    text: str = ""
    tokens: int = 0
    finish_reason: str = ""
    details: str = ""

    @property
    def answered(self) -> bool:
        """All of it came: to the model's own end, or every token that was asked for."""
        whole = self.finish_reason == "stop" or self.tokens == self.asked
        return self.status == "OK" and bool(self.text) and whole

    @property
    def honest(self) -> bool:
        """It is complete, or its status says that it is not."""
        return self.status != "OK" or self.answered


@dataclass(frozen=True, slots=True)
class Asked:
    """undisturbed, begun: one greedy answer, without a fault and half streamed when the fault came.
    waiting: requests of which nothing had been streamed.
    """

    undisturbed: Ending
    begun: Ending
    waiting: tuple[Ending, ...]

    @property
    def all(self) -> tuple[Ending, ...]:
        return (self.undisturbed, self.begun, *self.waiting)

    def data(self) -> dict[str, Any]:
        """JSON-able, without the texts."""
        return {
            "begun": self.begun.status,
            "begun_complete": self.begun.answered,
            "begun_same_text_as_undisturbed": self.begun.text == self.undisturbed.text,
            "waiting": Counter("answered" if one.answered else one.status for one in self.waiting),
            "slowest_waiting_s": max(one.took_s for one in self.waiting),
            "all_honest": all(one.honest for one in self.all),
        }


@dataclass(frozen=True, slots=True)
class CoreFault:
    """What came of a fault of the engine core, in seconds from the signal.

    noticed_s: until the supervisor said that it is not ready (SIGKILL), or ejected (SIGSTOP).
    vllm_ended_s: until vLLM's first process had ended, by itself or killed. health: what /health said until
    the fault was noticed. family_left: processes of that vLLM that live on.
    """

    vllm_ended_s: float
    noticed_s: float
    ready_again_s: float
    reason: str
    incident: dict[str, Any]
    health: tuple[int, ...]
    family_left: int
    asked: Asked

    @property
    def noticed_after_end_s(self) -> float:
        return round(max(0.0, self.noticed_s - self.vllm_ended_s), 3)

    def data(self) -> dict[str, Any]:
        """JSON-able."""
        return {
            "vllm_ended_s": self.vllm_ended_s,
            "noticed_s": self.noticed_s,
            "noticed_after_end_s": self.noticed_after_end_s,
            "ready_again_s": self.ready_again_s,
            "reason": self.reason,
            "incident": f"{self.incident['cause']}: {self.incident['outcome']}",
            "health": Counter(str(status) for status in self.health),
            "family_left": self.family_left,
            "requests": self.asked.data(),
        }


@dataclass(frozen=True, slots=True)
class SupervisorFault:
    """What came of a killed supervisor. same_processes: vLLM's are those from before. answered_without_s:
    how long an answer took while nobody supervised. ready_again_s: from the start of the new one.
    """

    same_processes: bool
    answered_without_s: float
    ready_again_s: float
    notes: tuple[str, ...]
    asked: Asked

    def data(self) -> dict[str, Any]:
        """JSON-able."""
        return {
            "same_processes": self.same_processes,
            "answered_without_s": self.answered_without_s,
            "ready_again_s": self.ready_again_s,
            "requests": self.asked.data(),
        }


async def core_fault(stand: Stack, signum: signal.Signals) -> CoreFault:
    """Send the engine core a signal while it works.

    SIGKILL: vLLM's server sees it and ends by itself. SIGSTOP: nothing ends, and nothing is generated.
    """
    async with _asking(stand) as asking:
        leader, family = stand.child(REPLICA), stand.child(REPLICA).family()
        began, at = time.monotonic(), time.time()
        signal_all([_engine_core(family)], signum)
        asking.some_more()
        ended = asyncio.create_task(_end_of(leader))
        async with _health(stand) as health:
            noticed = await stand.until(_failed if signum is signal.SIGKILL else _ejected, 120.0)
        noticed_s = _since(began)
        vllm_ended_s = round(await ended - began, 3)
        await stand.until(all_ready, _BOUND_S)
        ready_again_s = _since(began)
        asked = await asking.end()
    return CoreFault(
        vllm_ended_s=vllm_ended_s,
        noticed_s=noticed_s,
        ready_again_s=ready_again_s,
        reason=next(one.reason for one in noticed.replicas if one.name == REPLICA),
        incident=await _newest_incident(stand, at),
        health=tuple(health),
        family_left=sum(member.alive() for member in family),
        asked=asked,
    )


async def supervisor_fault(stand: Stack) -> SupervisorFault:
    """SIGKILL of the supervisor alone while vLLM works, and a new `serve`, as systemd would start it."""
    async with _asking(stand) as asking:
        family = stand.child(REPLICA).family()
        assert stand.process
        stand.process.kill()
        stand.process.wait()
        without = await asking.callers.whole("Say hello.", 4)
        began = time.monotonic()
        stand.start()
        asking.some_more()
        now = await stand.until(_adopted, _BOUND_S)
        ready_again_s = _since(began)
        asked = await asking.end()
    assert without.answered, without
    return SupervisorFault(
        same_processes=stand.child(REPLICA).family() == family,
        answered_without_s=without.took_s,
        ready_again_s=ready_again_s,
        notes=now.notes,
        asked=asked,
    )


class _Callers:
    """Ask greedily, and never the cache."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        ask, answer = GenerateRequest.SerializeToString, GenerateResponse.FromString
        self._stream = channel.unary_stream(GENERATE_STREAM, ask, answer)
        self._whole = channel.unary_unary(GENERATE, ask, answer)

    async def stream(self, prompt: str, tokens: int, flowing: asyncio.Event | None = None) -> Ending:
        """Ask for an answer in pieces. flowing: set once a tenth of it has come."""
        parts: list[str] = []

        async def ask() -> GenerateResponse:
            last = GenerateResponse()
            async for last in self._stream(_request(prompt, tokens), timeout=DEADLINE_S):
                parts.append(last.text)
                if flowing and last.tokens_generated >= tokens // 10:
                    flowing.set()
            last.text = "".join(parts)
            return last

        return await _ending(ask(), tokens)

    async def whole(self, prompt: str, tokens: int) -> Ending:
        """Ask for an answer in one piece: until it is complete nobody has seen any of it."""
        return await _ending(self._whole(_request(prompt, tokens), timeout=DEADLINE_S), tokens)


@dataclass
class _Asking:
    """Requests under way."""

    callers: _Callers
    undisturbed: Ending
    begun: asyncio.Task[Ending]
    waiting: list[asyncio.Task[Ending]] = field(default_factory=list)

    def some_more(self) -> None:
        """Requests that come just after the fault."""
        for _ in range(_LATE):
            self._ask(streamed=True)

    def ask_some(self) -> None:
        """Requests that the fault meets before their answers are complete."""
        for _ in range(_WHOLE):
            self._ask(streamed=False)

    async def end(self) -> Asked:
        """How all of them ended."""
        return Asked(self.undisturbed, await self.begun, tuple(await asyncio.gather(*self.waiting)))

    def _ask(self, *, streamed: bool) -> None:
        ask = self.callers.stream if streamed else self.callers.whole
        prompt = f"Tell me a story about the number {len(self.waiting)}."
        self.waiting.append(asyncio.create_task(ask(prompt, _SHORT)))


@asynccontextmanager
async def _asking(stand: Stack) -> AsyncIterator[_Asking]:
    """One request is half streamed, several wait for their whole answers."""
    now = await stand.until(all_ready, _BOUND_S)
    async with grpc.aio.insecure_channel(str(now.gateway.address)) as channel:
        callers, flowing = _Callers(channel), asyncio.Event()
        undisturbed = await callers.stream(_QUESTION, TOKENS)
        begun = asyncio.create_task(callers.stream(_QUESTION, TOKENS, flowing))
        await flowing.wait()
        asking = _Asking(callers, undisturbed, begun)
        asking.ask_some()
        await asyncio.sleep(0.5)  # they are in the engine
        yield asking


@asynccontextmanager
async def _health(stand: Stack) -> AsyncIterator[list[int]]:
    """What vLLM's /health says meanwhile, several times a second."""
    said: list[int] = []

    async def ask() -> None:
        connector = aiohttp.UnixConnector(str(stand.state.socket(REPLICA)))
        async with aiohttp.ClientSession(connector=connector) as session:
            while True:
                with suppress(aiohttp.ClientError, OSError):
                    async with session.get("http://vllm/health") as response:
                        said.append(response.status)
                await asyncio.sleep(0.2)

    task = asyncio.create_task(ask())
    try:
        yield said
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def _request(prompt: str, tokens: int) -> GenerateRequest:
    return GenerateRequest(
        prompt=prompt, user_id=prompt, max_tokens=tokens, priority=STANDARD, bypass_cache=True
    )


async def _ending(answer: Awaitable[GenerateResponse], tokens: int) -> Ending:
    began = time.monotonic()
    try:
        got = await answer
    except grpc.aio.AioRpcError as error:
        return Ending(error.code().name, _since(began), tokens, details=str(error.details()))
    return Ending("OK", _since(began), tokens, got.text, got.tokens_generated, got.finish_reason)


def _engine_core(family: list[ProcessIdentity]) -> ProcessIdentity:
    """vLLM's process that generates; its title says so."""
    (core,) = (member for member in family if "EngineCore" in _title(member))
    return core


def _title(member: ProcessIdentity) -> str:
    process = member.process()
    try:
        return " ".join(process.cmdline()) if process else ""
    except psutil.NoSuchProcess:
        return ""


async def _end_of(leader: ProcessIdentity) -> float:
    while leader.alive():  # noqa: ASYNC110 - another program's process: there is no event to wait for
        await asyncio.sleep(_POLL_S)
    return time.monotonic()


def _failed(snapshot: StackSnapshot) -> bool:
    """It is away, and not only slow, as it may be on a busy machine."""
    return any(
        one.name == REPLICA and one.state != "ready" and one.reason != Reason.SLOW
        for one in snapshot.replicas
    )


def _ejected(snapshot: StackSnapshot) -> bool:
    """No more requests go there. One that is only degraded still gets them, when there is no other."""
    return any(one.name == REPLICA and one.state not in {"ready", "degraded"} for one in snapshot.replicas)


def _adopted(snapshot: StackSnapshot) -> bool:
    return any("Adopted" in note for note in snapshot.notes) and all_ready(snapshot)


async def _newest_incident(stand: Stack, began: float) -> dict[str, Any]:
    """As kept: a moment after it was over, since nobody waits for the book. began: none that was over then.

    A replica that is only slow before or after the fault has one of its own, in which nothing is done.
    """
    gives_up, over = time.monotonic() + _BOUND_S, list[dict[str, Any]]()
    while not over:
        assert time.monotonic() < gives_up, "no incident of it is over"
        told: list[dict[str, Any]] = await asyncio.to_thread(incidents, stand.state)
        acted = [one for one in told if one["subject"] == REPLICA and one["actions"]]
        own = [one for one in acted if one["outcome"] == "open" or one["ended_at"] >= began]
        over = [one for one in own[-1:] if one["outcome"] != "open"]
        await asyncio.sleep(0.2)
    return over[0]


def _since(began: float) -> float:
    return round(time.monotonic() - began, 3)
