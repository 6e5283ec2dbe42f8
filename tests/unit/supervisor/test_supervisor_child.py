"""One child process, real: its log, its exit, its bounded end with all its helpers."""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest

from dreamseed_cli.core.errors import MissingError
from dreamseed_cli.core.processes import ProcessIdentity
from dreamseed_cli.engine.types import Command
from dreamseed_cli.supervisor.child import Child, ChildSpec, Stopped

_WITH_HELPER = """
import signal, subprocess, sys, time
if sys.argv[1] == "stubborn":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("helper", subprocess.Popen(["sleep", "60"]).pid, flush=True)
time.sleep(60)
"""


def _spec(folder: Path, code: str, *arguments: str, grace_s: float = 10.0) -> ChildSpec:
    command = Command((sys.executable, "-c", code, *arguments), {"DREAMSEED_TEST": "yes"})
    return ChildSpec("r0", "engine", command, "unix:/x", folder / "r0.log", grace_s)


async def _helper(child: Child) -> ProcessIdentity:
    async with asyncio.timeout(60):
        while True:
            lines = child.last_lines(1)
            if lines and lines[0].startswith("helper"):
                identity = ProcessIdentity.of(int(lines[0].split()[1]))
                assert identity
                return identity
            await asyncio.sleep(0.02)


async def test_output_and_environment_and_exit_code(tmp_path: Path) -> None:
    """Both streams go to the log, the command's environment is added to ours, the code is told."""
    code = "import os, sys; print(os.environ['DREAMSEED_TEST']); print('err', file=sys.stderr); sys.exit(7)"
    (tmp_path / "r0.log").write_text("of an earlier run\n")
    child = await Child.start(_spec(tmp_path, code))
    assert await child.wait() == 7
    assert sorted(child.last_lines(5)) == ["err", "yes"]
    assert "of an earlier run" in (tmp_path / "r0.log").read_text()


async def test_a_program_that_is_not_there(tmp_path: Path) -> None:
    """The error names the program."""
    spec = ChildSpec("r0", "engine", Command(("/no/such/program",)), "unix:/x", tmp_path / "l", 1.0)
    with pytest.raises(MissingError, match="/no/such/program"):
        await Child.start(spec)


async def test_an_engine_finds_no_socket_of_the_one_before(tmp_path: Path) -> None:
    """vLLM leaves its socket when it crashes, and does not start where one is; it is the only one removed."""
    with tempfile.TemporaryDirectory(prefix="ds-") as folder:  # a socket's path must be short
        path = Path(folder) / "r0.sock"
        listen = f"import socket; socket.socket(socket.AF_UNIX).bind({str(path)!r})"
        spec = replace(_spec(tmp_path, listen), endpoint=f"unix:{path}")
        for _ in range(2):
            child = await Child.start(spec)
            assert await child.wait() == 0, child.last_lines(5)
            assert path.is_socket()
        child = await Child.start(replace(spec, role="gateway"))
        assert await child.wait() == 1
        file = Path(folder) / "file"
        file.write_text("no socket")
        child = await Child.start(replace(spec, endpoint=f"unix:{file}"))
        await child.wait()
        assert file.exists()


async def test_a_session_of_its_own(tmp_path: Path) -> None:
    """A Ctrl-C at our terminal does not reach it; its identity proves it."""
    child = await Child.start(_spec(tmp_path, "import time; time.sleep(60)"))
    assert os.getsid(child.identity.pid) == child.identity.pid != os.getsid(0)
    assert child.record().leader.alive()
    assert await child.stop(asyncio.Event()) == Stopped()
    assert child.exit_code == -15


@pytest.mark.parametrize("manner", ["willing", "stubborn"])
async def test_stop_ends_the_whole_family(tmp_path: Path, manner: str) -> None:
    """Helpers that do not follow their leader, and leaders that ignore SIGTERM, are killed."""
    grace_s = 0.3 if manner == "stubborn" else 60.0
    child = await Child.start(_spec(tmp_path, _WITH_HELPER, manner, grace_s=grace_s))
    helper = await _helper(child)
    assert child.refresh()
    assert helper in child.record().members
    assert await child.stop(asyncio.Event()) == Stopped(killed=manner == "stubborn")
    assert not helper.alive()
    assert not child.identity.alive()


async def test_a_hastened_stop_does_not_wait(tmp_path: Path) -> None:
    """With a grace of an hour it ends at once when hastened, before or while it waits."""
    child = await Child.start(_spec(tmp_path, _WITH_HELPER, "stubborn", grace_s=3600.0))
    helper = await _helper(child)
    hasten = asyncio.Event()
    stopping = asyncio.create_task(child.stop(hasten))
    hasten.set()
    async with asyncio.timeout(60):
        assert await stopping == Stopped(killed=True)
    assert not helper.alive()


async def test_a_crash_leaves_helpers_for_the_sweep(tmp_path: Path) -> None:
    """A leader that dies alone leaves a helper that holds a card's memory: the sweep ends it."""
    child = await Child.start(_spec(tmp_path, _WITH_HELPER, "willing"))
    helper = await _helper(child)
    child.refresh()
    os.kill(child.identity.pid, 9)
    assert await child.wait() == -9
    assert helper.alive()
    assert await child.sweep(asyncio.Event()) == ()
    assert not helper.alive()
    assert await child.stop(asyncio.Event()) == Stopped()  # what had crashed is not killed
