"""One request's end, as it is recorded and published. Never a prompt, never an answer."""

from __future__ import annotations

from enum import StrEnum

import msgspec

SCHEMA_VERSION = 1
UNKNOWN_PRIORITY = "unknown"
"""Of a request that was refused before its priority was read, and of many that were told as one."""


class Outcome(StrEnum):
    """How a request ended."""

    FINISHED = "finished"
    FAILED = "failed"
    REJECTED = "rejected"
    CANCELLED = "cancelled"


class Source(StrEnum):
    """Who answered a request, or did not."""

    GATEWAY = "gateway"
    FALLBACK = "fallback"
    """Somebody else's model, asked by the HTTP front while the gateway was out of its reach."""
    FRONT = "front"
    """Nobody: the HTTP front refused it before the gateway, or without it."""


class RequestRecord(msgspec.Struct, frozen=True, gc=False):
    """A request's row and, with every field, its event. Times are seconds, `arrived_at` since the epoch."""

    event_id: str
    """Unique over all gateways and their restarts: consumers drop what they have seen."""
    request_id: str
    user_id: str
    outcome: Outcome
    arrived_at: float
    duration_s: float
    priority: str
    """batch, standard or premium, as granted; UNKNOWN_PRIORITY."""
    workload: str
    model: str
    schema_version: int = SCHEMA_VERSION
    reason: str | None = None
    """Why it was rejected or failed: a label, such as `queue_full`."""
    replica: str | None = None
    cache_hit: bool = False
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    finish_reason: str | None = None
    queue_s: float | None = None
    ttft_s: float | None = None
    simulated: bool = False
    source: Source = Source.GATEWAY
    """Not in events that were written before there was a choice: those are the gateway's."""
    count: int = 1
    """How many requests it stands for: above 1 only where many alike were refused in a flood, and all but the
    first few of a second are told as one. Not in events from before that: those are one each.
    """
