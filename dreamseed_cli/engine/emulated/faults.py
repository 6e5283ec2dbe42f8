"""How the engine can be told to misbehave, so that what stands before it can be rehearsed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import msgspec

Count = Annotated[int, msgspec.Meta(ge=0)]


class FaultOrder(msgspec.Struct, forbid_unknown_fields=True, tag_field="fault"):
    """The body of POST /control/fault; its `fault` names one of the classes below."""


class Hang(FaultOrder, tag="hang"):
    """No step ends any more; `/health` still says 200, as vLLM's does when its core hangs."""


class Crash(FaultOrder, tag="crash"):
    """The process ends at once with status 1, cleaning nothing up; or after so many further tokens."""

    after_tokens: Count = 0


class StallStream(FaultOrder, tag="stall_stream"):
    """The streams that are open now stop midway, at most `count` of them; others go on."""

    count: Count | None = None


class Slow(FaultOrder, tag="slow"):
    """Every step takes `factor` times as long."""

    factor: Annotated[float, msgspec.Meta(gt=0, le=1_000_000)] = 10.0


class Refuse(FaultOrder, tag="refuse"):
    """Every new request gets a 503."""


class Garbage(FaultOrder, tag="garbage"):
    """Bytes that are neither UTF-8 nor JSON in place of every event and every answer."""


class Deaf(FaultOrder, tag="deaf"):
    """SIGTERM and SIGINT change nothing, as when vLLM hangs in its driver."""


AnyFault = Hang | Crash | StallStream | Slow | Refuse | Garbage | Deaf
_KNOWN = ("hang", "crash", "stall_stream", "slow", "refuse", "garbage", "deaf")


@dataclass(slots=True)
class Faults:
    """What is wrong at the moment; several faults can be."""

    hang: bool = False
    refuse: bool = False
    garbage: bool = False
    deaf: bool = False
    slowdown: float = 1.0
    crash_in_tokens: int | None = None

    def apply(self, order: AnyFault) -> None:
        """Take a fault into effect (`stall_stream` is a deed, not a state: the stepper's)."""
        match order:
            case Hang():
                self.hang = True
            case Refuse():
                self.refuse = True
            case Garbage():
                self.garbage = True
            case Deaf():
                self.deaf = True
            case Slow(factor=factor):
                self.slowdown = factor
            case Crash(after_tokens=tokens):
                self.crash_in_tokens = tokens or None
            case StallStream():
                pass

    def clear(self) -> None:
        """Behave again."""
        self.hang = self.refuse = self.garbage = self.deaf = False
        self.slowdown = 1.0
        self.crash_in_tokens = None


def parse_fault(raw: bytes) -> AnyFault:
    """The ordered fault; ValueError naming the known ones."""
    try:
        order: AnyFault = msgspec.json.decode(raw, type=AnyFault)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{error}. Known faults: {', '.join(_KNOWN)}") from error
    return order
