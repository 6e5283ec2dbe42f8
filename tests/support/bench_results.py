"""Made-up results of `dreamseed bench`, rich enough for every part of a report. The same at every call.

`sweep_result()`: three emulated replicas, an engine sweep of five rates (the last one INVALID), a batching
suite, a db suite with tables, energy. `records_of(result)`: a few requests for each of its cells.
"""

from __future__ import annotations

from math import exp, sin
from statistics import NormalDist

from dreamseed_cli.bench.records import Ending, Record
from dreamseed_cli.bench.result import (
    BenchResult,
    CellResult,
    Column,
    Energy,
    FactTable,
    Interval,
    Latency,
    Moment,
    Problem,
    ReplicaShare,
    Slo,
    SuiteResult,
)
from dreamseed_cli.estimates.results import Measurement

DATE = "2026-11-25T04:05:06+00:00"
LEVELS = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99}
LATE = Problem(
    rule="achieved-rate",
    reason="8.71 of the 10 requests/s asked for were sent (87.1 %, at least 99 % are needed)",
    remedy="Spread the load over more processes with --processes, or ask for a lower rate.",
)
DELAYED = Problem(
    rule="scheduling-delay",
    reason="p99 of the scheduling delay is 11,300 ms (at most 50 ms are allowed)",
    remedy="Run the load from another machine, or raise --processes.",
)


def interval(value: float, spread: float = 0.04) -> Interval:
    """A value with an interval of ± `spread` of it."""
    return Interval(value=value, low=value * (1 - spread), high=value * (1 + spread))


def latency(median_ms: float, sigma: float = 0.35, n: int = 1200) -> Latency:
    """A log-normal distribution; p99 only from 662 samples on, as the tool has it."""
    levels = {name: q for name, q in LEVELS.items() if name != "p99" or n >= 662}
    return Latency(
        n=n,
        mean=interval(median_ms * exp(sigma**2 / 2)),
        min=median_ms * exp(-3 * sigma),
        max=median_ms * exp(3 * sigma),
        quantiles={
            name: interval(_quantile(median_ms, sigma, q), 0.03 + 0.12 * (q > 0.98))
            for name, q in levels.items()
        },
    )


def cell(
    shape: dict[str, float | str],
    *,
    tokens_per_s: float,
    ttft_ms: float,
    problems: tuple[Problem, ...] = (),
    n: int = 1200,
    sigma: float = 0.35,
) -> CellResult:
    """A cell of a minute and a half, its answers 200 tokens long."""
    load = float(shape.get("per_s", shape.get("count", 1)))
    rate = tokens_per_s / 200
    asked = load if shape["type"] == "rate" else None
    medians = {"ttft": ttft_ms, "itl": 18 + load, "tpot": 19 + load, "e2e": ttft_ms + 200 * (19 + load)}
    times = {name: latency(median, sigma, n) for name, median in medians.items()}
    bad = 0.31 if problems else 0.01
    return CellResult(
        name=f"{'poisson' if asked else 'streams'}-{load:g}",
        shape=dict(shape),
        workload="question",
        valid=not problems,
        problems=problems,
        notes=("2 of 1,200 answers were cut by the server",),
        duration_s=90.0,
        window_s=(12.0, 84.0),
        requests=n,
        endings={"complete": n - 2, "cut": 2},
        details={"connection reset by peer": 2},
        asked_rate_per_s=asked,
        achieved_rate_per_s=rate,
        asked_streams=None if asked else int(load),
        peak_in_flight=int(load * 6) + 1,
        server_peak_in_flight=int(load * 6),
        ttft=times["ttft"],
        ttft_from_send=latency(ttft_ms * (0.1 if problems else 0.98), sigma, n),
        itl=times["itl"],
        tpot=times["tpot"],
        e2e=times["e2e"],
        scheduling_delay=latency(ttft_ms * 0.9 if problems else 0.4, sigma, n),
        output_tokens_per_s=interval(tokens_per_s),
        total_tokens_per_s=interval(tokens_per_s * 1.6),
        requests_per_s=interval(rate),
        goodput_per_s=interval(rate * (1 - bad)),
        slo_attainment=Interval(value=1 - bad, low=0.97 - bad, high=min(1.0, 1.005 - bad)),
        prompt_tokens_mean=120.0,
        output_tokens_mean=200.0,
        cache_hit_percent=0.0,
        prefix_hit_percent=0.2,
        replicas={
            f"r{number}": ReplicaShare(
                requests=n // 3,
                output_tokens_per_s=tokens_per_s / 3 * (1 + 0.06 * (number - 1)),
                ttft_p50_ms=ttft_ms * (1 + 0.05 * (1 - number)),
            )
            for number in range(3)
        },
        energy=Energy(
            joules=52_000.0 + 900 * load,
            mean_power_w=720.0 + 40 * load,
            joules_per_output_token=(720 + 40 * load) / tokens_per_s,
            usd_per_million_output_tokens=(720 + 40 * load) / tokens_per_s / 3.6 * 0.12,
        ),
        timeline=tuple(_moment(second, load, rate, ttft_ms, bool(problems)) for second in range(90)),
        cdfs={name: _cdf(median, sigma) for name, median in medians.items()},
    )


