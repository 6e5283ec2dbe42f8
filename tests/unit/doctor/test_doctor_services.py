"""What `dreamseed doctor` says of services elsewhere, while no stack runs; on real servers."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import psycopg
import pytest
import real_services
from doctor_findings import levels_of, with_parts
from free_ports import free_port

from dreamseed_cli.core.paths import StateDir
from dreamseed_cli.doctor import database, services
from dreamseed_cli.doctor.finding import Finding
from dreamseed_cli.profile.schema import Profile


@pytest.fixture
def state(tmp_path: Path) -> StateDir:
    """Where nothing runs."""
    return StateDir(tmp_path)


def _redis(nodes: Iterable[str], **more: Any) -> Profile:
    return with_parts(services={"redis": {"mode": "external", "nodes": tuple(nodes), **more}})


def _kafka(brokers: str, **more: Any) -> Profile:
    return with_parts(services={"kafka": {"mode": "external", "brokers": tuple(brokers.split(",")), **more}})


def test_a_cluster_that_serves_is_well(
    valkey: real_services.RunningCluster, state: StateDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Asked with the password that the profile names; without it, it is not asked."""
    profile = _redis(valkey.addresses, password_env="DS_DOCTOR_REDIS")
    assert levels_of(services.redis(profile, state)) == {"Redis Cluster": "off"}
    monkeypatch.setenv("DS_DOCTOR_REDIS", real_services.PASSWORD)
    assert levels_of(services.redis(profile, state)) == {"Redis Cluster": "ok"}
    monkeypatch.setenv("DS_DOCTOR_REDIS", "wrong")
    assert levels_of(services.redis(profile, state)) == {"Redis Cluster": "problem"}


def test_a_cluster_that_does_not_answer_is_a_problem(state: StateDir) -> None:
    """In a second, not in a minute."""
    port = free_port()
    (found,) = services.redis(_redis([f"127.0.0.1:{port}"]), state)
    assert (found.level.value, "no answer" in found.said) == ("problem", True)


def test_brokers_are_asked_for_the_topic(kafka: real_services.MockKafka, state: StateDir) -> None:
    """One that is not there may be made by the first event, or not."""
    kafka.create_topic("there")
    assert levels_of(services.brokers(_kafka(kafka.brokers, topic="there"), state)) == {"brokers": "ok"}
    assert levels_of(services.brokers(_kafka(kafka.brokers, topic="not"), state)) == {"brokers": "warning"}


def test_brokers_that_do_not_answer_are_a_problem(state: StateDir, monkeypatch: pytest.MonkeyPatch) -> None:
    """Events wait meanwhile."""
    monkeypatch.setattr(services, "_BROKERS_WITHIN_S", 0.3)
    port = free_port()
    (found,) = services.brokers(_kafka(f"127.0.0.1:{port}"), state)
    assert (found.level.value, "wait in PostgreSQL" in found.remedy) == ("problem", True)
    sasl = {"security_protocol": "sasl_ssl", "username_env": "DS_NO_USER", "password_env": "DS_NO_PASSWORD"}
    assert levels_of(services.brokers(_kafka("127.0.0.1:1", **sasl), state)) == {"brokers": "off"}


@pytest.mark.parametrize("look", [services.redis, services.brokers])
def test_a_running_stack_tells_of_them_itself(
    look: Any, state: StateDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So they are not asked twice; and embedded ones do not run without it."""
    assert not list(look(with_parts(), state))
    monkeypatch.setattr(services, "require_running", lambda _: None)
    profile = with_parts(
        services={
            "redis": {"mode": "external", "nodes": ("127.0.0.1:1",)},
            "kafka": {"mode": "external", "brokers": ("127.0.0.1:1",)},
        }
    )
    assert not list(look(profile, state))


@pytest.fixture
def external(monkeypatch: pytest.MonkeyPatch, postgres_dsn: str) -> Profile:
    """A profile with a real PostgreSQL of its own."""
    monkeypatch.setenv("DS_DOCTOR_DSN", postgres_dsn)
    return with_parts(services={"postgres": {"mode": "external", "dsn_env": "DS_DOCTOR_DSN"}})


def _settings(found: Iterable[Finding]) -> Finding:
    return next(one for one in found if one.name == "PostgreSQL settings")


def test_the_databases_connections_are_told(
    external: Profile, state: StateDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Few left is a warning."""
    assert levels_of(database.database(external, state))["PostgreSQL"] == "ok"
    monkeypatch.setattr(database, "_FEW_CONNECTIONS", 1000)
    assert levels_of(database.database(external, state))["PostgreSQL"] == "warning"


def test_settings_that_are_not_what_the_box_gives_are_counted(
    external: Profile, state: StateDir, postgres_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the command that names them. The embedded server is small on purpose."""
    found = _settings(database.database(external, state))
    assert (found.level.value, "dreamseed db tune" in found.remedy) == ("warning", True)
    assert int(found.said.split()[0]) > 3
    monkeypatch.setattr(database, "_dsn", lambda *_: postgres_dsn)
    note = _settings(database.database(with_parts(), state))
    assert (note.level.value, "dreamseed db tune" in note.said) == ("ok", True)
    monkeypatch.setattr(database, "differences", lambda *_: ())
    assert _settings(database.database(external, state)).said == "as this box gives them"


def test_settings_of_another_machines_server_are_not_compared(
    external: Profile, state: StateDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its memory cannot be told from here."""
    monkeypatch.setattr(database, "is_here", lambda _: False)
    assert _settings(database.database(external, state)).level.value == "off"


def test_a_user_who_may_not_read_settings_hides_nothing_else(
    external: Profile, state: StateDir, postgres_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An ordinary one may not read where the data lie."""
    with psycopg.connect(postgres_dsn, autocommit=True) as connection:
        connection.execute("DROP ROLE IF EXISTS ds_doctor_plain")
        connection.execute("CREATE ROLE ds_doctor_plain LOGIN")
    try:
        monkeypatch.setenv(
            "DS_DOCTOR_DSN", psycopg.conninfo.make_conninfo(postgres_dsn, user="ds_doctor_plain")
        )
        found = levels_of(database.database(external, state))
    finally:
        with psycopg.connect(postgres_dsn, autocommit=True) as connection:
            connection.execute("DROP ROLE ds_doctor_plain")
    assert found == {"PostgreSQL": "ok", "PostgreSQL settings": "off"}
