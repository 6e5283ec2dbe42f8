"""The Redis Cluster measured by itself, with a real one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import redis
from free_ports import free_port
from real_services import PASSWORD, RunningCluster
from structlog.testing import capture_logs

from dreamseed_cli.bench.suites import cache_store
from dreamseed_cli.bench.suites.cache_store import measure_store
from dreamseed_cli.core.errors import MissingError
from dreamseed_cli.gateway.cache import store
from dreamseed_cli.gateway.cache.store import PREFIX, AnswerStore
from dreamseed_cli.gateway.settings import ServiceAddresses


def _addresses(nodes: tuple[str, ...], folder: Path) -> ServiceAddresses:
    password = folder / "password"
    password.write_text(PASSWORD)
    return ServiceAddresses(redis_nodes=nodes, redis_password_file=str(password), journal=str(folder))


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine a node may answer later than the gateway would wait: that is not looked at here."""
    init: Any = AnswerStore.__init__
    monkeypatch.setitem(init.__kwdefaults__, "read_s", 10.0)
    monkeypatch.setattr(store, "_WRITE_S", 10.0)


@pytest.mark.usefixtures("patient")
async def test_writes_and_look_ups_are_timed(valkey: RunningCluster, tmp_path: Path) -> None:
    """One and many at a time; each finds what was written, and all of it goes by itself."""
    with capture_logs() as lines:
        table = await measure_store(_addresses(valkey.addresses, tmp_path), 0.3)

    assert {line["log_level"] for line in lines if line["event"] == "redis cluster"} == {"info"}
    assert [(row["operation"], row["at_a_time"], row["failed"]) for row in table.rows] == [
        ("SET", 1, 0),
        ("SET", 32, 0),
        ("GET", 1, 0),
        ("GET", 32, 0),
    ]
    for row in table.rows:
        assert isinstance(row["per_s"], float)
        assert isinstance(row["p50_ms"], float)
        assert row["per_s"] > 0
        assert row["p50_ms"] > 0
    lives = _lives_s(valkey)
    assert len(lives) == 1000
    assert all(0 < life <= 120 for life in lives)


async def test_a_cluster_that_is_not_there_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the remedy, and in bounded time."""
    monkeypatch.setattr(cache_store, "_FIND_S", 0.3)
    port = free_port()

    with pytest.raises(MissingError, match="dreamseed status"):
        await measure_store(_addresses((f"127.0.0.1:{port}",), tmp_path), 0.1)


def _lives_s(cluster: RunningCluster) -> list[int]:
    lives = []
    for running in cluster.nodes:
        client = redis.Redis(port=running.node.port, password=PASSWORD)
        lives += [int(client.ttl(key)) for key in client.scan_iter(f"{PREFIX}bench-*")]
        client.close()
    return lives
