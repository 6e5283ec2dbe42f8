"""The UPS for Prometheus: one file, replaced whole, which `dreamseed metrics` reads."""

from __future__ import annotations

import time
from pathlib import Path

from prometheus_client import CollectorRegistry, Gauge, generate_latest

from dreamseed_cli.core.files import write_atomically
from dreamseed_cli.profile.ups import Ups
from dreamseed_cli.ups.journal import make_folder
from dreamseed_cli.ups.policy import Power, Stage, outlook


def metrics(power: Power, now: float, rules: Ups, wall_clock: float) -> bytes:
    """now: monotonic seconds, wall_clock: since the epoch. What the UPS does not tell is left out."""
    registry = CollectorRegistry()

    def gauge(name: str, text: str, value: float | None) -> None:
        if value is not None:
            Gauge(f"dreamseed_ups_{name}", text, registry=registry).set(value)

    seen, left = power.seen, outlook(power, now, rules)
    gauge("looked_timestamp_seconds", "When the watcher last looked.", wall_clock)
    gauge("communication", "Whether the UPS told something at the last look.", power.blind_since is None)
    gauge("on_battery", "Whether the mains have failed, as far as anybody knows.", power.on_battery)
    gauge("time_left_seconds", "How long the battery lasts.", left.time_left_s if left else None)
    if seen is not None:
        charge = seen.charge_percent
        gauge("charge_ratio", "The battery's charge.", None if charge is None else charge / 100)
        gauge("load_watts", "What it delivers.", seen.load_w)
        gauge("replace_battery", "Whether it asks for a new battery.", seen.replace_battery)
        gauge("overload", "Whether it carries more than it can.", seen.overload)
    stage = Gauge("dreamseed_ups_stage", "1 for the stage.", ["stage"], registry=registry)
    for one in Stage:
        stage.labels(one.value).set(one is power.stage)
    return generate_latest(registry)


def write_metrics(path: Path, power: Power, now: float, rules: Ups) -> None:
    """Readable by all: who tells it to Prometheus is not root. Raises OSError."""
    make_folder(path.parent)
    write_atomically(path, metrics(power, now, rules, time.time()), mode=0o644)
