"""A stack that ends part by part, each within its time, for whoever has to know how long each takes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from enum import StrEnum

import msgspec

from dreamseed_cli.supervisor.child import Stopped

Stop = Callable[[asyncio.Event], Awaitable[Stopped]]
"""Ends something in order; once the event is set, at once."""


class StackPart(StrEnum):
    """The parts of a stack, in the order in which they end."""

    GATEWAY = "gateway"
    ENGINES = "engines"
    RELAY = "relay"
    POSTGRES = "postgres"
    REDIS = "redis"


class PartEnded(msgspec.Struct, frozen=True):
    """How a part ended. Ending one that has ended changes nothing."""

    part: str
    took_s: float
    forced: bool
    """It had not ended in its time, be it the part's or that of one of its processes, and was killed."""
    survivors: int = 0
    """Processes that outlived even SIGKILL."""


class WindDown(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What `POST /wind-down` takes."""

    part: StackPart
    within_s: float


async def stop_within(part: StackPart, stop: Stop, within_s: float) -> PartEnded:
    """End it in order for `within_s` seconds, then at once."""
    loop = asyncio.get_running_loop()
    hasten, began = asyncio.Event(), loop.time()
    alarm = loop.call_later(within_s, hasten.set)
    try:
        stopped = await stop(hasten)
    finally:
        alarm.cancel()
    forced = hasten.is_set() or stopped.killed
    return PartEnded(part.value, round(loop.time() - began, 3), forced, len(stopped.survivors))
