"""`dreamseed serve`, `status`, `stop` and `logs` as whole commands, on emulated engines."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import pytest
from control_socket import snapshot_of

from dreamseed_cli.core.paths import StateDir
from dreamseed_cli.core.processes import ProcessIdentity
from dreamseed_cli.gateway.proto import GENERATE, llm_pb2
from dreamseed_cli.supervisor.control import drain, fetch_snapshot
from dreamseed_cli.supervisor.snapshot import StackSnapshot
from dreamseed_cli.supervisor.state import ChildRecord, read_children, write_children

_BOUND_S = 120.0
_PROFILE = """
name = "emulated-test"
description = "small and quick"
[engine]
kind = "emulated"
served_name = "test-model"
replicas = {replicas}
max_model_len = 1000
start_timeout_s = 120.0
shutdown_timeout_s = 1
[engine.card]
source = "made up for this test"
prefill_tokens_per_s = 100000.0
decode_step_ms = 2.0
decode_step_ms_per_seq = 0.01
kv_cache_tokens = {kv_cache_tokens}
[gateway]
port = {port}
default_timeout_s = 300.0
drain_timeout_s = {drain_timeout_s}
[supervision]
first_backoff_s = 0.5
most_failures = 3
[services.postgres]
mode = "off"
[services.redis]
mode = "off"
"""


class Serve:
    """One `dreamseed serve` as a process, with its folder and everything it starts."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.state = StateDir(folder / "s")
        self.started: list[subprocess.Popen[str]] = []
        self.seen: set[ProcessIdentity] = set()

    def profile(
        self, *, replicas: int = 2, port: int = 0, kv_cache_tokens: int = 5000, drain_timeout_s: float = 2.0
    ) -> Path:
        path = self.folder / "profile.toml"
        path.write_text(
            _PROFILE.format(
                replicas=replicas, port=port, kv_cache_tokens=kv_cache_tokens, drain_timeout_s=drain_timeout_s
            )
        )
        return path

    def start(self, profile: Path, *options: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            self._argv("serve", "--profile", str(profile), *options),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.started.append(process)
        return process

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self._argv(*arguments), capture_output=True, text=True, timeout=_BOUND_S, check=False
        )

    def status(self) -> StackSnapshot:
        """What the supervisor says; it must answer."""
        return fetch_snapshot(self.state)

    def states(self) -> list[str]:
        """Those of the replicas; none while nothing answers."""
        now = snapshot_of(self.state)
        return [replica.state for replica in now.replicas] if now else []

    def address(self) -> str:
        """Where the gateway listens."""
        return str(self.status().gateway.address)

    def await_states(self, *wanted: str) -> None:
        """Those of the replicas; where they are ready the gateway serves, too."""
        until(lambda: self.states() == list(wanted))
        if set(wanted) == {"ready"}:
            until(lambda: self.status().gateway.state == "serving")
        self.remember()

    def remember(self) -> None:
        """Take down who runs, to be sure later that nobody does."""
        for child in read_children(self.state):
            self.seen.update(child.members)

    def alive(self) -> list[ProcessIdentity]:
        return [member for member in self.seen if member.alive()]

    def cleanup(self) -> None:
        self.remember()
        for process in self.started:
            if process.poll() is None:
                process.kill()
            process.wait()
            for stream in (process.stdout, process.stderr):
                if stream:
                    stream.close()
        for member in self.alive():
            os.kill(member.pid, signal.SIGKILL)

    def _argv(self, verb: str, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "dreamseed_cli", verb, "--state-dir", str(self.state.root), *arguments]


