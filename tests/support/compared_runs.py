"""Whole runs with one cell of known figures, to be compared."""

from __future__ import annotations

from typing import Any

from dreamseed_cli.bench.result import (
    BenchResult,
    CellResult,
    Energy,
    Interval,
    Latency,
    Problem,
    Slo,
    SuiteResult,
)

BROKEN = (Problem(rule="streams", reason="the server saw 3 streams", remedy="Ask for fewer."),)


def around(value: float, half: float | None) -> Interval:
    """A value with so much to both sides; None: without an interval."""
    if half is None:
        return Interval(value=value)
    return Interval(value=value, low=value - half, high=value + half)


def a_latency(p99: Interval | None) -> Latency:
    """A distribution with this p99 (None: too few samples), and a p50 of 100 ms."""
    quantiles = {"p50": around(100, 1)} | ({"p99": p99} if p99 else {})
    return Latency(n=1000, mean=around(110, 1), min=1, max=9999, quantiles=quantiles)


def a_cell(name: str = "poisson-4", **fields: Any) -> CellResult:
    """A valid cell; p99: of its TTFT, tok_s, attainment, joules: a token."""
    p99 = fields.pop("p99", around(500, 20))
    joules = fields.pop("joules", None)
    told: dict[str, Any] = {
        "shape": {"type": "rate", "per_s": 4.0, "arrivals": "poisson"},
        "workload": "question",
        "valid": not fields.get("problems"),
        "duration_s": 60.0,
        "window_s": (5.0, 60.0),
        "requests": 1000,
        "endings": {"complete": 1000},
        "achieved_rate_per_s": 4.0,
        "peak_in_flight": 9,
        "ttft": a_latency(p99),
        "output_tokens_per_s": fields.pop("tok_s", around(800, 10)),
        "total_tokens_per_s": around(900, 10),
        "requests_per_s": around(4, 0.1),
        "goodput_per_s": around(4, 0.1),
        "slo_attainment": fields.pop("attainment", around(0.995, 0.002)),
        "energy": Energy(joules=1.0, mean_power_w=1.0, joules_per_output_token=joules) if joules else None,
    }
    return CellResult(name=name, **{**told, **fields})


def a_run(*cells: CellResult, **fields: Any) -> BenchResult:
    """A run of the engine suite with these cells."""
    told: dict[str, Any] = {
        "tool": "dreamseed 1",
        "date": "2026-11-25T00:00:00Z",
        "device": "box",
        "profile": "p",
        "target": "127.0.0.1:50051",
        "model": "m",
        "provenance": "measured",
        "seed": 1,
        "slo": Slo(ttft_ms=1000, tpot_ms=100, attainment=0.99),
        "valid": True,
    }
    suite = SuiteResult(name="engine", headline="", cells=cells or (a_cell(),))
    return BenchResult(suites=(suite,), **{**told, **fields})
