"""vLLM's metrics under vLLM's names, and ours: how late tokens are against the schedule."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from dreamseed_cli.engine.emulated.scheduler import Scheduler

CONTENT_TYPE = CONTENT_TYPE_LATEST
# vLLM 0.32's bucket bounds, in seconds.
_TTFT = (
    *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75),
    *(1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0, 160.0, 640.0, 2560.0),
)
_ITL = (
    *(0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75),
    *(1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0),
)
_E2E = (
    *(0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0),
    *(120.0, 240.0, 480.0, 960.0, 1920.0, 7680.0),
)
_LATENESS = (
    *(0.0001, 0.00025, 0.0005, 0.001, 0.0015, 0.002, 0.003, 0.004, 0.005, 0.0075),
    *(0.01, 0.015, 0.02, 0.03, 0.05, 0.1, 0.25, 0.5, 1.0),
)
_FINISH_REASONS = ("stop", "length", "abort", "error")
_LABELS = ("model_name", "engine")


class Histogram:
    """Counts and a sum, cheap enough to take a thousand values a step: many at once, unlocked."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = tuple(bounds)
        self._counts = [0] * (len(self._bounds) + 1)
        self._sum = 0.0

    def add(self, value: float, times: int = 1) -> None:
        """The same value `times` times."""
        self._counts[bisect_left(self._bounds, value)] += times
        self._sum += value * times

    def add_sorted(self, values: Sequence[float], *, origin: float) -> None:
        """Ascending values counted from `origin`: one search a bucket, not one a value."""
        below = 0
        for index, bound in enumerate(self._bounds):
            upto = bisect_right(values, origin + bound, lo=below)
            self._counts[index] += upto - below
            below = upto
        self._counts[-1] += len(values) - below
        self._sum += sum(values) - origin * len(values)

    def family(self, name: str, documentation: str, labels: Sequence[str]) -> Metric:
        """The histogram as prometheus_client exposes it."""
        metric = HistogramMetricFamily(name, documentation, labels=_LABELS)
        bounds = [*map(str, self._bounds), "+Inf"]
        cumulated = accumulate(self._counts)
        metric.add_metric(labels, list(zip(bounds, cumulated, strict=True)), sum_value=self._sum)
        return metric


class Metrics(Collector):
    """What happened so far; collected together with the scheduler's present state."""

    def __init__(self, scheduler: Scheduler, model_name: str) -> None:
        self._scheduler = scheduler
        self._labels = (model_name, "0")
        self.time_to_first_token = Histogram(_TTFT)
        self.inter_token_latency = Histogram(_ITL)
        self.request_latency = Histogram(_E2E)
        self.lateness = Histogram(_LATENESS)
        self.schedule_resets = 0
        self.rejections = 0
        self.finished = dict.fromkeys(_FINISH_REASONS, 0)
        self._registry = CollectorRegistry()
        self._registry.register(self)

    def text(self) -> bytes:
        """The exposition for GET /metrics."""
        return generate_latest(self._registry)

    def collect(self) -> Iterable[Metric]:
        yield from self._gauges()
        yield from self._counters()
        yield from self._latencies()

    def _gauges(self) -> Iterator[Metric]:
        scheduler = self._scheduler
        usage = scheduler.kv_used / scheduler.card.kv_cache_tokens
        for name, documentation, value in (
            ("vllm:num_requests_running", "Requests in the running batch.", scheduler.running),
            ("vllm:num_requests_waiting", "Requests waiting to be processed.", scheduler.waiting),
            ("vllm:kv_cache_usage_perc", "KV-cache usage. 1 means 100 percent usage.", usage),
        ):
            gauge = GaugeMetricFamily(name, documentation, labels=_LABELS)
            gauge.add_metric(self._labels, value)
            yield gauge

    def _counters(self) -> Iterator[Metric]:
        totals = self._scheduler.counters
        for name, documentation, value in (
            ("vllm:prompt_tokens", "Prefill tokens processed.", totals.prompt_tokens),
            ("vllm:generation_tokens", "Generation tokens processed.", totals.generation_tokens),
            ("vllm:num_preemptions", "Preemptions.", totals.preemptions),
            ("vllm:prefix_cache_queries", "Prompt tokens looked up.", totals.prefix_queries),
            ("vllm:prefix_cache_hits", "Prompt tokens found in the prefix cache.", totals.prefix_hits),
            ("dreamseed:emulated_steps", "Simulated engine steps.", totals.steps),
            (
                "dreamseed:emulated_schedule_resets",
                "How often the schedule was given up because this process could not keep up.",
                self.schedule_resets,
            ),
        ):
            counter = CounterMetricFamily(name, documentation, labels=_LABELS)
            counter.add_metric(self._labels, value)
            yield counter
        yield self._success()
        yield self._rejections()

    def _success(self) -> Metric:
        counter = CounterMetricFamily(
            "vllm:request_success", "Requests by how they ended.", labels=(*_LABELS, "finished_reason")
        )
        for reason, count in self.finished.items():
            counter.add_metric((*self._labels, reason), count)
        return counter

    def _rejections(self) -> Metric:
        counter = CounterMetricFamily(
            "vllm:admission_rejections", "Requests refused by a queue limit.", labels=("model_name", "reason")
        )
        counter.add_metric((self._labels[0], "max_num_queued_reqs"), self.rejections)
        return counter

    def _latencies(self) -> Iterator[Metric]:
        for name, documentation, histogram in (
            ("vllm:time_to_first_token_seconds", "Time to first token.", self.time_to_first_token),
            ("vllm:inter_token_latency_seconds", "Inter-token latency.", self.inter_token_latency),
            ("vllm:e2e_request_latency_seconds", "Request latency.", self.request_latency),
            (
                "dreamseed:emulated_token_lateness_seconds",
                "When a streamed token's bytes had been handed to its socket, after the schedule's time.",
                self.lateness,
            ),
        ):
            yield histogram.family(name, documentation, self._labels)