def engine_suite() -> SuiteResult:
    """Five Poisson rates; at the last one the load itself is late."""
    rates = ((2.0, 402.0, 96.0), (4.0, 801.0, 118.0), (6.0, 1196.0, 171.0), (8.0, 1561.0, 420.0))
    good = [
        cell({"type": "rate", "per_s": rate, "arrivals": "poisson"}, tokens_per_s=speed, ttft_ms=ttft)
        for rate, speed, ttft in rates
    ]
    late = cell(
        {"type": "rate", "per_s": 10.0, "arrivals": "poisson"},
        tokens_per_s=1742.0,
        ttft_ms=5200.0,
        problems=(LATE, DELAYED),
        sigma=0.5,
    )
    return SuiteResult(
        name="engine",
        headline="Up to 1,561 tok/s and 7.81 requests/s with p99 TTFT 948 ms over three replicas.",
        cells=(*good, late),
        measurements=(
            _result("farm-tok-s", 1561.0, "tok/s"),
            _result("farm-answers-per-s", 7.81, "requests/s"),
        ),
        missed=("p99 TTFT 948 ms at 8 requests/s is over the SLO's 800 ms",),
    )


def batching_suite() -> SuiteResult:
    """Closed loops of 1 to 16 streams; too few requests for a p99."""
    speeds = ((1, 50.0), (2, 98.0), (4, 190.0), (8, 361.0), (16, 640.0))
    return SuiteResult(
        name="batching",
        headline="A batch of 8 gives 361 tok/s, 7.2 times a single stream's 50 tok/s.",
        cells=tuple(
            cell(
                {"type": "streams", "count": n, "ramp_s": 0.0}, tokens_per_s=speed, ttft_ms=80 + 6 * n, n=300
            )
            for n, speed in speeds
        ),
        measurements=(_result("batch-8-speedup", 7.2, "times", provenance="simulated"),),
    )


def db_suite() -> SuiteResult:
    """pgbench's figures and the server's settings beside the document's."""
    tps = FactTable(
        title="pgbench",
        columns=(
            Column(key="kind", label="transactions"),
            Column(key="clients", label="connections"),
            Column(key="tps", label="rate", unit="TPS"),
            Column(key="p95", label="p95", unit="ms"),
        ),
        rows=(
            {"kind": "read-mostly", "clients": 500, "tps": 5321.4, "p95": 4.21},
            {"kind": "writing", "clients": 50, "tps": 431.7, "p95": 131.5},
        ),
    )
    settings = FactTable(
        title="Settings beside the document's",
        columns=(
            Column(key="name", label="setting"),
            Column(key="ours", label="server"),
            Column(key="document", label="document §E1"),
            Column(key="same", label="same"),
        ),
        rows=(
            {"name": "shared_buffers", "ours": "128MB", "document": "8GB", "same": False},
            {"name": "random_page_cost", "ours": 1.1, "document": 1.1, "same": True},
            {"name": "effective_cache_size", "ours": None, "document": "24GB", "same": False},
        ),
        provenance="computed",
    )
    return SuiteResult(
        name="db",
        headline="5,321 TPS read-mostly at 500 connections, p95 4.21 ms; 432 TPS writing.",
        tables=(tps, settings),
        measurements=(
            _result("postgres-read-tps", 5321.4, "TPS", provenance="measured"),
            _result("postgres-write-tps", 431.7, "TPS", provenance="measured"),
        ),
    )