def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition, within a bound."""
    deadline = time.monotonic() + _BOUND_S
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true"
        time.sleep(0.05)


def fault(engine: Path, name: str) -> None:
    """Have an emulated engine misbehave; one that crashes gives no answer."""

    async def order() -> None:
        async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(engine))) as session:
            with suppress(aiohttp.ClientError):
                await session.post("http://engine/control/fault", json={"fault": name})

    asyncio.run(order())


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """A folder to serve from; whatever runs in it at the end is killed."""
    made = Serve(tmp_path)
    yield made
    made.cleanup()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    """One stack of two replicas for the tests that leave it as whole as it was."""
    made = Serve(tmp_path_factory.mktemp("shared"))
    made.start(made.profile())
    yield made
    made.cleanup()


@pytest.fixture
def pair(shared: Serve) -> Serve:
    """The shared stack, both replicas ready."""
    shared.await_states("ready", "ready")
    return shared


def test_from_start_to_stop_nothing_is_left(serve: Serve) -> None:
    """Start, ready, status, stop: exit code 0, one JSON document on stdout, no process and no socket left."""
    process = serve.start(serve.profile(), "--json")
    serve.await_states("ready", "ready")
    status = json.loads(serve.run("status", "--json").stdout)["data"]
    assert status["provenance"] == "simulated"
    assert status["profile"] == "emulated-test"
    assert status["pid"] == process.pid
    assert status["gateway"]["state"] == "serving"
    host, port = status["gateway"]["address"].split(":")
    socket.create_connection((host, int(port)), timeout=30).close()
    assert len(serve.seen) >= 3
    shown = serve.run("status").stdout
    assert "SIMULATED" in shown
    assert "no answer cache" in " ".join(shown.split())

    stopped = serve.run("stop")
    assert stopped.returncode == 0
    assert str(process.pid) in stopped.stdout
    out, err = process.communicate(timeout=_BOUND_S)
    assert process.returncode == 0
    assert json.loads(out)["data"]["stopped_by"] == "SIGTERM"
    events = [json.loads(line) for line in err.splitlines()]
    assert {"gateway_serving", "replica_state"} <= {event["event"] for event in events}
    assert serve.alive() == []
    assert list(serve.state.socket_dir.iterdir()) == []
    assert serve.run("status").returncode == 3


def _finished(serve: Serve) -> int:
    return sum(replica.finished for replica in serve.status().replicas)


def test_an_answer_comes_through(pair: Serve) -> None:
    """A call to the gateway is answered by a replica and counted in the status."""
    before = _finished(pair)
    answer = _generate(pair.address())(timeout=100)
    assert answer.tokens_generated == 5
    until(lambda: _finished(pair) == before + 1)


def test_a_second_serve_is_refused(pair: Serve) -> None:
    """It names the pid, the profile and the remedy, and the first one goes on."""
    second = pair.run("serve", "--profile", str(pair.profile()))
    assert second.returncode == 2
    for word in (str(pair.started[0].pid), "emulated-test", "dreamseed stop"):
        assert word in " ".join(second.stderr.split())
    assert pair.states() == ["ready", "ready"]


def test_after_a_kill_the_next_serve_adopts_its_own_and_spares_a_stranger(serve: Serve) -> None:
    """Proof is pid and start time: a process that has a recorded pid by now is not touched."""
    profile = serve.profile(replicas=1)
    first = serve.start(profile)
    serve.await_states("ready")
    first.kill()
    first.wait()
    orphans = serve.alive()
    assert len(orphans) >= 2
    with subprocess.Popen(["sleep", "100"]) as stranger:
        recycled = ProcessIdentity(stranger.pid, 1.0)
        record = ChildRecord("r9", "engine", "unix:/x", recycled, (recycled,))
        write_children(serve.state, [*read_children(serve.state), record])
        told = serve.run("status")
        assert told.returncode == 3
        assert "killed" in told.stderr

        serve.start(profile)
        serve.await_states("ready")
        assert all(orphan.alive() for orphan in orphans)
        assert "Adopted" in serve.status().notes[0]
        assert stranger.poll() is None
        stranger.kill()


def test_stop_ends_what_a_killed_serve_left(serve: Serve) -> None:
    """Without a supervisor there is still something to stop; after that, nothing."""
    first = serve.start(serve.profile(replicas=1))
    serve.await_states("ready")
    first.kill()
    first.wait()
    assert serve.alive()
    stopped = serve.run("stop")
    assert stopped.returncode == 0
    assert "r0" in stopped.stdout
    assert serve.alive() == []
    assert "Nothing was running" in serve.run("stop").stdout


def test_engines_that_cannot_start_end_the_stack_with_their_own_words(serve: Serve) -> None:
    """Exit code 4; the message holds the engine's last lines; the gateway is gone, too."""
    process = serve.start(serve.profile(replicas=1, kv_cache_tokens=10))
    _, err = process.communicate(timeout=_BOUND_S)
    assert process.returncode == 4
    assert "the KV cache holds 10 tokens" in " ".join(err.split())
    serve.remember()
    assert serve.alive() == []
    assert serve.run("status").returncode == 3


