"""The stack that is measured: a running one that is found, and one of the bench's own that leaves nothing."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from gateway_harness import socket_folder

from dreamseed_cli.bench.own_stack import running_stack
from dreamseed_cli.bench.under_test import of_address, spec_of
from dreamseed_cli.core.paths import StateDir
from dreamseed_cli.engine.types import Endpoint
from dreamseed_cli.profile.load import load_profile

_BOUND_S = 120
_PROFILE = """
name = "emulated-test"
description = "small and quick"
[engine]
kind = "emulated"
served_name = "test-model"
replicas = 2
max_model_len = 1000
shutdown_timeout_s = 1
[engine.card]
source = "made up for this test"
prefill_tokens_per_s = 100000.0
decode_step_ms = 2.0
decode_step_ms_per_seq = 0.01
kv_cache_tokens = 5000
[gateway]
port = 50051
drain_timeout_s = 2.0
[services.postgres]
mode = "off"
[services.redis]
mode = "off"
"""

# In a process of its own: it takes the signals, and what it leaves behind can be told from other tests'.
_HOST = """
import asyncio, json, sys
from pathlib import Path
from rich.console import Console
from dreamseed_cli.bench.own_stack import StackUnderTest, run_with_own_stack
from dreamseed_cli.bench.server_watch import ServerWatch
from dreamseed_cli.core.paths import StateDir
from dreamseed_cli.gateway.client import GatewayClient
from dreamseed_cli.profile.load import load_profile
from dreamseed_cli.profile.select import Choice

async def ask(stack):
    watch = ServerWatch(list(stack.replicas.values()))
    await watch.start()
    async with GatewayClient(stack.gateway) as client:
        answer = await client.generate("Why?", max_tokens=30, timeout_s=60, ignore_eos=True)
    view = await watch.stop()
    return {
        "tokens": answer.tokens, "seen": view.generation_tokens, "simulated": stack.simulated,
        "model": stack.model, "replicas": sorted(stack.replicas), "away": stack.away, "own": stack.own,
        "port": stack.profile.gateway.port, "profile": stack.profile.name,
        "services": sorted(service.name for service in stack.services if service.state == "ready"),
    }

async def until_interrupted(stack):
    print("ready", flush=True)
    await stack.interrupted.wait()
    return "what was measured"

async def never(stack):
    print("ready", flush=True)
    await asyncio.Event().wait()

async def mistaken(stack):
    raise ZeroDivisionError("a mistake of ours")

body, folder, profile = sys.argv[1:4]
choice = Choice(load_profile(profile), "a test", profile)
state = StateDir(Path(folder))
console = Console(file=sys.stderr)
services = "services" in sys.argv
try:
    print(json.dumps(run_with_own_stack(choice, state, globals()[body], console, services=services)))
except KeyboardInterrupt:
    print("interrupted")
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    """A short one, with a profile in it."""
    with socket_folder() as path:
        (path / "p.toml").write_text(_PROFILE)
        yield path


@contextmanager
def _hosting(folder: Path, body: str, *more: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", _HOST, body, str(folder / "s"), str(folder / "p.toml"), *more]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def _outcome(process: subprocess.Popen[str], folder: Path) -> tuple[str, str]:
    """Its last line and what it said beside; nothing of it may still run."""
    out, said = process.communicate(timeout=_BOUND_S)
    assert _left_on(folder) == []
    return out.strip().splitlines()[-1] if out.strip() else "", said


def _left_on(folder: Path) -> list[str]:
    lines = (" ".join(process.info["cmdline"] or ()) for process in psutil.process_iter(["cmdline"]))
    return [line for line in lines if str(folder) in line]


@pytest.mark.parametrize("services", [False, True])
def test_a_stack_of_its_own_serves_while_it_is_measured(folder: Path, services: bool) -> None:
    """All replicas ready, on a free port; services only if asked for; afterwards nothing runs."""
    with _hosting(folder, "ask", *(["services"] if services else [])) as process:
        out, said = _outcome(process, folder)
    assert process.returncode == 0, said
    found: dict[str, Any] = json.loads(out)
    ready = found.pop("services")
    assert ("postgres" in " ".join(ready)) is services
    assert found == {
        "tokens": 30,
        "seen": 30,
        "simulated": True,
        "model": "test-model",
        "replicas": ["r0", "r1"],
        "away": [],
        "own": True,
        "port": 0,
        "profile": "emulated-test",
    }
    assert "waiting" in said


def test_ctrl_c_lets_the_body_end_with_what_it_has(folder: Path) -> None:
    """Its result comes out, and nothing is left behind."""
    with _hosting(folder, "until_interrupted") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        out, said = _outcome(process, folder)
    assert (out, process.returncode) == ('"what was measured"', 0), said


def test_a_second_ctrl_c_ends_a_body_that_goes_on(folder: Path) -> None:
    """There is no result, and nothing is left behind."""
    with _hosting(folder, "never") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGTERM)
        out, said = _outcome(process, folder)
    assert (out, process.returncode) == ("interrupted", 0), said


def test_ctrl_c_while_it_starts(folder: Path) -> None:
    """Before there is anything to measure."""
    with _hosting(folder, "ask") as process:
        assert process.stderr is not None
        assert any("waiting" in line for line in iter(process.stderr.readline, ""))
        process.send_signal(signal.SIGINT)
        out, said = _outcome(process, folder)
    assert (out, process.returncode) == ("interrupted", 0), said


def test_a_mistake_in_the_body_is_not_hidden(folder: Path) -> None:
    """It comes out as it is, after everything was stopped."""
    with _hosting(folder, "mistaken") as process:
        _, said = _outcome(process, folder)
    assert process.returncode == 1
    assert "ZeroDivisionError: a mistake of ours" in said


def test_the_running_stack_is_found(folder: Path) -> None:
    """Its gateway and engines by name, simulated as it says; its profile only if it is told or shipped.

    Who gives the gateway's address has its engines watched all the same.
    """
    state = StateDir(folder / "s")
    assert running_stack(state) is None
    with _hosting(folder, "until_interrupted") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        found = running_stack(state)
        assert found is not None
        profile = load_profile("laptop")
        told = running_stack(state, profile)
        spec = spec_of(found.gateway, model="", api_key_env=None, ca_file=None)
        named = asyncio.run(of_address(spec, state))
        process.send_signal(signal.SIGINT)
        _outcome(process, folder)
    host, _, port = found.gateway.rpartition(":")
    assert (host, int(port) > 0, found.model, found.simulated) == ("127.0.0.1", True, "test-model", True)
    assert found.replicas == {name: Endpoint(socket=state.socket(name)) for name in ("r0", "r1")}
    assert (found.away, found.own, found.profile) == ((), False, None)
    assert told is not None
    assert told.profile is profile
    assert (named.endpoints, named.foreign) == (tuple(found.replicas.values()), False)
    assert running_stack(state) is None
