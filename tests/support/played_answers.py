"""Answers whose every step a test plays itself."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

from dreamseed_cli.engine.types import GenerationRequest
from dreamseed_cli.gateway.call import Call, Delta, PriorityClass
from dreamseed_cli.gateway.settings import GatewaySettings
from dreamseed_cli.profile.schema import Cache, Gateway

WHOLE = ("Because ", "of Rayleigh ", "scattering.")


class Generation:
    """One generation under way, as an engine would give it."""

    def __init__(self, call: Call) -> None:
        self.call = call
        self.open = True
        self.elsewhere = False
        self._steps: asyncio.Queue[Delta | BaseException | None] = asyncio.Queue()
        self._tokens = 0

    def give(self, text: str, finish_reason: str | None = None) -> None:
        self._tokens += 1
        first = self._tokens == 1
        delta = Delta(
            text,
            "r0",
            finish_reason,
            7,
            self._tokens,
            simulated=True,
            elsewhere=self.elsewhere,
            queue_s=0.5 if first else None,
        )
        self._steps.put_nowait(delta)

    def finish(self, finish_reason: str | None = "stop") -> None:
        """The end of a complete answer."""
        self.give("", finish_reason)
        self._steps.put_nowait(None)

    def play(self, *texts: str) -> None:
        """A whole answer."""
        for text in texts or WHOLE:
            self.give(text)
        self.finish()

    def fail(self, error: BaseException) -> None:
        self._steps.put_nowait(error)

    async def deltas(self) -> AsyncGenerator[Delta, None]:
        try:
            while (step := await self._steps.get()) is not None:
                if isinstance(step, BaseException):
                    raise step
                yield step
        finally:
            step = None  # an error holds this frame
            self.open = False


class PlayedAnswers:
    """Stands where the engines would."""

    def __init__(self) -> None:
        self.generations: list[Generation] = []

    async def answer(self, call: Call) -> AsyncGenerator[Delta, None]:
        generation = Generation(call)
        self.generations.append(generation)
        async for delta in generation.deltas():
            yield delta

    @property
    def open(self) -> list[Generation]:
        return [generation for generation in self.generations if generation.open]


def make_call(
    prompt: str = "Why is the sky blue?",
    priority: PriorityClass = PriorityClass.STANDARD,
    *,
    within_s: float = 60.0,
    emitted: str = "",
    **call: Any,
) -> Call:
    """A call as the gateway lets one in."""
    request = GenerationRequest("r", prompt, 200, 0.7, 0.9, emitted=emitted)
    return Call(request, priority, time.monotonic() + within_s, **call)


def cache_settings(**cache: Any) -> GatewaySettings:
    """Settings of a gateway in front of nothing."""
    return GatewaySettings(
        gateway=Gateway(cache=Cache(**cache)),
        served_name="served",
        api="chat",
        max_model_len=4096,
        usage_per_chunk=True,
        simulated=False,
        api_key_env=None,
        admin_socket=str(Path("admin.sock")),
        replicas=(),
    )


async def settle() -> None:
    """Let everything that can go on do so."""
    for _ in range(20):
        await asyncio.sleep(0)
