"""Whole commands as an operator runs them, and one shared stack with the real vLLM."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from control_socket import snapshot_of
from free_ports import free_port
from untraced import children_untraced

from dreamseed_cli.core.paths import StateDir
from dreamseed_cli.profile.load import load_profile
from dreamseed_cli.supervisor.snapshot import StackSnapshot

DREAMSEED = (sys.executable, "-m", "dreamseed_cli")
ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Stack:
    """A running `dreamseed serve` and how to talk to it.

    process: the supervisor; a test that kills it and starts another, by `argv`, puts that one here.
    """

    state_dir: Path
    process: subprocess.Popen[bytes]
    argv: tuple[str, ...]

    def run(self, *arguments: str, timeout_s: float = 280) -> subprocess.CompletedProcess[str]:
        """One command against this stack."""
        return subprocess.run(
            [*DREAMSEED, *arguments],
            capture_output=True,
            text=True,
            timeout=timeout_s,
            env=self._environment(),
            check=False,
        )

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """One command against this stack that does not end by itself."""
        pipe = subprocess.PIPE
        return subprocess.Popen(
            [*DREAMSEED, *arguments], stdout=pipe, stderr=pipe, text=True, env=self._environment()
        )

    def _environment(self) -> dict[str, str]:
        return {**os.environ, "DREAMSEED_STATE_DIR": str(self.state_dir), "NO_COLOR": "1"}

    def json(self, *arguments: str) -> dict[str, Any]:
        """The data of a command that must succeed."""
        done = self.run(*arguments, "--json")
        assert done.returncode == 0, done.stdout + done.stderr
        data: dict[str, Any] = json.loads(done.stdout)["data"]
        return data

    def kill(self) -> None:
        """kill -9 of the supervisor alone."""
        self.process.kill()
        self.process.wait()

    def snapshot(self) -> StackSnapshot | None:
        """What the supervisor says; None while it does not answer."""
        return snapshot_of(StateDir(self.state_dir))

    def ready(self) -> bool:
        """Whether the gateway serves, and every replica and every service that is not off is ready."""
        now = self.snapshot()
        if now is None or not now.replicas:
            return False
        ready = all(replica.state == "ready" for replica in now.replicas)
        return now.gateway.state == "serving" and ready and not any(one.away for one in now.services)


SERVICES_OFF = """
[services.postgres]
mode = "off"
[services.redis]
mode = "off"
[services.kafka]
mode = "off"
"""


def own_copy(profile: str, folder: Path, *, services: bool = False) -> Path:
    """A shipped profile on a free port, so that tests never meet a running service.

    services: with those of the profile, or with none of them, which is quicker.
    """
    text = (ROOT / "profiles" / f"{profile}.toml").read_text(encoding="utf-8")
    assert "port = " not in text or "port = 50051" in text
    text = text.replace("port = 50051", "port = 0")
    if "port = 0" not in text:
        text = "\n[gateway]\nport = 0\n[services.".join(text.split("[services.", 1))
    if not services:
        text = text.partition("[services.")[0] + SERVICES_OFF
    path = folder / f"{profile}.toml"
    path.write_text(text, encoding="utf-8")
    return path


def serving(profile: Path, state_dir: Path, *, ready_within_s: float) -> Iterator[Stack]:
    """Run `dreamseed serve`, ready, for as long as the caller needs it; it must then end cleanly.

    Unless the caller killed it (`Stack.kill`): then what it left is ended.
    """
    log = (state_dir.parent / "serve.log").open("wb")
    argv = (*DREAMSEED, "serve", "--profile", str(profile), "--state-dir", str(state_dir))
    process = subprocess.Popen(argv, stdout=log, stderr=log, start_new_session=True)
    stack = Stack(state_dir, process, argv)
    try:
        deadline = time.monotonic() + ready_within_s
        while not stack.ready():
            assert process.poll() is None, Path(log.name).read_text()
            assert time.monotonic() < deadline, Path(log.name).read_text()
            time.sleep(0.1)
        yield stack
        process = stack.process
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=120) == 0, Path(log.name).read_text()
    finally:
        process = stack.process
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        if process.wait() != 0:
            stack.run("stop")
        log.close()


@pytest.fixture(scope="session")
def vllm_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The `laptop` profile with the real vLLM: a minute to start, so there is one for all tests, untraced.
    `test_ups_shutdown.py` comes last and shuts it down.
    """
    folder = tmp_path_factory.mktemp("vllm")
    profile = own_copy("laptop", folder, services=True)
    with ExitStack() as around:
        with children_untraced():
            stack = contextmanager(serving)(profile, folder / "state", ready_within_s=400)
            running = around.enter_context(stack)
        yield running


@pytest.fixture(scope="module")
def emulated_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The `emulated-rtx5090x3` profile without services, for tests that change nothing in it."""
    folder = tmp_path_factory.mktemp("emulated")
    yield from serving(own_copy("emulated-rtx5090x3", folder), folder / "state", ready_within_s=180)


@pytest.fixture(scope="module")
def full_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The same with a PostgreSQL and a Valkey cluster of its own, all of them ready."""
    folder = tmp_path_factory.mktemp("full")
    profile = own_copy("emulated-rtx5090x3", folder, services=True)
    yield from serving(profile, folder / "state", ready_within_s=180)


@pytest.fixture
def serve_profile(tmp_path: Path) -> Callable[[str], AbstractContextManager[Stack]]:
    """Serve the profile of a text, ready; every time in the same state folder."""

    def serve(text: str) -> AbstractContextManager[Stack]:
        profile = tmp_path / "profile.toml"
        profile.write_text(text, encoding="utf-8")
        return contextmanager(serving)(profile, tmp_path / "s", ready_within_s=180)

    return serve


_REMOTE = """
name = "far"
description = "an emulated engine that runs elsewhere"
[engine]
kind = "remote"
urls = ["http://127.0.0.1:{port}"]
model = "emulated-14b"
served_name = "far-model"
[gateway]
port = 0
"""


@pytest.fixture
def remote_stack(tmp_path: Path) -> Iterator[Stack]:
    """A stack whose engine is not its child: an address, behind which an emulated one happens to be."""
    port = free_port()
    config = tmp_path / "engine.json"
    config.write_text(load_profile("emulated-rtx5090x3").engine.model_dump_json())
    engine = [sys.executable, "-m", "dreamseed_cli.engine.emulated", "--config", str(config)]
    profile = tmp_path / "far.toml"
    profile.write_text(_REMOTE.format(port=port) + SERVICES_OFF)
    with subprocess.Popen([*engine, "--host", "127.0.0.1", "--port", str(port)]) as process:
        try:
            _wait_for_port(port)
            yield from serving(profile, tmp_path / "s", ready_within_s=180)
        finally:
            process.terminate()


def _wait_for_port(port: int) -> None:
    deadline = time.monotonic() + 120
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        else:
            return