def test_a_crashed_replica_comes_back_and_the_others_go_on(pair: Serve) -> None:
    """Status tells why while it is away, the gateway answers from the other one, and the incident is kept."""
    before = pair.status().replicas[0]
    fault(pair.state.socket("r0"), "crash")
    assert _generate(pair.address())(timeout=100).tokens_generated == 5
    until(lambda: pair.status().replicas[0].restarts == before.restarts + 1)
    pair.await_states("ready", "ready")
    after = pair.status().replicas[0]
    assert after.restarts == before.restarts + 1
    assert after.pid not in {None, before.pid}
    told = json.loads(pair.run("incidents", "--json").stdout)["data"]["incidents"]
    (incident,) = (one for one in told if one["subject"] == "r0")
    assert (incident["cause"], incident["outcome"]) == ("exited", "recovered")
    assert incident["provenance"] == "simulated"


def test_a_dead_gateway_comes_back_where_it_was(pair: Serve) -> None:
    """On the same port, although the profile left the choice to the system; the engines never noticed."""
    before = pair.status()
    assert before.gateway.pid
    os.kill(before.gateway.pid, signal.SIGKILL)
    until(lambda: pair.status().gateway.pid not in {None, before.gateway.pid})
    until(lambda: pair.status().gateway.state == "serving")
    pair.remember()
    after = pair.status()
    assert after.gateway.address == before.gateway.address
    assert [one.pid for one in after.replicas] == [one.pid for one in before.replicas]
    assert _generate(pair.address())(timeout=100).tokens_generated == 5


def test_a_rolling_restart_restarts_each_once(pair: Serve) -> None:
    """One after another, with the gateway serving all the time; an unknown replica is named."""
    before = [replica.restarts for replica in pair.status().replicas]
    done = pair.run("restart", "--json")
    assert done.returncode == 0, done.stdout
    assert json.loads(done.stdout)["data"]["done"] == ["r0", "r1"]
    pair.remember()
    assert [replica.restarts for replica in pair.status().replicas] == [count + 1 for count in before]
    assert pair.states() == ["ready", "ready"]
    one = pair.run("restart", "--replica", "r1")
    assert one.returncode == 0
    assert "Restarted r1 in" in one.stdout
    pair.remember()
    unknown = pair.run("restart", "--replica", "r7")
    assert unknown.returncode == 2
    assert "There are: r0, r1" in " ".join(unknown.stderr.split())


def test_a_drained_replica_gets_nothing_until_it_is_taken_back(pair: Serve) -> None:
    """The other answers meanwhile; `status` and its count say so. Its process is the same all the time."""
    ask = _generate(pair.address())
    drain(pair.state, "r0", drained=True)
    until(lambda: _taking(pair.state) == {"r0": False, "r1": True})
    before = pair.status()
    for _ in range(6):
        ask(timeout=100)
    aside = pair.status()
    assert ([one.word for one in aside.replicas], aside.ready) == (["drained", "ready"], 1)
    # What the supervisor has of the gateway's counts may be a second old.
    until(lambda: pair.status().replicas[1].finished >= before.replicas[1].finished + 6)
    drain(pair.state, "r0", drained=False)
    until(lambda: _taking(pair.state) == {"r0": True, "r1": True})
    assert [one.pid for one in pair.status().replicas] == [one.pid for one in before.replicas]


