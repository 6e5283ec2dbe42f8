"""An owner of cards whose engines are figures in the fake NVML, and the care of them while a test runs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fake_nvml import FakeNvml
from gateway_harness import until

from dreamseed_cli.profile.resilience import GpuCare
from dreamseed_cli.supervisor.gpu.care import CardCare
from dreamseed_cli.supervisor.gpu.ladder import CardState, Reason, Rules
from dreamseed_cli.supervisor.gpu.snapshot import CardSnapshot

GIB = 1 << 30
PID = 4000
"""The engine on card N has the pid PID + N."""


class FakeOwner:
    """Runs one engine a card. What it was asked for is in `calls`, what it was told in `states`."""

    def __init__(self, nvml: FakeNvml, cards: frozenset[int] = frozenset({0, 1})) -> None:
        self.nvml = nvml
        self.ours = cards
        self.calls: list[tuple[str, int]] = []
        self.states: list[tuple[int, str, str]] = []
        self.details: list[str] = []
        self.starts_up = True
        self.leaves_memory = False
        self.raises: Exception | None = None
        self.gate = asyncio.Event()
        self.gate.set()
        for card in cards:
            self._occupy(card)

    def cards(self) -> frozenset[int]:
        return self.ours

    def pids(self, card: int) -> frozenset[int]:
        return frozenset({PID + card})

    async def end_processes(self, card: int) -> None:
        self._called("end", card)
        await self.gate.wait()
        if not self.leaves_memory:
            self.nvml.set(**{f"c{card}_used": GIB // 4, f"c{card}_pids": "none"})

    async def restart(self, card: int) -> bool:
        self._called("restart", card)
        if self.starts_up:
            self._occupy(card)
        return self.starts_up

    async def quarantine(self, card: int, reason: str) -> None:
        self._called(f"quarantine: {reason}", card)

    def told(self, card: int, state: CardState, reason: Reason, detail: str) -> None:
        self.states.append((card, state.value, reason.value))
        self.details.append(detail)

    def verbs(self, card: int) -> list[str]:
        """What was asked for one card, in order, without the reasons."""
        return [verb.partition(":")[0] for verb, index in self.calls if index == card]

    def _called(self, verb: str, card: int) -> None:
        self.calls.append((verb, card))
        if self.raises is not None:
            raise self.raises

    def _occupy(self, card: int) -> None:
        self.nvml.set(**{f"c{card}_used": 28 * GIB, f"c{card}_pids": PID + card})


@asynccontextmanager
async def caring(
    owner: FakeOwner, *, rules: Rules | None = None, wait: bool = True, **settings: object
) -> AsyncIterator[CardCare]:
    """The care of the owner's cards, with quick polls; it has read them once, unless `wait` is False."""
    quick = {"poll_s": 0.05, "call_timeout_s": 60.0, "memory_free_timeout_s": 60.0, **settings}
    care = CardCare(owner, GpuCare.model_validate(quick), rules=rules)
    task = asyncio.create_task(care.run())
    try:
        if wait:
            await until(lambda: care.care.state != "starting" or task.done())
        yield care
    finally:
        care.stop()
        async with asyncio.timeout(120):
            await task


def card_of(care: CardCare, index: int) -> CardSnapshot:
    """What the care says of one card now."""
    return next(snapshot for snapshot in care.snapshot() if snapshot.index == index)
