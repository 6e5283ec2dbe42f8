"""What the gateway counts, for Prometheus. GenAI names follow OpenTelemetry's semantic conventions.

Hot paths only bump counters here; gauges are set by whoever knows the state.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

LookupResult = Literal["hit", "shared", "miss", "bypass", "error"]
"""What the cache did: `shared` with an equal request under way."""
_LATENCY_S = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
FIRST_TOKEN_S = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
_PER_TOKEN_S = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5)
_TOKENS = (1, 4, 16, 64, 256, 1024, 4096, 16384, 65536)
_WAIT_S = (0.001, 0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class GatewayMetrics:
    """All metrics of one gateway. Times are seconds."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        request = [
            "gen_ai_operation_name",
            "gen_ai_provider_name",
            "gen_ai_request_model",
            "priority",
            "replica",
        ]
        self.duration = Histogram(
            "gen_ai_server_request_duration_seconds",
            "From a request's arrival to its end",
            [*request, "outcome", "error_type"],
            buckets=_LATENCY_S,
            registry=registry,
        )
        self.first_token = Histogram(
            "gen_ai_server_time_to_first_token_seconds",
            "From a request's arrival to its first token (TTFT), queueing included",
            request,
            buckets=FIRST_TOKEN_S,
            registry=registry,
        )
        self.per_token = Histogram(
            "gen_ai_server_time_per_output_token_seconds",
            "Time per output token after the first (TPOT)",
            request,
            buckets=_PER_TOKEN_S,
            registry=registry,
        )
        self.tokens = Histogram(
            "gen_ai_client_token_usage",
            "Tokens of a request",
            [*request, "gen_ai_token_type"],
            buckets=_TOKENS,
            registry=registry,
        )
        self.queue_length = Gauge(
            "dreamseed_queue_length", "Requests that wait for an engine", ["priority"], registry=registry
        )
        self.queue_wait = Histogram(
            "dreamseed_queue_wait_seconds",
            "From a request's arrival in the queue to its engine, by the replica that took it",
            ["priority", "replica"],
            buckets=_WAIT_S,
            registry=registry,
        )
        self.rejections = Counter(
            "dreamseed_rejections", "Requests that were not let in", ["priority", "reason"], registry=registry
        )
        self.grants = Counter(
            "dreamseed_grants",
            "Requests that were let in, by tier, how it is known, and whether it lowered the priority",
            ["tier", "known", "clamped"],
            registry=registry,
        )
        self.retries = Counter(
            "dreamseed_retries", "Requests moved to another replica", ["replica", "kind"], registry=registry
        )
        self.cache_lookups = Counter(
            "dreamseed_cache_lookups",
            "Requests by what the cache did: hit, shared (with an equal one under way), miss, bypass, error",
            ["workload", "result"],
            registry=registry,
        )
        self.dependency_state = Gauge(
            "dreamseed_dependency_state",
            "A dependency's circuit breaker: 0 closed, 1 half-opened, 2 opened (kafka, which the relay alone"
            " asks: events wait and none goes out)",
            ["dependency"],
            registry=registry,
        )
        self.replica_ready = Gauge(
            "dreamseed_replica_ready", "Whether a replica takes requests", ["replica"], registry=registry
        )
        self.replica_outstanding = Gauge(
            "dreamseed_replica_outstanding_requests", "Requests under way", ["replica"], registry=registry
        )
        self.replica_state = Gauge(
            "dreamseed_replica_state",
            "1 for the state that a replica is in",
            ["replica", "state"],
            registry=registry,
        )
        self.replica_transitions = Counter(
            "dreamseed_replica_transitions",
            "Changes of a replica's state",
            ["replica", "state", "reason"],
            registry=registry,
        )
        self._states: dict[str, tuple[str, str]] = {}
        self.journal_bytes = Gauge(
            "dreamseed_journal_bytes",
            "Events on this disk that PostgreSQL does not have yet",
            registry=registry,
        )
        self.events_lost = Counter(
            "dreamseed_events_lost", "Events that found no place: the journal was full", registry=registry
        )
        self.outbox_waiting = Gauge(
            "dreamseed_outbox_waiting_events",
            "Events in PostgreSQL that Kafka does not have yet, counted up to 100,000 (every 10 s)",
            registry=registry,
        )
        self.outbox_oldest = Gauge(
            "dreamseed_outbox_oldest_waiting_seconds",
            "How long the first of them has waited; 0: none waits",
            registry=registry,
        )
        self.requests_pruned = Counter(
            "dreamseed_requests_pruned",
            "Rows of the table requests that were deleted for their age",
            registry=registry,
        )
        self.events_refused = Counter(
            "dreamseed_events_refused",
            "Events that PostgreSQL did not take for what was in them: set aside beside the journal",
            registry=registry,
        )

    def set_replicas(self, replicas: Iterable[Mapping[str, Any]]) -> None:
        """Take the replicas as they stand (`Replicas.stats`); one that vanished leaves the gauges too."""
        self.replica_ready.clear()
        self.replica_outstanding.clear()
        for replica in replicas:
            self.replica_ready.labels(replica["name"]).set(replica["ready"])
            self.replica_outstanding.labels(replica["name"]).set(replica["outstanding"])

    def note_states(self, states: Iterable[tuple[str, str, str]]) -> None:
        """Take each replica's name, state and reason, as a new table brings them."""
        now = {name: (state, reason) for name, state, reason in states if state}
        self.replica_state.clear()
        for name, (state, reason) in now.items():
            self.replica_state.labels(name, state).set(1)
            if self._states.get(name) != (state, reason):
                self.replica_transitions.labels(name, state, reason).inc()
        self._states = now

    def watch_dependency(self, name: str) -> Callable[[str], None]:
        """A callback for `Dependency.on_state`."""
        gauge = self.dependency_state.labels(name)
        gauge.set(0)
        numbers = {"closed": 0, "half-opened": 1, "opened": 2}
        return lambda state: gauge.set(numbers[state])
