"""Hooks as real processes: how they end, and that nothing of them is left but what they mean to leave."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from pathlib import Path

import pytest

from dreamseed_cli.core.processes import ProcessIdentity
from dreamseed_cli.supervisor.failover import hooks
from dreamseed_cli.supervisor.failover.hook_result import HookResult
from dreamseed_cli.supervisor.failover.hooks import HookRunner

# A shell's, which is up in a moment: its time box is short.
_FAMILY = 'sleep 60 & echo $! > "$0"; echo waiting for quota; wait'
_LEAVES = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
open(sys.argv[1], "w").write(f"{child.pid}\\n")
"""


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hooks, "_POLL_S", 0.05)


async def _run(
    folder: Path,
    *argv: str,
    timeout_s: float = 20.0,
    dry_run: bool = False,
    abort: asyncio.Event | None = None,
) -> HookResult:
    runner = HookRunner(folder / "hook.log", timeout_s=timeout_s, dry_run=dry_run)
    return await runner.run("start", argv, abort or asyncio.Event())


def _python(code: str, *arguments: str) -> tuple[str, ...]:
    return (sys.executable, "-c", code, *arguments)


async def test_a_hook_that_succeeds(tmp_path: Path) -> None:
    """Its exit code, its time and its last lines, from both streams."""
    code = "import sys; print('starting'); print('done', file=sys.stderr)"
    result = await _run(tmp_path, *_python(code))
    assert (result.ok, result.exit_code, result.cause, result.words) == (True, 0, "", "")
    assert sorted(result.last_lines) == ["done", "starting"]
    assert 0 < result.seconds < 20
    assert not result.dry


async def test_a_hook_that_fails_says_so_with_its_last_line(tmp_path: Path) -> None:
    """What the operator needs to mend it."""
    result = await _run(tmp_path, *_python("raise SystemExit('Reauthentication required')"))
    assert (result.ok, result.exit_code) == (False, 1)
    assert result.words == "the start hook exited with code 1 (Reauthentication required)"


async def test_output_is_bounded(tmp_path: Path) -> None:
    """A few lines, none of them endless; the whole of it is in the log."""
    code = "for line in range(100): print(str(line) + 'x' * 5000)"
    result = await _run(tmp_path, *_python(code))
    assert len(result.last_lines) == 8
    assert all(len(line) <= 300 for line in result.last_lines)
    assert result.last_lines[-1].startswith("99x")


async def test_a_hook_without_an_end_is_killed_with_its_family(tmp_path: Path) -> None:
    """Its time box is its bound; what it said before is told."""
    pids = tmp_path / "pid"
    result = await _run(tmp_path, "sh", "-c", _FAMILY, str(pids), timeout_s=2.0)
    assert (result.ok, result.exit_code) == (False, None)
    assert "did not end within 2 s (failover.hook_timeout_s)" in result.cause
    assert result.last_lines == ("waiting for quota",)
    assert _gone(int(pids.read_text()))


async def test_a_hook_is_ended_when_it_is_not_wanted_any_more(tmp_path: Path) -> None:
    """The stack goes down: long before its time box."""
    abort = asyncio.Event()
    running = asyncio.create_task(_run(tmp_path, *_python("import time; time.sleep(60)"), abort=abort))
    await asyncio.sleep(0.3)
    abort.set()
    result = await asyncio.wait_for(running, 60)
    assert (result.ok, result.exit_code) == (False, None)
    assert "goes down" in result.cause


async def test_a_hook_killed_by_another(tmp_path: Path) -> None:
    """The signal is named."""
    result = await _run(tmp_path, *_python("import os; os.kill(os.getpid(), 9)"))
    assert (result.ok, result.exit_code, result.cause) == (False, -9, "was killed by signal 9")


async def test_what_a_successful_hook_leaves_goes_on(tmp_path: Path) -> None:
    """A start hook may open the tunnel."""
    pids = tmp_path / "pid"
    result = await _run(tmp_path, *_python(_LEAVES, str(pids)))
    assert result.ok
    left = ProcessIdentity.of(int(pids.read_text()))
    assert left
    assert left.alive()
    os.kill(left.pid, signal.SIGKILL)


@pytest.mark.parametrize("program", ["no-such-cloud", "/no/such/cloud"])
async def test_a_program_that_is_not_there(tmp_path: Path, program: str) -> None:
    """Named, with what to do about it."""
    result = await _run(tmp_path, program, "start")
    assert (result.ok, result.exit_code, result.last_lines) == (False, None, ())
    assert program in result.words
    assert "Install it" in result.words


async def test_a_log_that_cannot_be_written(tmp_path: Path) -> None:
    """It fails as a hook does, and raises nothing."""
    result = await _run(tmp_path / "no-folder", *_python("pass"))
    assert not result.ok
    assert "cannot be run" in result.cause


async def test_a_rehearsal_runs_nothing(tmp_path: Path) -> None:
    """It says what it would have run, and that it is a rehearsal."""
    mark = tmp_path / "mark"
    result = await _run(tmp_path, *_python("open(__import__('sys').argv[1], 'w')", str(mark)), dry_run=True)
    assert (result.ok, result.dry, result.exit_code, result.argv[-1]) == (True, True, None, str(mark))
    assert not mark.exists()


async def test_no_command_is_no_obstacle(tmp_path: Path) -> None:
    """Help that always runs is neither started nor stopped."""
    result = await _run(tmp_path)
    assert (result.ok, result.dry, result.argv) == (True, False, ())


async def test_no_shell_reads_the_arguments(tmp_path: Path) -> None:
    """They arrive as they stand."""
    result = await _run(tmp_path, *_python("import sys; print(sys.argv[1])", "$HOME; echo *"))
    assert result.last_lines == ("$HOME; echo *",)


def _gone(pid: int) -> bool:
    """Within a moment: SIGKILL takes one."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        identity = ProcessIdentity.of(pid)
        if identity is None or not identity.alive():
            return True
        time.sleep(0.02)
    return False
