"""What is said before anything starts, if a configured service cannot be had here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dreamseed_cli.core.errors import DreamseedError, MissingError, UsageError
from dreamseed_cli.profile.schema import Services
from dreamseed_cli.services.preflight import service_needs

_OFF = {"postgres": {"mode": "off"}, "redis": {"mode": "off"}}
_RUN = Path("/s/run")


def _needs(services: dict[str, Any], socket_dir: Path = _RUN) -> list[DreamseedError]:
    return list(service_needs(Services.model_validate({**_OFF, **services}, strict=False), socket_dir))


def test_the_embedded_services_can_be_had_here() -> None:
    """The packages are installed, and PostgreSQL runs as whoever runs this."""
    assert _needs({"postgres": {}, "redis": {}}) == []


def test_what_is_off_needs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """No package is looked for."""
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    assert _needs({}) == []


def test_missing_packages_are_told_each(monkeypatch: pytest.MonkeyPatch) -> None:
    """PostgreSQL and Valkey are two packages."""
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    found = _needs({"postgres": {}, "redis": {}})
    assert [error.place for error in found] == ["services.postgres", "services.redis"]
    assert all(isinstance(error, MissingError) for error in found)


@pytest.mark.parametrize("uid", [0, 1000])
def test_a_machine_where_postgresql_does_not_run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, uid: int
) -> None:
    """Root without user namespaces gets that as the cause, others what the program said; both a way out."""
    for name in ("unshare", "postgres"):
        program = tmp_path / name
        program.write_text("#!/bin/sh\necho 'Operation not permitted' >&2; exit 1\n")
        program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setattr("dreamseed_cli.services.postgres.program", lambda name: tmp_path / name)
    monkeypatch.setattr("os.geteuid", lambda: uid)
    (error,) = _needs({"postgres": {}})
    assert "Operation not permitted" in error.cause
    assert ("user namespace" in error.cause) is (uid == 0)
    assert ("ordinary user" in error.remedy) is (uid == 0)
    assert "'external' or 'off'" in error.remedy


def test_a_comma_in_the_state_folder() -> None:
    """libpq would take it for two hosts; only where a socket is used."""
    (error,) = _needs({"postgres": {}}, Path("/a,b/run"))
    assert isinstance(error, UsageError)
    assert "--state-dir" in error.remedy
    assert _needs({}, Path("/a,b/run")) == []


def test_kafka_without_the_outbox() -> None:
    """Events take their way through PostgreSQL."""
    (error,) = _needs({"kafka": {"mode": "external", "brokers": ["a:1"]}})
    assert error.place == "services.kafka.mode"


def test_secrets_that_are_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each variable is named."""
    services = {
        "postgres": {"mode": "external"},
        "redis": {"mode": "external", "nodes": ["a:1"], "password_env": "DS_R"},
        "kafka": {
            "mode": "external",
            "brokers": ["a:1"],
            "username_env": "DS_U",
            "password_env": "DS_P",
        },
    }
    assert [error.place for error in _needs(services)] == [
        "services.redis.password_env",
        "services.kafka.username_env",
        "services.kafka.password_env",
    ]
    for name in ("DS_R", "DS_U", "DS_P"):
        monkeypatch.setenv(name, "x")
    assert _needs(services) == []
