"""What can be measured here: every key of a result, its unit, the command that gives it and the module that
writes it. A figure whose key stands nowhere here must say what measuring it would take (`needs`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase


@dataclass(frozen=True, slots=True)
class Instrument:
    """One way to results. units: by key; `*` in a key stands for the id of a figure."""

    command: str
    """What to run."""
    module: str
    """What writes the keys."""
    units: Mapping[str, str]


INSTRUMENTS = (
    Instrument(
        "dreamseed bench --suite engine",
        "dreamseed_cli.bench.suites.engine",
        {
            "throughput-7b-tok-s": "tok/s",
            "throughput-13b-tok-s": "tok/s",
            "throughput-70b-tok-s": "tok/s",
            "throughput-mix-tok-s": "tok/s",
            "farm-tok-s": "tok/s",
        },
    ),
    Instrument(
        "dreamseed bench --suite capacity",
        "dreamseed_cli.bench.suites.capacity",
        {
            "farm-answers-per-s": "requests/s",
            "concurrent-generations": "users",
            "ai-concurrency-percent": "%",
        },
    ),
    Instrument(
        "dreamseed bench --suite batching",
        "dreamseed_cli.bench.suites.batching",
        {"single-stream-7b-tok-s": "tok/s", "batch-8-7b-tok-s": "tok/s", "batch-8-speedup": "times"},
    ),
    Instrument(
        "dreamseed bench --suite cache",
        "dreamseed_cli.bench.suites.cache",
        {
            "cache-hit-questions-percent": "%",
            "cache-hit-feedback-percent": "%",
            "cache-hit-recommendations-percent": "%",
        },
    ),
    Instrument(
        "dreamseed bench --suite db",
        "dreamseed_cli.bench.pgbench.figures",
        {
            "postgres-read-tps": "TPS",
            "postgres-write-tps": "TPS",
            "postgres-p95-ms": "ms",
            "postgres-connections": "connections",
        },
    ),
    Instrument("dreamseed bench --suite api", "dreamseed_cli.bench.suites.api", {"load-test-users": "users"}),
    Instrument(
        "dreamseed bench --suite load", "dreamseed_cli.bench.suites.load", {"concurrent-users": "users"}
    ),
    Instrument(
        "dreamseed drill lost-host, then dreamseed drill show --out DIR",
        "dreamseed_cli.drill.figures",
        {"rpo-min": "min", "rto-min": "min"},
    ),
    Instrument("benchmarks/backup_soak.py", "benchmarks.backup_soak", {"rpo-min": "min"}),
    Instrument(
        "dreamseed cost-sim --users 1000000 --sweep users=1e3..1e6 --out DIR",
        "dreamseed_cli.costsim.report.record",
        {
            "goal-month-usd": "USD/month",
            "hybrid-month-usd": "USD/month",
            "full-cloud-month-usd": "USD/month",
            "on-premises-month-usd": "USD/month",
            "month-*-usd": "USD/month",
            "hybrid-availability-percent": "%",
            "full-cloud-availability-percent": "%",
            "on-premises-availability-percent": "%",
            "concurrent-users": "users",
        },
    ),
)


def instruments_of(key: str) -> tuple[Instrument, ...]:
    """Those that write results with this key; empty: none does."""
    return tuple(one for one in INSTRUMENTS if unit_of(one, key) is not None)


def unit_of(one: Instrument, key: str) -> str | None:
    """The unit in which an instrument writes a key; None: it does not."""
    return next((unit for name, unit in one.units.items() if fnmatchcase(key, name)), None)


def every_key() -> tuple[str, ...]:
    """All keys, for people."""
    return tuple(sorted({key for one in INSTRUMENTS for key in one.units}))
