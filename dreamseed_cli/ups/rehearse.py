"""The shutdown as it would go now: looked at, or done up to the host's own step."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable
from dataclasses import dataclass

from dreamseed_cli.core.errors import DreamseedError
from dreamseed_cli.core.paths import StateDir
from dreamseed_cli.profile.schema import Profile
from dreamseed_cli.supervisor.power_control import look
from dreamseed_cli.ups.chosen import source_of
from dreamseed_cli.ups.journal import Shutdown, UpsFolder
from dreamseed_cli.ups.sequence import Course, run_steps
from dreamseed_cli.ups.steps import Steps


@dataclass(frozen=True, slots=True)
class Planned:
    """One step of the timeline: when it begins at the latest, its time, and how long it took last."""

    name: str
    begins_s: float
    box_s: float
    measured_s: float | None


@dataclass(frozen=True, slots=True)
class Heard:
    """What answered: the UPS or the stack, how fast, what it said."""

    name: str
    ok: bool
    took_ms: float
    said: str


def timeline(steps: Steps, folder: UpsFolder) -> list[Planned]:
    """Every step with its box, and what the newest whole run of it took."""
    whole = [one for one in folder.history() if one.whole and not one.cancelled]
    took = {record.name: record.took_s for record in (whole[-1].steps if whole else ())}
    planned, begins_s = [], 0.0
    for step in steps.all():
        planned.append(Planned(step.name, begins_s, step.box_s, took.get(step.name)))
        begins_s += step.box_s
    return planned


async def hear(state: StateDir, profile: Profile) -> list[Heard]:
    """Ask everybody whom a shutdown needs. Changes nothing."""
    return [await _timed("ups", _ups(profile)), await _timed("stack", _stack(state))]


async def rehearse(steps: Steps, folder: UpsFolder) -> Shutdown:
    """Stop the stack as a shutdown does, with all its steps but those that `steps` only says."""
    shutdown = Shutdown.begin("rehearsal")
    shutdown.whole = steps.running()
    course = Course(lambda: math.inf, asyncio.Event(), steps.reopen)
    return await run_steps(steps.all(), shutdown, folder, course)


async def _timed(name: str, asking: Awaitable[str]) -> Heard:
    began = time.perf_counter()
    try:
        said, ok = await asking, True
    except DreamseedError as error:
        said, ok = str(error), False
    return Heard(name, ok, round((time.perf_counter() - began) * 1000, 3), said)


async def _ups(profile: Profile) -> str:
    seen = await source_of(profile.ups).look()
    return f"{seen.status}, charge {seen.charge_percent} %, {seen.runtime_s} s left"


async def _stack(state: StateDir) -> str:
    stack = await look(state)
    return f"gateway {stack.gateway.state}, {stack.ready} of {len(stack.replicas)} replicas ready"
