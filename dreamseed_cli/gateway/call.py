"""What stands between a message on the wire and its answer: the call, and whoever can answer it."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from enum import IntEnum, StrEnum
from typing import Protocol

import msgspec

from dreamseed_cli.engine.types import GenerationRequest


class PriorityClass(IntEnum):
    """§D1's Priority, with the same numbers."""

    BATCH = 0
    STANDARD = 1
    PREMIUM = 2

    @property
    def label(self) -> str:
        """The class in metrics, logs and events."""
        return self.name.lower()

    @property
    def engine_priority(self) -> int:
        """vLLM's number for it: lower goes first."""
        return PriorityClass.PREMIUM - self


class Workload(StrEnum):
    """What a request is for: §I1 expects another hit rate of each."""

    QUESTION = "question"
    FEEDBACK = "feedback"
    RECOMMENDATION = "recommendation"
    OTHER = "other"


_WORKLOADS = {workload.value: workload for workload in Workload}


def workload_of(name: str) -> Workload:
    """The workload of a name that a client chose; OTHER for one that there is not."""
    return _WORKLOADS.get(name, Workload.OTHER)


class Call(msgspec.Struct, frozen=True, gc=False):
    """One request that was let in."""

    request: GenerationRequest
    priority: PriorityClass
    """As granted, not as asked."""
    deadline: float
    """When the caller gives up, in time.monotonic() seconds."""
    user_id: str = ""
    workload: Workload = Workload.OTHER
    use_cache: bool = True
    whole: bool = False
    """Its caller sees nothing before the end: an answer that was cut may begin anew."""


class Delta(msgspec.Struct, frozen=True, gc=False):
    """A piece of an answer. The counts are running totals, None while unknown."""

    text: str
    replica: str
    finish_reason: str | None
    prompt_tokens: int | None
    completion_tokens: int | None
    simulated: bool
    cache_hit: bool = False
    queue_s: float | None = None
    """How long the call waited for an engine, in seconds; on its first delta."""


class Answers(Protocol):
    """Whatever answers calls: the engines behind their queue, or a cache before them."""

    def answer(self, call: Call) -> AsyncGenerator[Delta, None]:
        """The answer's deltas; ends only with a complete answer, else raises a DreamseedError.

        Close it early (`contextlib.aclosing`) to give up: queue place and engine slot are freed at once.
        """
        ...
