"""What the front counts, for Prometheus."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class ApiMetrics:
    """All metrics of one front. Times are seconds, money is US dollars."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.requests = Counter(
            "dreamseed_api_requests",
            "Requests by route, status and who answered (gateway, fallback, front)",
            ["route", "status", "source"],
            registry=registry,
        )
        self.duration = Histogram(
            "dreamseed_api_request_duration_seconds",
            "From a request's first byte to the end of its response",
            ["route"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.first_text = Histogram(
            "dreamseed_api_time_to_first_text_seconds",
            "From a streamed request's first byte to its first text",
            ["route"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.in_flight = Gauge("dreamseed_api_requests_in_flight", "Requests under way", registry=registry)
        self.retries = Counter(
            "dreamseed_api_retries", "Further attempts at the gateway, by status", ["code"], registry=registry
        )
        self.waiting = Gauge(
            "dreamseed_api_requests_waiting",
            "Requests that wait for a gateway that is away",
            registry=registry,
        )
        self.cut = Counter(
            "dreamseed_api_streams_cut",
            "Streams that ended before their answer",
            ["source"],
            registry=registry,
        )
        self.breaker = Gauge(
            "dreamseed_api_breaker_state",
            "The circuit breaker before the gateway: 0 closed, 1 half-opened, 2 opened",
            registry=registry,
        )
        self.fallback = Counter(
            "dreamseed_api_fallback_requests",
            "Requests that turned to the fallback, by outcome",
            ["outcome"],
            registry=registry,
        )
        self.fallback_spent = Counter(
            "dreamseed_api_fallback_spent_usd", "Money this front spent on the fallback", registry=registry
        )
        self.fallback_left = Gauge(
            "dreamseed_api_fallback_left_usd",
            "What this front may still spend on the fallback this month without asking",
            registry=registry,
        )

        self.fallback_events_unsent = Gauge(
            "dreamseed_api_fallback_events_unsent",
            "Answers of the fallback that this front has not handed to the gateway, to become events",
            registry=registry,
        )
        self.fallback_events_lost = Counter(
            "dreamseed_api_fallback_events_lost",
            "Answers of the fallback that became no event: too many waited, or the gateway refused them",
            registry=registry,
        )
        self.refusals_unsent = Gauge(
            "dreamseed_api_refusals_unsent",
            "Requests that got no answer from anybody else and that this front has not told the gateway of",
            registry=registry,
        )
        self.refusals_lost = Counter(
            "dreamseed_api_refusals_lost",
            "Those of them that became no event: the gateway refused to record them",
            registry=registry,
        )

    def watch_breaker(self) -> Callable[[str], None]:
        """A callback for `Dependency.on_state`."""
        numbers = {"closed": 0, "half-opened": 1, "opened": 2}
        return lambda state: self.breaker.set(numbers[state])
