"""`dreamseed user` on the real PostgreSQL."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest
import typer

from dreamseed_cli.app import main
from dreamseed_cli.commands.user import TierName, user_app
from dreamseed_cli.database.migrate import migrate
from dreamseed_cli.gateway.accounts.keys import key_hash
from dreamseed_cli.gateway.accounts.types import Tier


class Shell:
    """Runs commands against one database."""

    def __init__(self, capsys: pytest.CaptureFixture[str], dsn: str) -> None:
        self._capsys = capsys
        self.dsn = dsn

    def run(self, *arguments: str) -> tuple[int, str, str]:
        """Exit code, stdout, stderr."""
        with pytest.raises(SystemExit) as ended:
            main(["user", *arguments, "--dsn-env", "DS_TEST_DSN"])
        said = self._capsys.readouterr()
        return int(ended.value.code or 0), said.out, said.err

    def json(self, *arguments: str) -> dict[str, Any]:
        """The data of a command that succeeds."""
        code, out, err = self.run(*arguments, "--json")
        assert code == 0, out + err
        assert err == ""
        data: dict[str, Any] = json.loads(out)["data"]
        return data


@pytest.fixture
def shell(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, postgres_dsn: str) -> Shell:
    """With a migrated database."""
    migrate(postgres_dsn)
    monkeypatch.setenv("DS_TEST_DSN", postgres_dsn)
    program = typer.Typer()
    program.add_typer(user_app, name="user")
    monkeypatch.setattr("dreamseed_cli.app.app", program)
    return Shell(capsys, postgres_dsn)


def test_users_are_added_and_listed(shell: Shell) -> None:
    """In order of their ids, with their keys counted, by tier if asked."""
    for name, tier in (("b", "paid"), ("a", "free"), ("c", "paid")):
        shell.json("add", name, "--tier", tier)
    shell.json("key", "create", "b")
    listed = shell.json("list")
    assert [(user["id"], user["tier"], user["working_keys"]) for user in listed["users"]] == [
        ("a", "free", 0),
        ("b", "paid", 1),
        ("c", "paid", 0),
    ]
    paid = shell.json("list", "--tier", "paid", "--limit", "1")
    assert [user["id"] for user in paid["users"]] == ["b"]
    assert paid["total"] == 2
    code, out, _ = shell.run("list")
    assert code == 0
    assert "3 of 3" in out


def test_times_are_in_utc_wherever_the_database_is(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """A session has the zone of its server, or of whoever asks."""
    monkeypatch.setenv("PGTZ", "Asia/Seoul")
    shell.json("add", "ann", "--tier", "paid")
    key = shell.json("key", "create", "ann", "--expires-days", "9")["key"]
    (user,) = shell.json("list")["users"]
    (_, users, _), (_, keys, _) = shell.run("list"), shell.run("key", "list", "ann")
    assert user["created_at"].endswith("+09:00")
    assert _in_utc(user["created_at"]) in users
    assert _in_utc(key["expires_at"]) in keys
    assert "(UTC)" in users
    assert "(UTC)" in keys


def _in_utc(text: str) -> str:
    return f"{datetime.fromisoformat(text).astimezone(UTC):%Y-%m-%d %H:%M}"


def test_a_key_is_shown_once_and_stored_as_a_hash(shell: Shell) -> None:
    """Nowhere in the database, nor in any later output."""
    added = shell.json("add", "ann", "--tier", "paid", "--key")
    assert added["user"]["working_keys"] == 1
    text = added["key"]["text"]
    assert key_hash(text)
    code, listed, _ = shell.run("key", "list", "ann", "--json")
    assert code == 0
    assert text not in listed
    assert text[:11] in listed
    with psycopg.connect(shell.dsn) as connection:
        row = connection.execute("SELECT api_keys::text, hash FROM api_keys").fetchone()
    assert row is not None
    assert text not in row[0]
    assert row[1] == key_hash(text)


def test_a_new_key_stands_alone_on_its_line(shell: Shell) -> None:
    """Whole, to be copied, on a narrow terminal as well."""
    shell.json("add", "ann", "--tier", "paid")
    code, out, _ = shell.run("key", "create", "ann", "--label", "[red]laptop")
    assert code == 0
    assert any(key_hash(line) for line in out.splitlines())


def test_the_life_of_a_key(shell: Shell) -> None:
    """Created with an end, revoked, and revoked it stays."""
    shell.json("add", "ann", "--tier", "paid")
    first = shell.json("key", "create", "ann", "--label", "laptop", "--expires-days", "30")["key"]
    second = shell.json("key", "create", "ann")["key"]
    assert first["expires_at"] is not None
    assert second["expires_at"] is None
    revoked = shell.json("key", "revoke", str(first["id"]))["key"]
    again = shell.json("key", "revoke", str(first["id"]))["key"]
    assert revoked["state"] == "revoked"
    assert again["revoked_at"] == revoked["revoked_at"]
    states = [(key["id"], key["state"], key["label"]) for key in shell.json("key", "list", "ann")["keys"]]
    assert states == [(second["id"], "active", ""), (first["id"], "revoked", "laptop")]
    assert shell.run("key", "list", "ann")[0] == 0
    assert shell.run("key", "revoke", str(second["id"]))[0] == 0


def test_a_user_changes(shell: Shell) -> None:
    """Its tier; shut out and let in again, as often as one likes."""
    shell.json("add", "ann", "--tier", "free")
    assert shell.json("tier", "ann", "background")["user"]["tier"] == "background"
    disabled = shell.json("disable", "ann")["user"]
    assert disabled["state"] == "disabled"
    assert shell.json("disable", "ann")["user"]["disabled_at"] == disabled["disabled_at"]
    assert shell.json("enable", "ann")["user"]["state"] == "enabled"
    code, out, _ = shell.run("enable", "ann")
    assert (code, out) == (0, "ann: tier background, enabled.\n")


def test_a_user_is_not_added_twice(shell: Shell) -> None:
    """And keeps its tier; the message says how to change it. No key is left behind either."""
    shell.json("add", "ann", "--tier", "paid")
    code, out, err = shell.run("add", "ann", "--tier", "free", "--key")
    assert (code, out) == (2, "")
    assert "exists already" in err
    assert "dreamseed user tier ann free" in err
    assert shell.json("list")["users"][0]["tier"] == "paid"
    assert shell.json("key", "list", "ann")["keys"] == []


@pytest.mark.parametrize(
    "arguments",
    [
        ("tier", "nobody", "paid"),
        ("disable", "nobody"),
        ("enable", "nobody"),
        ("key", "create", "nobody"),
        ("key", "list", "nobody"),
        ("key", "revoke", "77"),
    ],
)
def test_who_is_not_there_is_named(shell: Shell, arguments: tuple[str, ...]) -> None:
    """With exit code 3 and where to look."""
    code, out, err = shell.run(*arguments)
    assert (code, out) == (3, "")
    assert re.search("nobody|77", err)
    assert "See " in err


@pytest.mark.parametrize(
    "arguments",
    [
        ("add", "", "--tier", "paid"),
        ("add", "x" * 257, "--tier", "paid"),
        ("add", " ann", "--tier", "paid"),
        ("add", "a\tb", "--tier", "paid"),
        ("add", "a\udcffb", "--tier", "paid"),
        ("add", "ann"),
        ("add", "ann", "--tier", "gold"),
        ("key", "revoke", "x"),
        ("key", "revoke", "99999999999999999999999"),
        ("key", "create", "ann", "--expires-days", "0"),
        ("list", "--limit", "0"),
    ],
)
def test_what_cannot_be_is_wrong_usage(shell: Shell, arguments: tuple[str, ...]) -> None:
    """Exit code 2, nothing done."""
    code, out, err = shell.run(*arguments)
    assert (code, out) == (2, "")
    assert err.startswith("Error: ")
    assert shell.json("list")["total"] == 0


def test_without_a_schema_the_remedy_is_named(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, postgres_server: Any
) -> None:
    """For every command."""
    monkeypatch.setenv("DS_TEST_DSN", postgres_server.new_database())
    for arguments in (("list",), ("add", "a", "--tier", "paid"), ("key", "revoke", "1")):
        code, _, err = shell.run(*arguments)
        assert code == 3
        assert "dreamseed db migrate" in err


def test_without_a_server_that_is_said(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit code 3."""
    monkeypatch.setenv("DS_TEST_DSN", "host=/nonexistent dbname=x")
    code, _, err = shell.run("list")
    assert code == 3
    assert "PostgreSQL does not answer" in err


def test_the_tiers_of_the_command_are_those_of_the_gateway() -> None:
    """Two lists of the same names."""
    assert [tier.value for tier in TierName] == [tier.value for tier in Tier]
