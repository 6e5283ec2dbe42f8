"""The host's own supervision: a killed `serve`, a reload, and what systemd is told; as whole commands."""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import grpc
import pytest

from dreamseed_cli.core.paths import StateDir
from dreamseed_cli.gateway.proto import GENERATE, llm_pb2
from dreamseed_cli.supervisor.state import read_children

ServeProfile = Callable[[str], AbstractContextManager[Any]]
_PROFILE = """
name = "survives"
description = "small and quick"
[engine]
kind = "emulated"
served_name = "test-model"
replicas = {replicas}
max_model_len = 1000
shutdown_timeout_s = 1
[engine.card]
source = "made up for this test"
prefill_tokens_per_s = 100000.0
decode_step_ms = 2.0
decode_step_ms_per_seq = 0.01
kv_cache_tokens = 5000
[gateway]
port = 0
drain_timeout_s = {drain_timeout_s}
[gateway.admission]
max_queued_batch = {max_queued_batch}
[services.postgres]
mode = "off"
[services.redis]
mode = "off"
[services.kafka]
mode = "off"
"""


def _profile(*, replicas: int = 2, drain_timeout_s: float = 2.0, max_queued_batch: int = 100) -> str:
    return _PROFILE.format(
        replicas=replicas, drain_timeout_s=drain_timeout_s, max_queued_batch=max_queued_batch
    )


def _pids(stack: Any) -> dict[str, int]:
    return {child.name: child.leader.pid for child in read_children(StateDir(stack.state_dir))}


class Caller(threading.Thread):
    """Asks on one connection without a pause; what failed."""

    def __init__(self, address: str) -> None:
        super().__init__()
        self.failures: list[str] = []
        self.answered = 0
        self._over = threading.Event()
        self._call: Any = grpc.insecure_channel(address).unary_unary(
            GENERATE,
            request_serializer=llm_pb2.GenerateRequest.SerializeToString,
            response_deserializer=llm_pb2.GenerateResponse.FromString,
        )

    def run(self) -> None:
        while not self._over.is_set():
            try:
                request = llm_pb2.GenerateRequest(prompt=f"Hello {self.answered}", max_tokens=5)
                self.answered += self._call(request, timeout=100).tokens_generated > 0
            except grpc.RpcError as error:
                self.failures.append(str(error))

    def end(self) -> None:
        self._over.set()
        self.join()


def test_after_a_kill_the_next_serve_adopts_and_nobody_notices(serve_profile: ServeProfile) -> None:
    """The same processes, the same port, not one call failed; a stop ends them all in order."""
    with serve_profile(_profile()) as first:
        before = _pids(first)
        address = first.json("status")["gateway"]["address"]
        caller = Caller(address)
        caller.start()
        first.kill()
        with serve_profile(_profile(drain_timeout_s=3.0)) as second:
            status = second.json("status")
            assert _pids(second) == before
            assert status["gateway"]["address"] == address
            assert "Adopted" in status["notes"][0]
            asked = caller.answered
            deadline = time.monotonic() + 100
            while caller.answered < asked + 10:
                assert time.monotonic() < deadline
                time.sleep(0.05)
            caller.end()
            assert caller.failures == []
            # An adopted engine that dies is noticed and replaced.
            os.kill(before["r0"], signal.SIGKILL)
            while not second.ready() or _pids(second)["r0"] == before["r0"]:
                assert time.monotonic() < deadline + 100
                time.sleep(0.1)
            left = [member for child in read_children(StateDir(second.state_dir)) for member in child.members]
        assert not any(member.alive() for member in left)


def test_an_engine_of_another_profile_is_not_adopted(serve_profile: ServeProfile) -> None:
    """The gateway goes on, for its rules may change; the engines are others."""
    with serve_profile(_profile(replicas=1)) as first:
        before = _pids(first)
        first.kill()
        with serve_profile(
            _profile(replicas=1).replace("max_model_len = 1000", "max_model_len = 900")
        ) as now:
            after = _pids(now)
            assert after["r0"] != before["r0"]
            assert any("other settings" in note for note in now.json("status")["notes"])


def test_reload_and_what_systemd_is_told(
    serve_profile: ServeProfile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """READY once it serves; a reload takes what it can and says the rest; a broken file changes nothing."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(100)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        monkeypatch.setenv("WATCHDOG_USEC", "30000000")
        with serve_profile(_profile()) as stack:
            _await(manager, "READY=1", f"MAINPID={stack.process.pid}")
            for child in read_children(StateDir(stack.state_dir)):
                inherited = Path(f"/proc/{child.leader.pid}/environ").read_bytes()
                assert b"NOTIFY_SOCKET" not in inherited
                assert b"WATCHDOG" not in inherited
            _await(manager, "WATCHDOG=1")
            profile = tmp_path / "profile.toml"
            profile.write_text(_profile(replicas=1, max_queued_batch=7))
            done = stack.json("reload")
            assert [change["path"] for change in done["taken"]] == ["gateway.admission.max_queued_batch"]
            assert [change["path"] for change in done["needs_restart"]] == ["engine.replicas"]
            assert f"--profile {profile}" in done["restart_with"]
            _await(manager, "RELOADING=1")
            _await(manager, "READY=1")
            assert any("max_queued_batch" in note for note in stack.json("status")["notes"])
            settings = json.loads((stack.state_dir / "gateway.json").read_text())
            assert settings["gateway"]["admission"]["max_queued_batch"] == 7
            assert settings["gateway"]["port"] != 0

            profile.write_text(_profile(max_queued_batch=0) + "\n[box]\nwheels = 4\n")
            broken = stack.run("reload")
            assert broken.returncode == 2
            said = " ".join(broken.stderr.split())
            assert "gateway.admission.max_queued_batch" in said
            assert "box.wheels" in said
            assert stack.ready()
            shown = stack.run("reload", "--json")
            assert shown.returncode == 2
            assert len(json.loads(shown.stdout)["errors"]) == 2
        _await(manager, "STOPPING=1")


def _await(manager: socket.socket, *wanted: str) -> None:
    """Read until a message holds these lines."""
    while not set(wanted) <= set(manager.recv(4096).decode().split("\n")):
        pass
