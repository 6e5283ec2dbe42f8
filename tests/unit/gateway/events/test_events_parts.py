"""Event ids, the checkpoint and the folder's lock, waits, the relay's command and Kafka settings."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from dreamseed_cli.core.errors import MissingError
from dreamseed_cli.gateway.events.backoff import Backoff
from dreamseed_cli.gateway.events.command import relay_command
from dreamseed_cli.gateway.events.connection import PostgresAway
from dreamseed_cli.gateway.events.files import (
    FolderTaken,
    Position,
    read_checkpoint,
    take_folder,
    write_checkpoint,
)
from dreamseed_cli.gateway.events.ids import EventIds
from dreamseed_cli.gateway.events.sender import producer_settings
from dreamseed_cli.profile.schema import Kafka


def test_ids_are_uuids_in_the_order_of_their_making() -> None:
    """Version 7, also while the clock stands still or goes back."""
    times = iter([5_000_000_123, 5_000_000_123, 4_000_000_000, 6_000_000_001])
    ids = EventIds(lambda: next(times))
    made = [ids.next() for _ in range(4)]
    assert made == sorted(set(made))
    for each in made:
        parsed = uuid.UUID(each)
        assert (parsed.version, parsed.variant, str(parsed)) == (7, uuid.RFC_4122, each)
    assert uuid.UUID(made[0]).int >> 80 == 5000


def test_two_processes_make_different_ids_at_one_moment() -> None:
    """Their random parts differ."""
    assert len({EventIds(lambda: 1).next() for _ in range(100)}) == 100


def test_the_checkpoint_is_replaced_whole(tmp_path: Path) -> None:
    """What was written last is read; without one, or with rubbish, it is the beginning."""
    assert read_checkpoint(tmp_path) == Position(0, 0)
    write_checkpoint(tmp_path, Position(3, 70))
    write_checkpoint(tmp_path, Position(4, 9))
    assert read_checkpoint(tmp_path) == Position(4, 9)
    (tmp_path / "checkpoint").write_bytes(b"")
    assert read_checkpoint(tmp_path) == Position(0, 0)


def test_a_folder_belongs_to_one(tmp_path: Path) -> None:
    """The second is refused, and no stranger may look in."""
    folder = tmp_path / "journal"
    lock = take_folder(folder)
    assert folder.stat().st_mode & 0o777 == 0o700
    with pytest.raises(FolderTaken, match="another gateway"):
        take_folder(folder)
    os.close(lock)
    os.close(take_folder(folder))


def test_waits_grow_to_some_seconds_and_begin_anew(capsys: pytest.CaptureFixture[str]) -> None:
    """A cause is told once, however often it comes."""
    backoff = Backoff("it")
    waits = [backoff.failed(PostgresAway("gone")) for _ in range(12)]
    assert waits[0] < 0.2
    assert all(4 <= wait <= 6 for wait in waits[-3:])
    backoff.went_well()
    assert backoff.failed(PostgresAway("gone")) < 0.2
    assert capsys.readouterr().out.count("gone") == 2


def test_the_relays_command() -> None:
    """The same Python, and no secret among the arguments."""
    argv = relay_command(Path("/c.json")).argv
    assert argv == (sys.executable, "-m", "dreamseed_cli.gateway.events.relay", "--config", "/c.json")


def test_passwords_come_from_the_variables_the_profile_names() -> None:
    """Without one the relay does not start, and says which."""
    kafka = Kafka(
        mode="external",
        brokers=("a:1", "b:2"),
        security_protocol="sasl_ssl",
        username_env="KU",
        password_env="KP",
        ca_file="/ca.pem",
    )
    settings = producer_settings(kafka, {"KU": "me", "KP": "secret"})
    assert settings["bootstrap.servers"] == "a:1,b:2"
    assert (settings["sasl.username"], settings["sasl.password"]) == ("me", "secret")
    assert (settings["enable.idempotence"], settings["acks"]) == (True, "all")
    assert settings["ssl.ca.location"] == "/ca.pem"
    with pytest.raises(MissingError, match="KP"):
        producer_settings(kafka, {"KU": "me"})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "not valid settings"),
        ('{"kafka": {"mode": "embedded"}, "postgres_dsn": "dbname=x"}', "mode is 'embedded'"),
        ('{"kafka": {"mode": "external", "brokers": ["a:1"]}}', "no PostgreSQL"),
    ],
)
def test_a_relay_that_cannot_run_says_why(tmp_path: Path, text: str, said: str) -> None:
    """Exit code 2 and one line."""
    (tmp_path / "relay.json").write_text(text)
    argv = relay_command(tmp_path / "relay.json").argv
    ended = subprocess.run(argv, capture_output=True, text=True, timeout=30, check=False)
    assert (ended.returncode, said in ended.stderr, ended.stderr.count("\n")) == (2, True, 1), ended.stderr
