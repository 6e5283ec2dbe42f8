"""`dreamseed serve` with the services of its profile: embedded, external, off; and each of them failing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest
import redis
import redis.cluster
from real_services import MockKafka

from dreamseed_cli.core.paths import StateDir
from dreamseed_cli.database.migrate import migrate, schema_state
from dreamseed_cli.supervisor.service_plan import embedded_postgres
from dreamseed_cli.supervisor.snapshot import ServiceSnapshot
from dreamseed_cli.supervisor.state import read_children

if TYPE_CHECKING:
    from tests.e2e.conftest import Stack

    ServeProfile = Callable[[str], AbstractContextManager[Stack]]

_BOUND_S = 180.0
_SMALL = """
name = "with-services"
description = "one small emulated engine"
[engine]
kind = "emulated"
served_name = "test-model"
max_model_len = 1000
shutdown_timeout_s = 1
[engine.card]
source = "made up for this test"
prefill_tokens_per_s = 100000.0
decode_step_ms = 2.0
decode_step_ms_per_seq = 0.01
kv_cache_tokens = 5000
[gateway]
port = 0
drain_timeout_s = 2.0
"""


_EXTERNAL = """
[services.postgres]
mode = "external"
dsn_env = "MY_DATABASE"
[services.redis]
mode = "off"
"""
_RELAYED = """
[services.redis]
mode = "off"
[services.kafka]
mode = "external"
brokers = [{brokers}]
"""
SERVICES_OFF = """
[services.postgres]
mode = "off"
[services.redis]
mode = "off"
"""
DREAMSEED = (sys.executable, "-m", "dreamseed_cli")


def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _BOUND_S
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true"
        time.sleep(0.1)


def _services(stack: Stack) -> dict[str, ServiceSnapshot]:
    now = stack.snapshot()
    assert now is not None
    return {service.name: service for service in now.services}


def _dsn(state_dir: Path) -> str:
    return embedded_postgres(StateDir(state_dir)).dsn()


def _pid(stack: Stack, service: str) -> int:
    pid = _services(stack)[service].pid
    assert pid
    return pid


def _kill(stack: Stack, service: str, signum: signal.Signals) -> None:
    os.kill(_pid(stack, service), signum)


def _is_back(stack: Stack, name: str, than: int | None) -> bool:
    service = _services(stack)[name]
    return service.state == "ready" and service.pid not in {None, than}


def _answers(stack: Stack) -> bool:
    return bool(stack.json("ask", "Hello?", "--max-tokens", "5", "--no-stream")["tokens"] == 5)


def test_everything_embedded_is_there(full_stack: Stack) -> None:
    """PostgreSQL with its schema, three Valkey nodes that are one cluster, and what Kafka is here."""
    services = _services(full_stack)
    assert [(name, service.state) for name, service in services.items()] == [
        ("postgres", "ready"),
        ("valkey-0", "ready"),
        ("valkey-1", "ready"),
        ("valkey-2", "ready"),
        ("kafka", "outbox"),
    ]
    assert schema_state(_dsn(full_stack.state_dir)).up_to_date
    shown = " ".join(full_stack.run("status").stdout.split())
    assert "events stay in PostgreSQL's outbox" in shown
    log = full_stack.run("logs", "supervisor", "--lines", "200").stdout
    assert "dreamseed events tail" in log


def test_the_password_is_in_no_command_and_no_log(full_stack: Stack) -> None:
    """It is in a file of its owner, and in the nodes' own configuration."""
    password = (full_stack.state_dir / "valkey" / "password").read_text().strip()
    host, port = _services(full_stack)["valkey-0"].endpoint.split(":")
    with redis.cluster.RedisCluster(host=host, port=int(port), password=password) as client:
        assert client.set("key", "value")
    for service in _services(full_stack).values():
        if service.pid:
            assert password not in Path(f"/proc/{service.pid}/cmdline").read_text()
    for file in (full_stack.state_dir / "logs").iterdir():
        assert password not in file.read_text(errors="replace")
    assert password not in (full_stack.state_dir / "gateway.json").read_text()


def test_killed_services_come_back_and_generation_goes_on(full_stack: Stack) -> None:
    """PostgreSQL and a Valkey node, kill -9 at once; status says what is missing meanwhile."""
    before = {name: service.pid for name, service in _services(full_stack).items()}
    for name in ("postgres", "valkey-1"):
        _kill(full_stack, name, signal.SIGKILL)
    _until(lambda: any("killed by signal 9" in service.detail for service in _services(full_stack).values()))
    assert _answers(full_stack)
    _until(lambda: all(_is_back(full_stack, name, before[name]) for name in ("postgres", "valkey-1")))
    after = _services(full_stack)
    assert [after[name].pid == before[name] for name in ("valkey-0", "valkey-2")] == [True, True]
    assert after["postgres"].restarts >= 1
    assert schema_state(_dsn(full_stack.state_dir)).up_to_date


