"""What is told of every request: its event, its metrics, its span."""

from __future__ import annotations

from typing import Protocol

from dreamseed_cli.gateway.cache.answers import REPLICA
from dreamseed_cli.gateway.events.record import Outcome, RequestRecord
from dreamseed_cli.gateway.journey import PROVIDER, Journey
from dreamseed_cli.gateway.metrics import GatewayMetrics
from dreamseed_cli.gateway.tracing import Tracing


class Events(Protocol):
    """Where events go first; see `events.log`."""

    def begin(
        self,
        *,
        request_id: str,
        user_id: str,
        priority: str,
        workload: str,
        model: str,
        arrived_at: float,
        event_id: str,
    ) -> str:
        """A request was let in; its event's id: `event_id`, or a new one if that is empty."""
        ...

    def end(self, record: RequestRecord) -> None:
        """A request ended."""
        ...

    def refuse(self, record: RequestRecord) -> None:
        """A request ended before it was known whose it is: there may be very many."""
        ...

    def new_id(self) -> str:
        """An id for the event of a request that was not let in."""
        ...


class Reporter:
    """events, tracing: None where they are off."""

    def __init__(
        self, model: str, metrics: GatewayMetrics, events: Events | None, tracing: Tracing | None
    ) -> None:
        self._model = model
        self._metrics = metrics
        self._events = events
        self._tracing = tracing

    def begin(self, journey: Journey) -> None:
        """The request was let in: from here on it ends with exactly one event, whatever happens."""
        if self._events is not None and journey.wish is not None:
            journey.event_id = self._events.begin(
                request_id=journey.request_id,
                user_id=journey.user_id,
                priority=journey.priority,
                workload=journey.wish.workload.value,
                model=self._model,
                arrived_at=journey.arrived_at,
                event_id=journey.event_id,
            )

    def end(self, journey: Journey, outcome: Outcome, reason: str | None = None) -> None:
        """Once for every request, before its last message goes out."""
        self._observe(journey, outcome, reason)
        if self._events is not None:
            journey.event_id = journey.event_id or self._events.new_id()
            write = self._events.refuse if journey.nobodys else self._events.end
            write(journey.record(outcome, reason, self._model))
        if self._tracing is not None:
            self._tracing.end(journey, outcome, reason)

    def _observe(self, journey: Journey, outcome: Outcome, reason: str | None) -> None:
        metrics, priority = self._metrics, journey.priority
        if outcome is Outcome.REJECTED:
            metrics.rejections.labels(priority, reason).inc()
        # What was generated for somebody else is no work of a replica's.
        replica = REPLICA if journey.cache_hit else journey.replica
        labels = (journey.operation, PROVIDER, self._model, priority, replica)
        duration_s = journey.elapsed_s()
        metrics.duration.labels(*labels, outcome.value, reason or "").observe(duration_s)
        if journey.ttft_s is None:
            return
        metrics.first_token.labels(*labels).observe(journey.ttft_s)
        if journey.tokens > 1:
            per_token_s = (duration_s - journey.ttft_s) / (journey.tokens - 1)
            metrics.per_token.labels(*labels).observe(per_token_s)
        metrics.tokens.labels(*labels, "output").observe(journey.tokens)
        if journey.prompt_tokens is not None:
            metrics.tokens.labels(*labels, "input").observe(journey.prompt_tokens)
