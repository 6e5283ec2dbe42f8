"""What the services keep in the state folder beside their data: ports and a password."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from dreamseed_cli.services.ports import remembered_ports
from dreamseed_cli.services.secret import ensure_password, write_private


def test_ports_are_chosen_once(tmp_path: Path) -> None:
    """Different ones, the same at every start."""
    file = tmp_path / "ports.json"
    first = remembered_ports(file, 6)
    assert len(set(first)) == 6
    assert remembered_ports(file, 6) == first


def test_a_taken_port_gives_new_ones(tmp_path: Path) -> None:
    """All of them: the cluster is made anew anyway. From then on these are the remembered ones."""
    file = tmp_path / "ports.json"
    first = remembered_ports(file, 2)
    with socket.create_server(("127.0.0.1", first[1])):
        second = remembered_ports(file, 2)
        assert first[1] not in second
        assert remembered_ports(file, 2) == second


@pytest.mark.parametrize("text", ["", "[1, 2", '["a", "b"]', "[0, 99999]", "[5000, 5000]", "{}", "[7]"])
def test_a_file_that_holds_no_ports_is_replaced(tmp_path: Path, text: str) -> None:
    """Half a file of a killed run, or somebody's edit."""
    file = tmp_path / "ports.json"
    file.write_text(text)
    chosen = remembered_ports(file, 2)
    assert len(set(chosen)) == 2
    assert remembered_ports(file, 2) == chosen


def test_a_password_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    """Long, the same at every start, in a file that nobody else reads."""
    file = tmp_path / "password"
    made = ensure_password(file)
    assert len(made) >= 32
    assert ensure_password(file) == made
    assert file.stat().st_mode & 0o777 == 0o600
    assert ensure_password(tmp_path / "other") != made


def test_an_empty_password_file_is_no_password(tmp_path: Path) -> None:
    """A disk that was full left it: an empty password would open the cache to everyone."""
    file = tmp_path / "password"
    file.write_text("")
    assert len(ensure_password(file)) >= 32


def test_a_private_file_is_private_whatever_was_there(tmp_path: Path) -> None:
    """Neither an open file under its name nor a leftover of a killed run keeps its mode."""
    file = tmp_path / "f"
    for name in ("f", ".f.new"):
        (tmp_path / name).write_text("old")
        (tmp_path / name).chmod(0o666)
    write_private(file, "new")
    assert file.read_text() == "new"
    assert file.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [file]