def test_top_drains_an_engine_and_takes_it_back(pair: Serve) -> None:
    """By its keys on a terminal: d twice, once to take it back, q to end."""
    terminal, inside = pty.openpty()
    process = subprocess.Popen(
        pair._argv("top"),
        stdin=inside,
        stdout=inside,
        stderr=inside,
        env={**os.environ, "TERM": "xterm-256color", "COLUMNS": "100", "LINES": "24"},
        text=True,
    )
    pair.started.append(process)
    os.close(inside)
    seen = bytearray()
    # Somebody has to read all the time: a full terminal would stop the program.
    reader = threading.Thread(target=_read_all, args=(terminal, seen), daemon=True)
    reader.start()
    until(lambda: b"q quit" in seen)
    os.write(terminal, b"d")
    until(lambda: b"Press d again" in seen)
    assert not pair.status().replicas[0].drained
    os.write(terminal, b"d")
    until(lambda: [one.word for one in pair.status().replicas] == ["drained", "ready"])
    until(lambda: b"gets nothing new" in seen)
    until(lambda: b"drained" in seen)
    os.write(terminal, b"d")
    until(lambda: [one.word for one in pair.status().replicas] == ["ready", "ready"])
    os.write(terminal, b"q")
    assert process.wait(_BOUND_S) == 0
    reader.join(_BOUND_S)
    os.close(terminal)


def _read_all(terminal: int, into: bytearray) -> None:
    with suppress(OSError):  # the terminal's end
        while data := os.read(terminal, 65536):
            into += data


def test_requests_wait_for_the_only_replica(serve: Serve) -> None:
    """It is expected back: a call that has so much time is answered then, not refused at once."""
    serve.start(serve.profile(replicas=1))
    serve.await_states("ready")
    address = serve.address()
    pid = serve.status().replicas[0].pid
    assert pid
    os.kill(pid, signal.SIGKILL)
    until(lambda: serve.states() != ["ready"])
    assert _generate(address)(timeout=100).tokens_generated == 5
    serve.await_states("ready")


def test_ctrl_c_ends_with_130(serve: Serve) -> None:
    """Interrupted, after cleaning up."""
    process = serve.start(serve.profile(replicas=1))
    serve.await_states("ready")
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=_BOUND_S)
    assert process.returncode == 130
    assert serve.alive() == []


def test_a_second_ctrl_c_does_not_wait_for_running_calls(serve: Serve) -> None:
    """With a call that never ends and a drain of an hour, the second Ctrl-C ends it all the same."""
    process = serve.start(serve.profile(replicas=1, drain_timeout_s=3600.0))
    serve.await_states("ready")
    call = _generate(serve.address(), max_tokens=900)
    fault(serve.state.socket("r0"), "hang")
    pending = call.future(timeout=300)  # type: ignore[attr-defined]
    until(lambda: serve.status().replicas[0].running == 1)
    process.send_signal(signal.SIGINT)
    until(lambda: serve.status().gateway.state == "draining")
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=_BOUND_S)
    assert process.returncode == 130
    assert serve.alive() == []
    assert pending.code() is not grpc.StatusCode.OK


def test_a_stop_while_starting_is_a_stop(serve: Serve) -> None:
    """An engine that still loads is ended as well."""
    profile = serve.profile(replicas=1)
    profile.write_text(profile.read_text().replace("[engine.card]", "start_delay_s = 25.0\n[engine.card]"))
    process = serve.start(profile)
    serve.await_states("starting")
    process.terminate()
    process.communicate(timeout=_BOUND_S)
    assert process.returncode == 0
    assert serve.alive() == []


def test_a_port_in_use_is_refused_before_anything_starts(serve: Serve) -> None:
    """The message names the port and the process that holds it."""
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        refused = serve.run("serve", "--profile", str(serve.profile(port=port)))
    assert refused.returncode == 2
    said = " ".join(refused.stderr.split())
    assert f"127.0.0.1:{port}" in said
    assert f"pid {os.getpid()}" in said
    assert read_children(serve.state) == ()


