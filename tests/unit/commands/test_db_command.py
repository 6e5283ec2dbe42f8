"""`dreamseed db`, and which database a command means."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gateway_harness
import psycopg
import pytest
import typer

from dreamseed_cli.app import main
from dreamseed_cli.commands.database_choice import chosen_dsn
from dreamseed_cli.commands.db import db_app
from dreamseed_cli.core.errors import DreamseedError, MissingError, UsageError
from dreamseed_cli.database.migrate import migrate
from dreamseed_cli.gateway.settings import ServiceAddresses

_PROFILE = """
name = "mine"
description = "d"
[engine]
kind = "remote"
urls = ["http://127.0.0.1:1"]
model = "m"
[services.postgres]
mode = "{mode}"
dsn_env = "DS_PROFILE_DSN"
"""


@pytest.fixture
def run(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[int, str]]:
    """Exit code and stdout of a command."""
    program = typer.Typer()
    program.add_typer(db_app, name="db")
    monkeypatch.setattr("dreamseed_cli.app.app", program)

    def once(*arguments: str) -> tuple[int, str]:
        with pytest.raises(SystemExit) as ended:
            main(["db", *arguments])
        return int(ended.value.code or 0), capsys.readouterr().out

    return once


def _stack(folder: Path, **services: Any) -> None:
    """What a stack left in its state folder."""
    folder.mkdir(parents=True, exist_ok=True)
    settings = gateway_harness.settings(folder)
    addresses = ServiceAddresses(journal=str(folder), **services) if services else None
    (folder / "gateway.json").write_text(
        settings.model_copy(update={"services": addresses}).model_dump_json()
    )


def test_an_empty_database_is_migrated_once(
    run: Callable[..., tuple[int, str]], monkeypatch: pytest.MonkeyPatch, postgres_dsn: str
) -> None:
    """`status` says so before (exit code 1) and after (0)."""
    monkeypatch.setenv("DS_TEST_DSN", postgres_dsn)
    choice = ("--dsn-env", "DS_TEST_DSN")
    code, out = run("status", *choice)
    assert code == 1
    assert "dreamseed db migrate" in out
    code, out = run("migrate", *choice, "--json")
    data = json.loads(out)["data"]
    assert (code, data["before"]) == (0, None)
    assert "already" in run("migrate", *choice)[1]
    code, out = run("status", *choice, "--json")
    assert code == 0
    assert json.loads(out)["data"] == {
        "version": data["now"],
        "newest": data["now"],
        "up_to_date": True,
        "oldest_request": None,
    }
    assert run("status", *choice)[0] == 0


def test_status_tells_how_far_back_requests_are_recorded(
    run: Callable[..., tuple[int, str]], monkeypatch: pytest.MonkeyPatch, postgres_dsn: str
) -> None:
    """So that an operator sees whether old ones go."""
    monkeypatch.setenv("DS_TEST_DSN", postgres_dsn)
    migrate(postgres_dsn)
    with psycopg.connect(postgres_dsn) as connection:
        connection.execute(
            "INSERT INTO requests SELECT day, 'r', 'u', 'finished', NULL, 'batch', 'other', 'm', NULL, false,"
            " NULL, NULL, NULL, day::timestamptz, 1, NULL, NULL, true"
            " FROM unnest(ARRAY['2026-04-01T10:00Z', '2026-03-01T10:00Z']) AS day"
        )
    code, out = run("status", "--dsn-env", "DS_TEST_DSN", "--json")
    assert (code, json.loads(out)["data"]["oldest_request"][:7]) == (0, "2026-03")
    assert "since 2026-03-01" in run("status", "--dsn-env", "DS_TEST_DSN")[1]


def test_the_running_stacks_database_is_meant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its embedded server's socket, or the variable of an external one."""
    _stack(tmp_path, postgres_dsn="host=/run/x dbname=d")
    assert chosen_dsn(None, None, tmp_path) == "host=/run/x dbname=d"
    monkeypatch.setenv("DS_STACK_DSN", "host=elsewhere")
    _stack(tmp_path, postgres_dsn_env="DS_STACK_DSN")
    assert chosen_dsn(None, None, tmp_path) == "host=elsewhere"


def test_a_profiles_external_database_is_meant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether a stack runs or not."""
    profile = tmp_path / "mine.toml"
    profile.write_text(_PROFILE.format(mode="external"))
    monkeypatch.setenv("DS_PROFILE_DSN", "host=theirs")
    assert chosen_dsn(None, str(profile), tmp_path) == "host=theirs"


@pytest.mark.parametrize("mode", ["embedded", "off"])
def test_a_profile_without_an_external_database_is_refused(tmp_path: Path, mode: str) -> None:
    """It says which mode it has, and what to do."""
    profile = tmp_path / "mine.toml"
    profile.write_text(_PROFILE.format(mode=mode))
    with pytest.raises(UsageError, match=f"'{mode}'"):
        chosen_dsn(None, str(profile), tmp_path)


def test_a_variable_is_meant_before_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """But not beside a profile."""
    _stack(tmp_path, postgres_dsn="host=/run/x dbname=d")
    monkeypatch.setenv("DS_TEST_DSN", "host=mine")
    assert chosen_dsn("DS_TEST_DSN", None, tmp_path) == "host=mine"
    with pytest.raises(UsageError, match="Leave one"):
        chosen_dsn("DS_TEST_DSN", "laptop", tmp_path)


@pytest.mark.parametrize(
    ("prepare", "cause"),
    [
        (lambda folder: None, "nothing runs here"),
        (_stack, "does without PostgreSQL"),
        (lambda folder: _stack(folder, redis_password_env="X"), "does without PostgreSQL"),
        (lambda folder: _stack(folder, postgres_dsn_env="DS_NOT_SET"), "DS_NOT_SET"),
    ],
)
def test_no_database_is_something_missing(
    tmp_path: Path, prepare: Callable[[Path], None], cause: str
) -> None:
    """With its reason."""
    prepare(tmp_path)
    with pytest.raises(MissingError, match=cause):
        chosen_dsn(None, None, tmp_path)


def test_settings_of_another_version_are_no_stack(tmp_path: Path) -> None:
    """Rather than an error nobody understands."""
    (tmp_path / "gateway.json").write_text("{}")
    with pytest.raises(DreamseedError, match="nothing runs"):
        chosen_dsn(None, None, tmp_path)
