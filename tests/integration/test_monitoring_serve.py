"""`dreamseed metrics`: printed once, offered over HTTP, and what the fallback has cost."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import gateway_harness
import psycopg
import pytest
from free_ports import free_port

from dreamseed_cli.core.paths import StateDir
from dreamseed_cli.database.migrate import migrate
from dreamseed_cli.gateway.settings import ServiceAddresses
from dreamseed_cli.monitoring.money import fallback_metrics

_BOUND_S = 120.0
METRICS = (sys.executable, "-m", "dreamseed_cli", "metrics")


def _got(port: int) -> str:
    end = time.monotonic() + _BOUND_S
    while True:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
                return str(answer.read().decode())
        except OSError:
            assert time.monotonic() < end
            time.sleep(0.1)


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_they_are_offered_until_the_process_is_told_to_end(signum: signal.Signals, code: int) -> None:
    """Also while no stack runs: its parts are told as down, the disk is told all the same."""
    port = free_port()
    with subprocess.Popen([*METRICS, "--listen", str(port)], stderr=subprocess.PIPE, text=True) as process:
        for _ in range(2):
            text = _got(port)
            assert 'dreamseed_collector_up{part="stack"} 0.0' in text
            assert 'dreamseed_collector_up{part="disk"} 1.0' in text
            assert "dreamseed_disk_free_bytes" in text
        second = subprocess.run(
            [*METRICS, "--listen", str(port)], capture_output=True, text=True, check=False
        )
        assert (second.returncode, "--listen" in second.stderr) == (2, True)
        process.send_signal(signum)
        assert process.wait(_BOUND_S) == code
        assert process.stderr is not None
        # Why a part cannot be asked is logged when it begins, not at every scrape.
        assert process.stderr.read().count('"part": "stack"') == 1


@pytest.fixture
def state(tmp_path: Path, postgres_dsn: str) -> StateDir:
    """What a stack with PostgreSQL left."""
    migrate(postgres_dsn)
    services = ServiceAddresses(journal=str(tmp_path), postgres_dsn=postgres_dsn)
    settings = gateway_harness.settings(tmp_path).model_copy(update={"services": services})
    (tmp_path / "gateway.json").write_text(settings.model_dump_json())
    return StateDir(tmp_path)


def test_what_the_fallback_has_cost_this_month_is_told(state: StateDir, postgres_dsn: str) -> None:
    """A lease that nobody accounted for counts whole; last month's do not count."""
    assert b"dreamseed_fallback_committed_usd 0.0" in fallback_metrics(state)
    with psycopg.connect(postgres_dsn) as connection:
        connection.execute(
            "INSERT INTO fallback_leases (id, month, holder, granted_usd, spent_usd) VALUES"
            " (gen_random_uuid(), date_trunc('month', now() AT TIME ZONE 'UTC'), 'a', 0.5, 0.2),"
            " (gen_random_uuid(), date_trunc('month', now() AT TIME ZONE 'UTC'), 'b', 0.5, NULL),"
            " (gen_random_uuid(), date_trunc('month', now() AT TIME ZONE 'UTC') "
            "- interval '1 month', 'a', 9, 9)"
        )
    assert b"dreamseed_fallback_committed_usd 0.7" in fallback_metrics(state)


def test_without_postgresql_nothing_is_told_of_it(tmp_path: Path) -> None:
    """Neither before a stack was there."""
    assert fallback_metrics(StateDir(tmp_path)) == b""
