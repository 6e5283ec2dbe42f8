"""What the UPS's watcher asks of a running stack, over its control socket. All of it for an event loop."""

from __future__ import annotations

import msgspec

from dreamseed_cli.core.errors import FailedError
from dreamseed_cli.core.paths import StateDir
from dreamseed_cli.gateway.doorway import DoorOrder
from dreamseed_cli.supervisor.control import EXPLAINED, NoAnswer, call, fetch
from dreamseed_cli.supervisor.snapshot import StackSnapshot
from dreamseed_cli.supervisor.winding import PartEnded, StackPart, WindDown

ANSWERS_WITHIN_S = 5.0
"""Seconds, for whatever is no work to answer."""
_KILL_S = 15.0
"""What killing and sweeping up may take beyond a part's time."""


class Inside(msgspec.Struct, frozen=True):
    """What the gateway still has: calls under way, and bytes of events that PostgreSQL does not have."""

    calls: int = 0
    journal_bytes: int = 0


async def look(state: StateDir) -> StackSnapshot:
    """The stack as it stands. FailedError if the supervisor does not answer."""
    return await fetch(state)


async def answers(state: StateDir, within_s: float = ANSWERS_WITHIN_S) -> bool:
    """Whether the supervisor says anything in so many seconds, whatever it is."""
    try:
        await call(state, "GET", "/status", timeout_s=within_s)
    except NoAnswer:
        return False
    except FailedError:
        pass
    return True


async def set_doorway(state: StateDir, order: DoorOrder, within_s: float = ANSWERS_WITHIN_S) -> Inside:
    """Have the gateway let in whom the order says. FailedError if it does not answer, NoAnswer if nobody does
    in so many seconds.
    """
    answer = await call(state, "PUT", "/doorway", order.model_dump(mode="json"), timeout_s=within_s)
    return msgspec.json.decode(_done(state, *answer), type=Inside)


async def wind_down(state: StateDir, part: StackPart, within_s: float) -> PartEnded:
    """End a part of the stack, in order for so long, then at once. NoAnswer if nobody answers."""
    body = msgspec.to_builtins(WindDown(part, within_s))
    answer = await call(state, "POST", "/wind-down", body, timeout_s=within_s + _KILL_S)
    return msgspec.json.decode(_done(state, *answer), type=PartEnded)


def _done(state: StateDir, status: int, body: bytes) -> bytes:
    """The answer; FailedError for one that says why it was not done."""
    if status in EXPLAINED:
        raise FailedError(
            msgspec.json.decode(body, type=dict[str, str])["cause"], place=str(state.socket("control"))
        )
    return body