def test_a_paused_service_is_replaced(full_stack: Stack) -> None:
    """SIGSTOP: it lives and answers nobody. It is killed and started anew."""
    before = {name: service.pid for name, service in _services(full_stack).items()}
    for name in ("postgres", "valkey-2"):
        _kill(full_stack, name, signal.SIGSTOP)
    assert _answers(full_stack)
    _until(lambda: all(_is_back(full_stack, name, before[name]) for name in ("postgres", "valkey-2")))


def test_a_killed_serve_is_taken_over_and_loses_nothing(serve_profile: ServeProfile) -> None:
    """kill -9 of the supervisor, then of PostgreSQL: the next serve goes on with the gateway and the engine,
    starts the services anew, and the row is there.
    """
    with serve_profile(_SMALL) as first:
        with psycopg.connect(_dsn(first.state_dir)) as connection:
            connection.execute("INSERT INTO users (id, tier) VALUES ('before', 'paid')")
        postgres = _pid(first, "postgres")
        first.kill()
        os.kill(postgres, signal.SIGKILL)
        before = {child.name: child.leader for child in read_children(StateDir(first.state_dir))}
        with serve_profile(_SMALL) as second:
            now = {child.name: child.leader for child in read_children(StateDir(second.state_dir))}
            kept = {name for name, leader in before.items() if now[name] == leader}
            assert kept == {"gateway", "r0"}
            assert not any(leader.alive() for name, leader in before.items() if name not in kept)
            notes = second.json("status")["notes"]
            assert "Adopted" in notes[0]
            assert "killed run" in notes[1]
            with psycopg.connect(_dsn(second.state_dir)) as connection:
                assert connection.execute("SELECT id FROM users").fetchall() == [("before",)]
            assert _answers(second)
            own = {member for child in read_children(StateDir(second.state_dir)) for member in child.members}
        assert not any(member.alive() for member in own)


def test_all_off(serve_profile: ServeProfile) -> None:
    """Generation alone; status says what is lost."""
    with serve_profile(_SMALL + SERVICES_OFF) as stack:
        assert {service.state for service in _services(stack).values()} == {"off"}
        shown = " ".join(stack.run("status").stdout.split())
        for words in ("no accounts", "every request is generated", "no events are kept"):
            assert words in shown
        assert _answers(stack)
        assert not (stack.state_dir / "postgres").exists()


def test_an_external_database(
    serve_profile: ServeProfile, postgres_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its schema is not touched: status says what to run. Then it is ready."""
    monkeypatch.setenv("MY_DATABASE", postgres_dsn)
    migrate(postgres_dsn)
    with serve_profile(_SMALL + _EXTERNAL) as stack:
        assert _services(stack)["postgres"].state == "ready"
        assert _services(stack)["postgres"].pid is None
        assert not (stack.state_dir / "postgres").exists()
        with psycopg.connect(postgres_dsn) as connection:
            connection.execute("UPDATE alembic_version SET version_num = '0001'")
        _until(lambda: "dreamseed db migrate" in " ".join(stack.run("status").stdout.split()))
        assert _answers(stack)


def test_external_brokers_get_a_relay_that_is_kept_running(
    serve_profile: ServeProfile, kafka: MockKafka
) -> None:
    """What stands in the outbox is published, by a second relay when the first one was killed."""
    brokers = ", ".join(f'"{broker}"' for broker in kafka.brokers.split(","))
    with serve_profile(_SMALL + _RELAYED.format(brokers=brokers)) as stack:
        relay = _services(stack)["relay"]
        assert (relay.state, relay.mode) == ("ready", "external")
        _kill(stack, "relay", signal.SIGKILL)
        with psycopg.connect(_dsn(stack.state_dir), autocommit=True) as connection:
            connection.execute("INSERT INTO outbox (event_id, key, payload) VALUES ('e1', 'u', '{}')")
            waiting = "SELECT count(*) FROM outbox WHERE event_id = 'e1' AND published_at IS NULL"
            _until(lambda: connection.execute(waiting).fetchone() == (0,))
        _until(lambda: _is_back(stack, "relay", relay.pid))


def test_what_is_configured_and_missing_is_told_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit code 3 with the remedy; no state is left."""
    monkeypatch.delenv("MY_DATABASE", raising=False)
    profile = tmp_path / "profile.toml"
    profile.write_text(_SMALL + _EXTERNAL)
    done = subprocess.run(
        [*DREAMSEED, "serve", "--profile", str(profile), "--state-dir", str(tmp_path / "s")],
        capture_output=True,
        text=True,
        timeout=_BOUND_S,
        check=False,
    )
    assert done.returncode == 3
    assert "MY_DATABASE" in done.stderr
    assert read_children(StateDir(tmp_path / "s")) == ()
