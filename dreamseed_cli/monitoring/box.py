"""What can be told without a running stack: the disk, and how long certificates last."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from prometheus_client import CollectorRegistry, Gauge, generate_latest

from dreamseed_cli.core.paths import nearest
from dreamseed_cli.drill.record import DrillRecord
from dreamseed_cli.gateway.security.expiry import Entry


def disk_metrics(place: Path) -> bytes:
    """The file system that the state folder lies on."""
    registry = CollectorRegistry()
    usage = shutil.disk_usage(nearest(place))
    for name, value in (("size", usage.total), ("free", usage.free)):
        Gauge(f"dreamseed_disk_{name}_bytes", "Of the state folder's disk", registry=registry).set(value)
    return generate_latest(registry)


def certificate_metrics(entries: Sequence[Entry]) -> bytes:
    """When each ends, by its path. One that cannot be read is told as broken, since it lets nobody in."""
    registry = CollectorRegistry()
    expiry = Gauge(
        "dreamseed_certificate_expiry_timestamp_seconds", "When it ends", ["file", "kind"], registry=registry
    )
    alarming = Gauge(
        "dreamseed_certificate_alarming", "Due, expired or broken", ["file", "condition"], registry=registry
    )
    for one in entries:
        file = str(one.file)
        if one.not_after is not None:
            expiry.labels(file, one.kind).set(one.not_after.timestamp())
        alarming.labels(file, one.condition.value).set(one.condition.alarming)
    return generate_latest(registry)


def left_metrics(path: Path) -> bytes:
    """What a short run or a watcher left in this file, whole in the exposition format; nothing before it did.

    OSError if it is there and cannot be read.
    """
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""


def drill_metrics(records: Sequence[DrillRecord]) -> bytes:
    """How each scenario's newest drill went. records: oldest first."""
    registry = CollectorRegistry()

    def gauge(name: str, text: str) -> Gauge:
        return Gauge(f"dreamseed_drill_{name}", text, ["scenario"], registry=registry)

    success = gauge("last_success_timestamp_seconds", "When one last passed")
    passed = gauge("passed", "Whether the newest passed")
    rpo, rto = gauge("rpo_seconds", "What it measured"), gauge("rto_seconds", "What it measured")
    for one in records:
        passed.labels(one.scenario).set(one.passed)
        if one.passed:
            success.labels(one.scenario).set(one.ended.timestamp())
        for figure, value in ((rpo, one.rpo_s), (rto, one.rto_s)):
            if value is not None:
                figure.labels(one.scenario).set(value)
    return generate_latest(registry)