def test_an_unusable_state_folder_is_refused(serve: Serve) -> None:
    """A file where the folder should be: exit code 2 and the way out."""
    serve.state.root.write_text("no folder")
    refused = serve.run("serve", "--profile", str(serve.profile()))
    assert refused.returncode == 2
    assert "--state-dir" in refused.stderr


def test_when_nothing_runs(serve: Serve) -> None:
    """status: 3 and how to start. stop: 0, since there is nothing to do. logs: 3."""
    status = serve.run("status")
    assert status.returncode == 3
    assert "dreamseed serve" in " ".join(status.stderr.split())
    assert serve.run("stop").returncode == 0
    assert serve.run("logs").returncode == 3


def test_logs_show_each_process(pair: Serve) -> None:
    """All logs with the name before each line, or one; --follow goes on with new lines."""
    names = {line["name"] for line in json.loads(pair.run("logs", "--json").stdout)["data"]["lines"]}
    assert names == {"supervisor", "gateway", "r0", "r1"}
    assert "simulated" in pair.run("logs", "r0", "--lines", "20").stdout
    following = subprocess.Popen(
        pair._argv("logs", "r0", "--lines", "1", "--follow"), stdout=subprocess.PIPE, text=True
    )
    pair.started.append(following)
    assert following.stdout
    assert following.stdout.readline()
    with pair.state.log("r0").open("a") as log:
        log.write("a new line\n")
    assert following.stdout.readline() == "a new line\n"
    following.send_signal(signal.SIGINT)
    assert following.wait(_BOUND_S) == 130


def test_the_live_view_on_a_terminal(serve: Serve) -> None:
    """A terminal gets a picture that says `simulated`, names the replicas, and stays after the end."""
    terminal, inside = pty.openpty()
    process = subprocess.Popen(
        serve._argv("serve", "--profile", str(serve.profile())),
        stdout=inside,
        stderr=inside,
        env={**os.environ, "TERM": "xterm-256color", "COLUMNS": "120", "LINES": "40"},
        text=True,
    )
    serve.started.append(process)
    os.close(inside)
    seen = b""
    with suppress(OSError):  # the terminal's end
        while data := os.read(terminal, 65536):
            seen += data
            if b"ready" in seen and process.poll() is None and serve.states() == ["ready", "ready"]:
                serve.remember()
                process.terminate()
    os.close(terminal)
    assert process.wait(_BOUND_S) == 0
    picture = seen.decode()
    for word in ("SIMULATED", "test-model", "r0", "r1", "starting", "KV", "stopped"):
        assert word in picture
    assert serve.alive() == []


def _taking(state: StateDir) -> dict[str, bool]:
    """Which replicas the gateway sends requests to."""

    async def ask() -> dict[str, bool]:
        connector = aiohttp.UnixConnector(str(state.socket("gateway-admin")))
        async with (
            aiohttp.ClientSession(connector=connector) as session,
            session.get("http://gateway/stats") as response,
        ):
            return {one["name"]: one["ready"] for one in (await response.json())["replicas"]}

    return asyncio.run(ask())


def _generate(address: str, max_tokens: int = 5) -> Callable[..., Any]:
    """A call of `Generate` on a channel of its own."""
    call = grpc.insecure_channel(address).unary_unary(
        GENERATE,
        request_serializer=llm_pb2.GenerateRequest.SerializeToString,
        response_deserializer=llm_pb2.GenerateResponse.FromString,
    )
    request = llm_pb2.GenerateRequest(prompt="Hello", user_id="u", max_tokens=max_tokens)

    class Bound:
        def __call__(self, timeout: float) -> Any:
            return call(request, timeout=timeout)

        def future(self, timeout: float) -> Any:
            return call.future(request, timeout=timeout)

    return Bound()