def sweep_result(*suites: SuiteResult) -> BenchResult:
    """The whole run; or one of the given suites."""
    suites = suites or (engine_suite(), batching_suite(), db_suite())
    return BenchResult(
        tool="dreamseed 0.1.0",
        date=DATE,
        device="3 x emulated RTX 5090 on 2 cores",
        profile="emulated3",
        target="grpc 127.0.0.1:50051",
        model="Qwen/Qwen2.5-7B-Instruct",
        provenance="simulated",
        provenance_note="emulated cards: roofline of plan/cards.toml",
        seed=7,
        slo=Slo(ttft_ms=800.0, tpot_ms=60.0, attainment=0.95),
        valid=all(one.valid for suite in suites for one in suite.cells),
        command="dreamseed bench --gpus 3 --suite engine,batching,db",
        suites=suites,
        measurements=tuple(one for suite in suites for one in suite.measurements),
    )


def records_of(result: BenchResult) -> dict[tuple[str, str], list[Record]]:
    """By suite and cell: three answers and one that was refused."""
    return {
        (suite.name, one.name): [*(_answer(number) for number in range(3)), _refused(3)]
        for suite in result.suites
        for one in suite.cells
    }


def _answer(number: int) -> Record:
    begun = number * 0.5
    return Record(
        number=number,
        workload="question",
        scheduled_s=begun,
        wanted_tokens=2,
        sent_s=begun + 0.001,
        first_token_s=begun + 0.1,
        last_token_s=begun + 0.12,
        end_s=begun + 0.121,
        piece_s=[begun + 0.1, begun + 0.12],
        piece_tokens=[1, 2],
        prompt_tokens=120,
        completion_tokens=2,
        ending=Ending.COMPLETE,
        replica=f"r{number % 3}",
        cache_hit=False,
        simulated=True,
    )


def _refused(number: int) -> Record:
    return Record(
        number=number,
        workload="question",
        scheduled_s=number * 0.5,
        wanted_tokens=2,
        sent_s=number * 0.5 + 0.001,
        end_s=number * 0.5 + 0.003,
        ending=Ending.REFUSED,
        detail='503: "full", come back\nlater',
    )


def _quantile(median: float, sigma: float, share: float) -> float:
    return median * exp(sigma * NormalDist().inv_cdf(share))


def _cdf(median: float, sigma: float) -> tuple[tuple[float, float], ...]:
    return tuple((_quantile(median, sigma, step / 100), step / 100) for step in range(1, 100))


def _moment(second: int, load: float, rate: float, ttft_ms: float, failing: bool) -> Moment:
    filling = min(1.0, second / 12)
    wave = 1 + 0.12 * sin(second * 1.7) + 0.07 * sin(second * 0.31)
    return Moment(
        t_s=float(second),
        in_flight=round(load * 5 * filling * wave),
        requests_per_s=rate * filling * wave,
        output_tokens_per_s=rate * 200 * filling * wave,
        ttft_p50_ms=ttft_ms * filling * wave if second else None,
        failed=int(failing and second % 17 == 5),
    )


def _result(key: str, value: float, unit: str, provenance: str = "simulated") -> Measurement:
    return Measurement.model_validate(
        {
            "key": key,
            "value": value,
            "unit": unit,
            "provenance": provenance,
            "low": round(value * 0.97, 2),
            "high": round(value * 1.03, 2),
            "n": 5,
        }
    )
