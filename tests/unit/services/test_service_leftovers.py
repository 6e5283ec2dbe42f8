"""Server processes of an earlier run, found by what they are and where they stand."""

from __future__ import annotations

import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from dreamseed_cli.services.leftovers import end_leftovers, living_in


@contextmanager
def _sleeping(program: str, folder: Path, where: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process of a program of that name, with `where` as its working directory."""
    copy = folder / program
    shutil.copy(shutil.which("sleep") or "", copy)
    process = subprocess.Popen([str(copy), "60"], cwd=where)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A server's data folder."""
    folder = tmp_path / "data"
    folder.mkdir()
    return folder


def test_a_server_in_its_folder_is_found_and_ended(tmp_path: Path, data: Path) -> None:
    """Nobody recorded its pid."""
    with _sleeping("postgres", tmp_path, data) as server:
        assert [found.pid for found in living_in(data, "postgres")] == [server.pid]
        end_leftovers(data, "postgres", ask=signal.SIGINT)
        assert server.wait() == -signal.SIGINT


def test_others_are_left_alone(tmp_path: Path, data: Path) -> None:
    """The same program elsewhere, and an operator's shell in the folder."""
    with (
        _sleeping("postgres", tmp_path, tmp_path) as elsewhere,
        _sleeping("bash", tmp_path, data) as shell,
    ):
        end_leftovers(data, "postgres", ask=signal.SIGINT)
        assert elsewhere.poll() is None
        assert shell.poll() is None


def test_what_does_not_follow_is_killed(tmp_path: Path, data: Path) -> None:
    """A paused server hears no other signal."""
    with _sleeping("postgres", tmp_path, data) as server:
        server.send_signal(signal.SIGSTOP)
        end_leftovers(data, "postgres", ask=signal.SIGINT, grace_s=0.1)
        assert server.wait() == -signal.SIGKILL


def test_a_folder_that_is_not_there_has_no_server(tmp_path: Path) -> None:
    """The first start of all."""
    end_leftovers(tmp_path / "none", "postgres", ask=signal.SIGINT)
