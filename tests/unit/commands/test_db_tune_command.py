"""`dreamseed db tune` on a real server of its own: what it shows, sets and takes back."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import psycopg
import pytest
import real_services
import typer

from dreamseed_cli.app import main
from dreamseed_cli.commands.db import db_app
from dreamseed_cli.commands.db_tune import _box
from dreamseed_cli.core.errors import FailedError, UsageError
from dreamseed_cli.database.tuning.apply import apply, tuned

TOLD = ("--memory-gib", "8", "--cores", "4", "--storage", "nvme", "--connections", "100")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[real_services.RunningPostgres]:
    """One of its own: these tests change the settings of the whole server."""
    with real_services.own_postgres() as server:
        yield server


@pytest.fixture
def dsn(server: real_services.RunningPostgres, monkeypatch: pytest.MonkeyPatch) -> str:
    """An empty database of that server, also in the environment."""
    dsn = server.new_database()
    monkeypatch.setenv("DS_TEST_DSN", dsn)
    return dsn


@pytest.fixture
def run(
    dsn: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[int, str]]:
    """Exit code, and stdout and stderr of a command."""
    program = typer.Typer()
    program.add_typer(db_app, name="db")
    monkeypatch.setattr("dreamseed_cli.app.app", program)

    def once(*arguments: str) -> tuple[int, str]:
        with pytest.raises(SystemExit) as ended:
            main(["db", "tune", "--dsn-env", "DS_TEST_DSN", *arguments])
        said = capsys.readouterr()
        return int(ended.value.code or 0), said.out + said.err

    return once


def _shown(dsn: str, name: str) -> str:
    with psycopg.connect(dsn) as connection:
        row: Any = connection.execute("SELECT current_setting(%s)", [name]).fetchone()
        return str(row[0])


def test_it_changes_nothing_until_it_is_told_to_and_undo_leads_back(
    run: Callable[..., tuple[int, str]], dsn: str
) -> None:
    """Two applies and one undo lead to the start; a second undo has nothing to do."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("ALTER SYSTEM SET random_page_cost = 2.5")
        connection.execute("SELECT pg_reload_conf()")
    code, said = run(*TOLD)
    assert (code, _shown(dsn, "work_mem")) == (1, "4MB")
    assert "Set them with --apply" in said

    code, said = run(*TOLD, "--apply")
    assert (code, _shown(dsn, "work_mem"), _shown(dsn, "random_page_cost")) == (0, "23MB", "1.1")
    assert "After a restart of the server: wal_buffers" in said
    assert run(*TOLD)[0] == 0
    assert run("--memory-gib", "4", *TOLD[2:], "--apply")[0] == 0
    assert _shown(dsn, "work_mem") == "11MB"

    code, said = run("--undo")
    assert (code, _shown(dsn, "work_mem"), _shown(dsn, "random_page_cost")) == (0, "4MB", "2.5")
    assert "random_page_cost: 2.5 again" in said
    code, said = run("--undo")
    assert (code, "nothing to take back" in said) == (3, True)


def test_what_waits_for_a_restart_is_set_anew_where_the_box_is_another(
    run: Callable[..., tuple[int, str]], dsn: str
) -> None:
    """A mistaken --memory-gib that was applied must not be what the next start finds."""
    assert run("--memory-gib", "0.25", *TOLD[2:], "--apply")[0] == 0
    code, said = run(*TOLD)
    assert (code, "a restart is needed for wal_buffers" in said) == (1, True), said
    assert run(*TOLD, "--apply")[0] == 0
    with psycopg.connect(dsn) as connection:
        rows = connection.execute(
            "SELECT setting FROM pg_file_settings WHERE name = 'wal_buffers' ORDER BY seqno"
        ).fetchall()
    assert rows[-1] == ("16MB",)
    assert run(*TOLD)[0] == 0
    assert run("--undo")[0] == 0


def test_what_the_server_was_started_with_is_told_and_left(
    run: Callable[..., tuple[int, str]], dsn: str
) -> None:
    """ALTER SYSTEM would not reach the embedded server's shared_buffers."""
    code, said = run(*TOLD, "--json")
    rows = {row["name"]: row for row in json.loads(said)["data"]["settings"]}
    assert (code, rows["shared_buffers"]["change"], rows["shared_buffers"]["derived"]) == (
        1,
        "fixed at start",
        "2GB",
    )
    assert rows["work_mem"]["document"] == "64 MB"


def test_without_rights_nothing_is_set(
    run: Callable[..., tuple[int, str]], dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says who could."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("CREATE ROLE weak LOGIN")
    monkeypatch.setenv("DS_TEST_DSN", psycopg.conninfo.make_conninfo(dsn, user="weak"))
    code, said = run(*TOLD, "--apply")
    assert (code, "superuser" in said) == (4, True)
    assert _shown(dsn, "work_mem") == "4MB"


def test_one_refused_value_leaves_none(dsn: str, tmp_path: Path) -> None:
    """ALTER SYSTEM has no transaction: what was set before the refusal is taken back."""
    with pytest.raises(FailedError, match="refuses"), tuned(dsn) as connection:
        apply(connection, {"work_mem": "9MB", "random_page_cost": "cheap"}, tmp_path / "back.json")
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("SELECT pg_reload_conf()")
    assert _shown(dsn, "work_mem") == "4MB"


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("--apply", "--undo"), 2, "opposites"),
        (("--storage", "tape"), 2, "nvme, ssd or hdd"),
        (("--memory-gib", "0"), 2, "0.25"),
    ],
)
def test_wrong_usage_is_told(
    run: Callable[..., tuple[int, str]],
    arguments: tuple[str, ...],
    code: int,
    words: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Before it is told that there is no server."""
    monkeypatch.delenv("DS_TEST_DSN")
    got, said = run(*arguments)
    assert (got, words in said) == (code, True)


def test_another_servers_way_back_is_refused(run: Callable[..., tuple[int, str]], tmp_path: Path) -> None:
    """Its values belong there."""
    state = tmp_path / "state"
    state.mkdir()
    (state / "db-tune.json").write_text(json.dumps({"server": "1", "before": {"work_mem": "1MB"}}))
    code, said = run("--undo")
    assert (code, "another server" in said) == (4, True)


def test_a_broken_way_back_is_told(run: Callable[..., tuple[int, str]], tmp_path: Path) -> None:
    """And what can be done without it."""
    state = tmp_path / "state"
    state.mkdir()
    (state / "db-tune.json").write_text("{}")
    code, said = run("--undo")
    assert (code, "ALTER SYSTEM RESET" in said) == (4, True)


def test_a_server_elsewhere_needs_to_be_described(dsn: str) -> None:
    """The memory of this machine says nothing about it."""
    elsewhere = Mock()
    elsewhere.info.host = "db.example"
    with pytest.raises(UsageError, match="another machine"):
        _box(elsewhere, 32.0, None, None, None)
