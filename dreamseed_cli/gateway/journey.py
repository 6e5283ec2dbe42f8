"""One request from its arrival to its end: what is known of it so far."""

from __future__ import annotations

import time

from dreamseed_cli.gateway.accounts.types import Grant
from dreamseed_cli.gateway.call import Call, Delta
from dreamseed_cli.gateway.events.record import UNKNOWN_PRIORITY, Outcome, RequestRecord
from dreamseed_cli.gateway.proto.llm_pb2 import GenerateResponse
from dreamseed_cli.gateway.proto.llm_pb2 import Priority as WirePriority
from dreamseed_cli.gateway.validation import Wish

PROVIDER = "dreamseed"
"""`gen_ai.provider.name` of OpenTelemetry's GenAI conventions."""


class Journey:
    """Filled in as the request proceeds; times are perf_counter seconds, `arrived_at` since the epoch."""

    __slots__ = (
        "arrived",
        "arrived_at",
        "cache_hit",
        "call",
        "event_id",
        "finish_reason",
        "grant",
        "prompt_tokens",
        "queue_s",
        "refused_user_id",
        "replica",
        "simulated",
        "tokens",
        "traceparent",
        "ttft_s",
        "wish",
    )

    def __init__(self) -> None:
        self.arrived = time.perf_counter()
        self.arrived_at = time.time()
        self.wish: Wish | None = None
        """What was asked, once it was found in order."""
        self.grant: Grant | None = None
        self.call: Call | None = None
        """What was granted, once it was let in."""
        self.refused_user_id = ""
        """Whose it was, if it was not let in and that was known."""
        self.event_id = ""
        """Its caller's choice, if that may choose; else its event gets one in time."""
        self.traceparent: str | None = None
        self.replica = ""
        self.simulated = False
        self.cache_hit = False
        self.queue_s: float | None = None
        self.ttft_s: float | None = None
        self.tokens = 0
        self.prompt_tokens: int | None = None
        self.finish_reason: str | None = None

    @property
    def started(self) -> bool:
        """Whether a part of the answer has come."""
        return self.ttft_s is not None

    @property
    def request_id(self) -> str:
        """Empty as long as the request was not found in order."""
        return self.wish.request.request_id if self.wish else ""

    @property
    def user_id(self) -> str:
        """The user the request was let in or refused for; before, nobody has verified it."""
        return self.call.user_id if self.call else self.refused_user_id

    @property
    def nobodys(self) -> bool:
        """Whether nobody had verified whose it was: anybody can send as many of these as he likes."""
        return self.grant is None and not self.refused_user_id

    @property
    def operation(self) -> str:
        """`gen_ai.operation.name`."""
        raw = self.wish is not None and self.wish.request.raw
        return "text_completion" if raw else "chat"

    @property
    def priority(self) -> str:
        """The label of the class: as granted, else as asked."""
        if self.call is not None:
            return self.call.priority.label
        return self.wish.priority.label if self.wish else UNKNOWN_PRIORITY

    def add(self, delta: Delta) -> None:
        """Take note of a piece of the answer."""
        if self.ttft_s is None:
            self.ttft_s = self.elapsed_s()
            self.simulated = delta.simulated
            self.queue_s = delta.queue_s
        self.replica = delta.replica
        self.cache_hit = delta.cache_hit
        self.tokens = delta.completion_tokens or self.tokens
        self.prompt_tokens = delta.prompt_tokens or self.prompt_tokens
        self.finish_reason = delta.finish_reason or self.finish_reason

    def begin_anew(self) -> None:
        """What came of the answer is thrown away: another one is made from the beginning."""
        self.ttft_s = self.prompt_tokens = self.finish_reason = None
        self.tokens = 0

    def elapsed_s(self) -> float:
        """Since the arrival."""
        return time.perf_counter() - self.arrived

    def part(self, text: str) -> GenerateResponse:
        """A message of a streamed answer."""
        return GenerateResponse(
            text=text, tokens_generated=self.tokens, latency_ms=(time.perf_counter() - self.arrived) * 1000
        )

    def whole(self, text: str) -> GenerateResponse:
        """The last message, with the totals."""
        return GenerateResponse(
            text=text,
            tokens_generated=self.tokens,
            latency_ms=self.elapsed_s() * 1000,
            finish_reason=self.finish_reason,
            prompt_tokens=self.prompt_tokens,
            time_to_first_token_ms=(self.ttft_s or 0.0) * 1000,
            replica=self.replica,
            cache_hit=self.cache_hit,
            granted_priority=WirePriority.Name(self.call.priority) if self.call else None,
        )

    def record(self, outcome: Outcome, reason: str | None, model: str) -> RequestRecord:
        """The request's row and event, now that it has ended."""
        return RequestRecord(
            event_id=self.event_id,
            request_id=self.request_id,
            user_id=self.user_id,
            outcome=outcome,
            reason=reason,
            arrived_at=self.arrived_at,
            duration_s=self.elapsed_s(),
            priority=self.priority,
            workload=self.wish.workload.value if self.wish else "other",
            model=model,
            replica=self.replica or None,
            cache_hit=self.cache_hit,
            prompt_tokens=self.prompt_tokens,
            completion_tokens=self.tokens if self.started else None,
            finish_reason=self.finish_reason,
            queue_s=self.queue_s,
            ttft_s=self.ttft_s,
            simulated=self.simulated,
        )
