"""What SIGHUP means: a reload, or a terminal that was closed. Real terminals, real processes."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

_LISTENER = """
import asyncio, pathlib, sys
from dreamseed_cli.supervisor.stopping import StopWish
async def main():
    wish, told = StopWish(), pathlib.Path(sys.argv[1])
    wish.listen()
    told.write_text("up\\n")
    for name, event in (("stop", wish.requested), ("reload", wish.reload)):
        asyncio.create_task(event.wait()).add_done_callback(
            lambda _, name=name: told.write_text(name))
    await asyncio.wait_for(asyncio.Event().wait(), 120)
asyncio.run(main())
"""
_ARGUMENTS = (sys.executable, "-c", _LISTENER)


def _await(file: Path, wanted: str) -> None:
    deadline = time.monotonic() + 60
    while not file.exists() or file.read_text().strip() != wanted:
        assert time.monotonic() < deadline, file.read_text() if file.exists() else "nothing was told"
        time.sleep(0.02)


def _on_a_terminal(told: Path, *, ignored: bool = False) -> tuple[int, int]:
    """Start the listener as a login shell would be: pid, and the terminal's other end."""
    pid, terminal = pty.fork()
    if pid == 0:
        # Not what these tests inherited: whoever runs them under nohup has it ignored.
        signal.signal(signal.SIGHUP, signal.SIG_IGN if ignored else signal.SIG_DFL)
        os.execv(_ARGUMENTS[0], (*_ARGUMENTS, str(told)))  # noqa: S606 - this very program
    _await(told, "up")
    return pid, terminal


def _end(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def test_without_a_terminal_it_is_a_reload(tmp_path: Path) -> None:
    """As under systemd."""
    told = tmp_path / "told"
    with subprocess.Popen([*_ARGUMENTS, str(told)], start_new_session=True) as process:
        _await(told, "up")
        process.send_signal(signal.SIGHUP)
        _await(told, "reload")
        process.kill()


def test_on_a_terminal_that_is_there_it_is_a_reload(tmp_path: Path) -> None:
    """Somebody else sent it."""
    told = tmp_path / "told"
    pid, terminal = _on_a_terminal(told)
    os.kill(pid, signal.SIGHUP)
    _await(told, "reload")
    _end(pid)
    os.close(terminal)


def test_a_closed_terminal_is_a_stop(tmp_path: Path) -> None:
    """The kernel sends it when the window is closed."""
    told = tmp_path / "told"
    pid, terminal = _on_a_terminal(told)
    os.close(terminal)
    _await(told, "stop")
    _end(pid)


def test_under_nohup_a_closed_terminal_is_no_stop(tmp_path: Path) -> None:
    """Whoever started it had the signal ignored: it is to go on."""
    told = tmp_path / "told"
    pid, terminal = _on_a_terminal(told, ignored=True)
    os.close(terminal)
    _await(told, "reload")
    _end(pid)
