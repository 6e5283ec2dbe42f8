"""Which services a profile means: processes, addresses, and what is said about the rest."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest
from psycopg.conninfo import conninfo_to_dict

from dreamseed_cli.core.paths import StateDir
from dreamseed_cli.profile.load import load_profile
from dreamseed_cli.profile.schema import Profile, Services
from dreamseed_cli.supervisor.service_plan import ServicesPlan, plan_services, valkey_ports_needed
from dreamseed_cli.supervisor.stack import plan_stack

_STATE = StateDir(Path("/state"))
_OFF: dict[str, Any] = {name: {"mode": "off"} for name in ("postgres", "redis", "kafka")}
_BROKERS = {"mode": "external", "brokers": ["k1:9092", "k2:9092"], "topic": "t"}


def _profile(**services: Any) -> Profile:
    made = Services.model_validate({**_OFF, **services}, strict=False)
    return load_profile("emulated-rtx5090x3").model_copy(update={"services": made})


def _plan(**services: Any) -> ServicesPlan:
    profile = _profile(**services)
    ports = range(9000, 9000 + valkey_ports_needed(profile.services))
    return plan_services(profile, _STATE, valkey_ports=ports)


def test_off_starts_nothing_and_says_what_is_lost() -> None:
    """No process, no address; the journal is still where it is."""
    plan = _plan()
    assert plan.watched == ()
    assert plan.addresses.postgres_dsn is plan.addresses.postgres_dsn_env is None
    assert (plan.addresses.redis_nodes, plan.addresses.keep_events) == ((), False)
    assert plan.addresses.journal == "/state/journal"
    said = {standing.name: standing.means for standing in plan.standings}
    assert "every user_id has the limits of 'free'" in said["postgres"]
    assert "every request is generated" in said["redis"]
    assert "no events are kept" in said["kafka"]


def test_embedded_services_are_children_and_addresses() -> None:
    """PostgreSQL on a socket, three nodes on loopback with a password file; neither has a secret in argv."""
    plan = _plan(postgres={}, redis={}, kafka={})
    assert [service.name for service in plan.watched] == ["postgres", "valkey-0", "valkey-1", "valkey-2"]
    assert conninfo_to_dict(plan.addresses.postgres_dsn or "")["host"] == "/state/run"
    assert plan.addresses.redis_nodes == tuple(f"127.0.0.1:{9000 + index}" for index in range(3))
    assert plan.addresses.redis_password_file == "/state/valkey/password"
    assert [node.bus_port for node in plan.valkey] == [9003, 9004, 9005]
    assert len({node.folder for node in plan.valkey}) == 3


def test_postgresql_is_asked_to_end_with_sigint() -> None:
    """SIGTERM would wait for every client to leave."""
    signals = {s.name: s.spec.stop_signal for s in _plan(postgres={}, redis={}).watched if s.spec}
    assert signals.pop("postgres") is signal.SIGINT
    assert set(signals.values()) == {signal.SIGTERM}


def test_embedded_kafka_is_the_outbox() -> None:
    """Said plainly, with how to read it; events are kept and nothing relays them."""
    plan = _plan(postgres={}, kafka={})
    (standing,) = [standing for standing in plan.standings if standing.name == "kafka"]
    assert standing.state == "outbox"
    assert "dreamseed events tail" in standing.means
    assert plan.addresses.keep_events
    assert plan.addresses.keep_requests_days == 90
    assert not plan.addresses.events_relayed


def test_embedded_kafka_without_postgresql_keeps_nothing() -> None:
    """It would be in PostgreSQL."""
    (standing,) = [standing for standing in _plan(kafka={}).standings if standing.name == "kafka"]
    assert standing.state == "off"
    assert "no events are kept" in standing.means


def test_external_services_are_named_and_not_started() -> None:
    """Connection string and password stay in their variables."""
    plan = _plan(
        postgres={"mode": "external", "dsn_env": "MY_DSN"},
        redis={"mode": "external", "nodes": ["a:1", "b:2"], "password_env": "MY_PW", "tls": True},
    )
    assert {service.name: service.spec for service in plan.watched} == {"postgres": None, "redis": None}
    addresses = plan.addresses
    assert (addresses.postgres_dsn, addresses.postgres_dsn_env) == (None, "MY_DSN")
    assert (addresses.redis_nodes, addresses.redis_password_env, addresses.redis_tls) == (
        ("a:1", "b:2"),
        "MY_PW",
        True,
    )
    assert addresses.redis_password_file is None


@pytest.mark.parametrize("postgres", [{}, {"mode": "external", "dsn_env": "MY_DSN"}])
def test_external_kafka_gets_a_relay(postgres: dict[str, str]) -> None:
    """A process with its settings in a file: where the outbox is, and which brokers."""
    plan = _plan(postgres=postgres, kafka=_BROKERS)
    (relay,) = [service for service in plan.watched if service.name == "relay"]
    assert relay.spec
    assert "/state/relay.json" in relay.spec.command.argv
    settings = json.loads(plan.files[Path("/state/relay.json")])
    assert settings["kafka"]["brokers"] == ["k1:9092", "k2:9092"]
    assert settings["postgres_dsn"] == plan.addresses.postgres_dsn
    assert settings["postgres_dsn_env"] == plan.addresses.postgres_dsn_env
    assert plan.addresses.events_relayed


def test_without_postgresql_there_is_nothing_to_relay() -> None:
    """Preflight refuses it; the plan holds no relay either."""
    assert _plan(kafka=_BROKERS).watched == ()


def test_the_gateway_is_told_and_the_stop_is_bounded() -> None:
    """The stack's plan carries the services' addresses, files, and time to stop."""
    profile = _profile(postgres={}, kafka=_BROKERS)
    plan = plan_stack(profile, _STATE, model_revision="rev")
    assert plan.gateway_settings.services == plan.services.addresses
    assert plan.gateway_settings.model_revision == "rev"
    assert Path("/state/relay.json") in plan.files
    without = plan_stack(_profile(), _STATE)
    longest = sum(service.spec.grace_s for service in plan.services.watched if service.spec)
    assert plan.stop_bound_s == without.stop_bound_s + longest


def test_places_are_what_the_engine_decodes_at_a_time() -> None:
    """The gateway gives an engine no more than it works on at once."""
    plan = plan_stack(_profile(), _STATE)
    assert [target.places for target in plan.gateway_settings.replicas] == [128] * 3


def test_an_unknown_users_tier_is_told_in_words() -> None:
    """`refuse` is another sentence than a tier."""
    profile = _profile()
    accounts = profile.gateway.accounts.model_copy(update={"unknown_user_tier": "refuse"})
    gateway = profile.gateway.model_copy(update={"accounts": accounts})
    plan = plan_services(profile.model_copy(update={"gateway": gateway}), _STATE)
    assert "every user_id is refused" in plan.standings[0].means
