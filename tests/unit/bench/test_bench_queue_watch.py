"""What a gateway's or a front's metrics tell of the requests they have."""

from __future__ import annotations

from pathlib import Path

from prometheus_client import generate_latest

from dreamseed_cli.api.metrics import ApiMetrics
from dreamseed_cli.bench.queue_watch import QueueWatch, requests_in
from dreamseed_cli.engine.types import Endpoint
from dreamseed_cli.gateway.metrics import GatewayMetrics


def test_those_that_wait_count_with_those_under_way() -> None:
    """Of every class and every replica, by the gateway's own names."""
    metrics = GatewayMetrics()
    metrics.queue_length.labels("standard").set(5)
    metrics.queue_length.labels("premium").set(2)
    metrics.set_replicas([{"name": f"r{n}", "ready": True, "outstanding": 4} for n in range(3)])
    assert requests_in(generate_latest(metrics.registry).decode()) == 5 + 2 + 12


def test_a_fronts_are_in_flight() -> None:
    """By the front's own name."""
    metrics = ApiMetrics()
    metrics.in_flight.inc(7)
    assert requests_in(generate_latest(metrics.registry).decode()) == 7


def test_somebody_elses_metrics_tell_nothing() -> None:
    """No number is not zero: streams would count as never seen."""
    assert requests_in("vllm:num_requests_running 5\n") is None
    assert requests_in("") is None


async def test_a_door_that_is_not_there_tells_nothing(tmp_path: Path) -> None:
    """And raises nothing."""
    watch = QueueWatch(Endpoint(socket=tmp_path / "none.sock"), every_s=0.001)
    await watch.start()
    assert await watch.stop() is None
