"""Shared fixtures: nothing a test starts outlives it, and no test touches the user's own state."""

from __future__ import annotations

import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import real_services

# Whoever runs the tests in the background may have SIGINT ignored, which every child would inherit: a
# command could then not be ended with Ctrl-C, which is what some tests do.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_make_parametrize_id(val: object) -> str | None:
    """A token made for this run is no name for a test: the two processes would not agree on it."""
    made = (isinstance(val, str) and "dss_" in val) or (isinstance(val, bytes) and b"dss_" in val)
    return "a-token" if made else None


@pytest.fixture(autouse=True)
def _own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test has its own state folder; the cache (the prepared model) is shared."""
    monkeypatch.setenv("DREAMSEED_STATE_DIR", str(tmp_path / "state"))


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[real_services.RunningPostgres]:
    """One PostgreSQL for all tests that leave it running; those that break it start their own."""
    with (
        tempfile.TemporaryDirectory(prefix="ds-pg-") as folder,
        real_services.postgres(Path(folder)) as server,
    ):
        yield server


@pytest.fixture
def postgres_dsn(postgres_server: real_services.RunningPostgres) -> str:
    """A database of the test's own, empty."""
    return postgres_server.new_database()


@pytest.fixture(scope="session")
def valkey_server() -> Iterator[real_services.RunningCluster]:
    """One Valkey cluster of three nodes for all tests that leave it running."""
    with (
        tempfile.TemporaryDirectory(prefix="ds-vk-") as folder,
        real_services.valkey_cluster(Path(folder)) as cluster,
    ):
        yield cluster


@pytest.fixture
def valkey(valkey_server: real_services.RunningCluster) -> real_services.RunningCluster:
    """The shared cluster, empty."""
    valkey_server.flush()
    return valkey_server


@pytest.fixture
def kafka() -> Iterator[real_services.MockKafka]:
    """Three brokers of the test's own."""
    cluster = real_services.MockKafka()
    yield cluster
    cluster.close()
