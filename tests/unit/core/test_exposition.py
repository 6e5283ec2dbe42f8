"""Metrics in Prometheus's text format."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge

from dreamseed_cli.core.exposition import exposition


def test_who_names_metrics_gets_those_alone() -> None:
    """With every label; what nobody knows is left out."""
    registry = CollectorRegistry()
    waiting = Gauge("waiting", "In the queue", ["queue"], registry=registry)
    for queue in ("a", "b"):
        waiting.labels(queue).set(2)
    Counter("done", "Done", registry=registry).inc()
    assert "done_total 1.0" in exposition(registry).decode()
    some = exposition(registry, ["waiting", "unknown"]).decode()
    lines = [line for line in some.splitlines() if not line.startswith("#")]
    assert lines == ['waiting{queue="a"} 2.0', 'waiting{queue="b"} 2.0']
