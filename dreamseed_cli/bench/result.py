"""What a run of `dreamseed bench` found: the published JSON (docs/schemas/bench.schema.json).

Everything that a report shows stands here; the reports only draw it. Pydantic because it is read back, too.
"""

from __future__ import annotations

from typing import Any, Final, Literal

from pydantic import Field

from dreamseed_cli.estimates.results import Measurement
from dreamseed_cli.profile.part import Part

SCHEMA_VERSION: Final = 1


class Interval(Part):
    """A value with its 95 % confidence interval; None where the samples do not give one."""

    value: float
    low: float | None = None
    high: float | None = None

    def times(self, factor: float) -> Interval:
        """The same in another measure; factor: above 0."""
        low, high = (None if end is None else end * factor for end in (self.low, self.high))
        return Interval(value=self.value * factor, low=low, high=high)


class Latency(Part):
    """A distribution of times. Quantiles stand only where there are enough samples (p99 from 662 on)."""

    unit: Literal["ms"] = "ms"
    n: int
    mean: Interval
    min: float
    max: float
    quantiles: dict[str, Interval]
    """`p50`, `p90`, `p95`, `p99`."""


class Problem(Part):
    """Why a figure must not be believed, and what to do about it."""

    rule: str
    reason: str
    remedy: str


class ReplicaShare(Part):
    """One engine's part of a cell."""

    requests: int
    output_tokens_per_s: float
    ttft_p50_ms: float | None = None


class Energy(Part):
    """What the cards drew during the steady window (NVML)."""

    joules: float
    mean_power_w: float
    joules_per_output_token: float | None
    usd_per_million_output_tokens: float | None = None


class Moment(Part):
    """One second of a cell's timeline."""

    t_s: float
    in_flight: int
    requests_per_s: float
    output_tokens_per_s: float
    ttft_p50_ms: float | None = None
    failed: int = 0


class Round(Part):
    """One of the rounds in which a cell was measured: what it says by itself."""

    begin_s: float
    """On the cell's own time, in which its rounds stand one after another."""
    duration_s: float
    window_s: tuple[float, float]
    """The steady window, since the round's begin."""
    requests: int
    """Scheduled in the window."""
    requests_before: int
    """Scheduled before it: their answers are under way when it begins."""
    achieved_rate_per_s: float
    output_tokens_per_s: float
    tpot_mean_ms: float | None = None


class CellResult(Part):
    """One cell. Latencies count from the scheduled time unless their name says otherwise."""

    name: str
    shape: dict[str, Any]
    workload: str
    valid: bool
    problems: tuple[Problem, ...] = ()
    over_capacity: bool = False
    """Requests came faster than the server completed them: its latencies grow with the length of the cell."""
    notes: tuple[str, ...] = ()
    partial: bool = False
    duration_s: float
    window_s: tuple[float, float]
    """The steady window: from, to. Of rounds: from the first one's begin to the last one's end."""
    rounds: tuple[Round, ...] = ()
    """Those in which it was measured; empty if it was measured at one time."""
    requests: int
    """Scheduled in the window; of rounds, in all of theirs."""
    requests_before: int | None = None
    """Scheduled before the window, of rounds before each of theirs; None in results that do not tell it."""
    endings: dict[str, int]
    """How they ended, by `Ending`."""
    details: dict[str, int] = Field(default_factory=dict)
    """The commonest reasons of those that failed, in the server's words."""
    asked_rate_per_s: float | None = None
    achieved_rate_per_s: float
    asked_streams: int | None = None
    peak_in_flight: int
    server_peak_in_flight: int | None = None
    """Running and waiting at the server, at most, by its own metrics."""
    ttft: Latency | None = None
    ttft_from_send: Latency | None = None
    ttft_hits: Latency | None = None
    """TTFT of the answers that came from the cache; `ttft_misses`: of those that did not."""
    ttft_misses: Latency | None = None
    itl: Latency | None = None
    tpot: Latency | None = None
    e2e: Latency | None = None
    scheduling_delay: Latency | None = None
    """How late the load itself was, without the time to open connections."""
    loop_lag_p99_ms: float | None = None
    """How late the load's event loops were: a closed loop has no other sign of its lateness."""
    connect: Latency | None = None
    """The time to open a connection, TLS included, of the requests that found none open."""
    output_tokens_per_s: Interval
    total_tokens_per_s: Interval
    requests_per_s: Interval
    goodput_per_s: Interval
    """Requests a second that kept the SLO."""
    slo_attainment: Interval
    """The share of scheduled requests that kept the SLO."""
    prompt_tokens_mean: float | None = None
    output_tokens_mean: float | None = None
    cache_hit_percent: float | None = None
    prefix_hit_percent: float | None = None
    replicas: dict[str, ReplicaShare] = Field(default_factory=dict)
    energy: Energy | None = None
    timeline: tuple[Moment, ...] = ()
    cdfs: dict[str, tuple[tuple[float, float], ...]] = Field(default_factory=dict)
    """`ttft`, `itl`, `tpot`, `e2e`: (ms, share at or below), thinned out."""


class Column(Part):
    """A column of a suite's own table."""

    key: str
    label: str
    unit: str = ""


class FactTable(Part):
    """A table that only one suite has, such as pgbench's figures or a server's settings."""

    title: str
    columns: tuple[Column, ...]
    rows: tuple[dict[str, float | int | str | bool | None], ...]
    provenance: Literal["measured", "simulated", "computed", "document"] = "measured"


class SuiteResult(Part):
    """One suite: its cells, its own tables, and the figures that `dreamseed estimates` judges by."""

    name: str
    headline: str
    """One sentence with the figures that matter."""
    cells: tuple[CellResult, ...] = ()
    tables: tuple[FactTable, ...] = ()
    measurements: tuple[Measurement, ...] = ()
    problems: tuple[Problem, ...] = ()
    """Of the suite as a whole; its cells have their own."""
    partial: bool = False
    missed: tuple[str, ...] = ()
    """Targets that were missed, in words."""


class Slo(Part):
    """What a request must keep to count as good."""

    ttft_ms: float
    tpot_ms: float
    attainment: float
    """The share of requests that must be good for a load to be sustained."""


class BenchResult(Part):
    """A whole run. `measurements` collects those of the valid suites, as benchmarks/results/ wants them."""

    schema_version: Literal[1] = SCHEMA_VERSION
    tool: str
    date: str
    """When it began: ISO 8601, UTC."""
    device: str
    """What was measured: the cards, or the processor and its cores."""
    profile: str | None
    target: str
    model: str
    provenance: Literal["measured", "simulated"]
    provenance_note: str = ""
    """Such as `CPU`, or the emulated card's source."""
    seed: int
    slo: Slo
    valid: bool
    partial: bool = False
    command: str = ""
    suites: tuple[SuiteResult, ...] = Field(default=())
    measurements: tuple[Measurement, ...] = ()
