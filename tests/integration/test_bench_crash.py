"""`dreamseed bench --out` that is killed, or loses its terminal: what was measured by then is on disk."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from typing import Any

import pytest
from gateway_harness import emulated_engine, socket_folder

_BOUND_S = 120


@pytest.fixture
def folder() -> Iterator[Path]:
    """Short enough for Unix sockets."""
    with socket_folder() as path:
        yield path


def _own_terminal() -> None:
    """In the child: take SIGHUP as a login shell would, and the terminal on stdin for one's own."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


@contextmanager
def _bench(folder: Path) -> Iterator[tuple[subprocess.Popen[bytes], FileIO]]:
    """At work on cells of a second each; and its terminal's other end."""
    ours, theirs = pty.openpty()
    with emulated_engine(folder, "e0") as engine, FileIO(ours) as terminal:
        argv = [sys.executable, "-m", "dreamseed_cli", "bench", "--target", f"unix:{engine.socket}"]
        argv += ["--suite", "batching", "--duration", "1", "--out", "out", "--state-dir", str(folder / "s")]
        process = subprocess.Popen(
            argv, cwd=folder, stdin=theirs, stdout=theirs, stderr=theirs,
            start_new_session=True, preexec_fn=_own_terminal,  # noqa: PLW1509 - no threads here
        )  # fmt: skip
        os.close(theirs)
        try:
            yield process, terminal
        finally:
            process.kill()
            process.wait(_BOUND_S)


def _result(folder: Path) -> dict[str, Any]:
    (file,) = (folder / "out").glob("*/result.json")
    found: dict[str, Any] = json.loads(file.read_bytes())
    return found


def _until_saved(folder: Path) -> None:
    """The first cell is over."""
    deadline = time.monotonic() + _BOUND_S
    while not list((folder / "out").glob("*/result.json")):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_killed_run_leaves_its_cells(folder: Path) -> None:
    """Whole, readable and called partial."""
    with _bench(folder) as (process, _):
        _until_saved(folder)
        process.kill()
        process.wait(_BOUND_S)
        saved = _result(folder)
    assert saved["partial"]
    assert [cell["name"] for cell in saved["suites"][0]["cells"]][:1] == ["batch-1"]


def test_a_run_whose_terminal_is_closed_writes_its_report(folder: Path) -> None:
    """As at a Ctrl-C: a lost SSH session takes nothing that was measured."""
    with _bench(folder) as (process, terminal):
        _until_saved(folder)
        terminal.close()
        assert process.wait(_BOUND_S) >= 0
        saved = _result(folder)
    assert saved["partial"]
    (report,) = (folder / "out").glob("*/report.html")
    assert "PARTIAL" in report.read_text(encoding="utf-8").upper()
    assert (report.parent / "requests.csv").exists()
