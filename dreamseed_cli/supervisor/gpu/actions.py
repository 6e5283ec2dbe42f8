"""Carries out what the ladder decides for a card, and answers with what came of it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from dreamseed_cli.profile.resilience import GpuCare
from dreamseed_cli.supervisor.gpu import places
from dreamseed_cli.supervisor.gpu.ladder import (
    Action,
    Ended,
    EngineFailed,
    EngineReady,
    Event,
    MemoryFree,
    MemoryHeld,
)
from dreamseed_cli.supervisor.gpu.memory import Verdict, judge
from dreamseed_cli.supervisor.gpu.owner import CardOwner
from dreamseed_cli.supervisor.gpu.reading import CardReading, Poll
from dreamseed_cli.supervisor.gpu.reset import reset_card
from dreamseed_cli.supervisor.gpu.telemetry import Telemetry
from dreamseed_cli.supervisor.gpu.watched import Watched

_LOOK_EVERY_S = 0.5
"""How often the memory of a card is looked at while it is waited for."""

log = structlog.get_logger("supervisor")


class Actions:
    """One action at a time for a card. Nothing that goes wrong is raised: it is the answer."""

    def __init__(
        self,
        owner: CardOwner,
        telemetry: Telemetry,
        look: Callable[[], Awaitable[Poll]],
        settings: GpuCare,
    ) -> None:
        self._owner = owner
        self._telemetry = telemetry
        self._look = look
        self._settings = settings

    async def do(self, watched: Watched, action: Action) -> Event | None:
        """The event that answers the action; None where none does."""
        if action is Action.END_PROCESSES:
            return await self._end(watched)
        if action is Action.CHECK_MEMORY:
            return await self._check_memory(watched)
        if action is Action.RESTART:
            return await self._restart(watched)
        if action is Action.RESET:
            return await self._reset(watched)
        if action is Action.QUARANTINE:
            await self._quarantine(watched)
        return None

    async def _end(self, watched: Watched) -> Event:
        index = watched.card.index
        watched.ours = self._owner.pids(index)
        try:
            await self._owner.end_processes(index)
        except Exception:
            # The look at the memory that follows tells whether any is left.
            log.exception("gpu_end_processes_failed", card=index)
        return Ended()

    async def _check_memory(self, watched: Watched) -> Event:
        """Look until the memory is free, for `memory_free_timeout_s`, but at least once."""
        clock = asyncio.get_running_loop().time
        deadline = clock() + self._settings.memory_free_timeout_s
        used = _used(watched.reading)
        while True:
            verdict = self._judge(watched, await self._look(), used)
            if verdict.free:
                return MemoryFree(verdict.detail)
            if watched.card.doomed or clock() >= deadline:
                return MemoryHeld(f"its memory cannot be shown to be free: {verdict.detail}")
            await asyncio.sleep(min(_LOOK_EVERY_S, self._settings.poll_s))

    def _judge(self, watched: Watched, poll: Poll, used: list[int]) -> Verdict:
        if poll.problem is not None:
            return Verdict(False, poll.detail)
        told = places.find(poll, watched.card.index, watched.uuid)
        if not isinstance(told, CardReading):
            return Verdict(False, told.detail or told.loss.value)
        used.extend(_used(told))
        return judge(told, watched.ours, used)

    async def _restart(self, watched: Watched) -> Event:
        try:
            ready = await self._owner.restart(watched.card.index)
        except Exception as error:
            log.exception("gpu_restart_failed", card=watched.card.index)
            return EngineFailed(f"its engine cannot be started: {error}")
        return EngineReady() if ready else EngineFailed("its engine did not generate a token")

    async def _reset(self, watched: Watched) -> Event:
        card = watched.uuid or str(watched.card.index)
        # nvidia-smi refuses to reset a card that another program watches, and that is what our reader does.
        async with self._telemetry.released():
            return await reset_card(card, self._settings.reset_timeout_s)

    async def _quarantine(self, watched: Watched) -> None:
        card = watched.card
        try:
            await self._owner.quarantine(card.index, card.detail)
        except Exception:
            log.exception("gpu_quarantine_failed", card=card.index)


def _used(reading: CardReading | None) -> list[int]:
    used = None if reading is None else reading.memory_used_bytes
    return [] if used is None else [used]
