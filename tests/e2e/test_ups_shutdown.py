"""The whole shutdown over a stack under load: what was acknowledged is there, and nothing has to recover."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import psycopg
import pytest
from ups_daemons import MadeUpUps, NisServer, nis_server

from dreamseed_cli.core.errors import DreamseedError
from dreamseed_cli.core.paths import StateDir
from dreamseed_cli.core.processes import signal_all
from dreamseed_cli.gateway.client import Answer, GatewayClient
from dreamseed_cli.gateway.proto import GENERATE, REQUEST_ID_KEY, llm_pb2
from dreamseed_cli.supervisor.running import gateway_address
from dreamseed_cli.supervisor.service_plan import embedded_postgres
from dreamseed_cli.supervisor.state import read_children
from dreamseed_cli.ups.journal import Shutdown, UpsFolder
from dreamseed_cli.ups.sequence import HARD_S
from tests.e2e.conftest import DREAMSEED, Stack, own_copy, serving

_UPS = """
[ups]
source = "apcupsd"
port = {port}
hold_s = 1.0
cycle = ["echo", "the UPS cycles"]
host_shutdown = ["echo", "the host ends"]
[ups.boxes]
engines_s = {engines_s}
"""
_BOUND_S = 180.0
_LONG_TOKENS = 300

Watching = subprocess.Popen[str]
Intervene = Callable[[Watching], Watching]
"""What befalls a shutdown that cannot be undone any more; the watcher that is there afterwards."""


@dataclass
class Load:
    """Callers who ask one after another until they are refused for good; one of them has long answers
    streamed.
    """

    answered: list[str] = field(default_factory=list)
    refused: int = 0
    streamed: list[Answer] = field(default_factory=list)
    """The long answers that came to an end without an error."""
    cut: int = 0
    """The long answers that had begun and ended with an error."""

    async def run(self, address: str, until: asyncio.Event) -> None:
        async def ask(index: int, channel: grpc.aio.Channel) -> None:
            method = channel.unary_unary(
                GENERATE,
                request_serializer=llm_pb2.GenerateRequest.SerializeToString,
                response_deserializer=llm_pb2.GenerateResponse.FromString,
            )
            while not until.is_set():
                question = f"question {index} {len(self.answered)}"
                call = method(llm_pb2.GenerateRequest(prompt=question, max_tokens=20), timeout=30.0)
                try:
                    await call
                except grpc.aio.AioRpcError:
                    self.refused += 1
                    await asyncio.sleep(0.1)
                else:
                    told = dict(await call.trailing_metadata())
                    self.answered.append(str(told[REQUEST_ID_KEY]))

        async with grpc.aio.insecure_channel(address) as channel, GatewayClient(address) as client:
            await asyncio.gather(self._stream(client, until), *(ask(index, channel) for index in range(8)))

    async def _stream(self, client: GatewayClient, until: asyncio.Event) -> None:
        while not until.is_set():
            stream = client.ask(
                "Tell a long story.",
                max_tokens=_LONG_TOKENS,
                ignore_eos=True,
                bypass_cache=True,
                timeout_s=60.0,
            )
            begun = False
            try:
                async for _ in stream:
                    begun = True
            except DreamseedError:
                self.cut += begun
                await asyncio.sleep(0.1)
            else:
                self.streamed.append(stream.answer)


@pytest.fixture
def ups() -> Iterator[NisServer]:
    """A UPS on mains."""
    with nis_server(MadeUpUps()) as server:
        yield server


def _with_ups(profile: Path, ups: NisServer, *, engines_s: float) -> Path:
    """A profile that has this UPS, with so much time for the engines."""
    profile.write_text(profile.read_text() + _UPS.format(port=ups.port, engines_s=engines_s))
    return profile


def _watch(stack: Stack, rules: Path) -> Watching:
    # Only a shutdown of the host is resumed; its steps are made-up commands.
    argv = [*DREAMSEED, "ups", "watch", "--host-step", "--json", "--profile", str(rules)]
    environment = {**os.environ, "DREAMSEED_STATE_DIR": str(stack.state_dir)}
    environment.pop("INVOCATION_ID", None)
    return subprocess.Popen(argv, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def _order(socket: Path, fault: str) -> None:
    async def send() -> None:
        connector = aiohttp.UnixConnector(str(socket))
        async with (
            aiohttp.ClientSession(connector=connector) as session,
            session.post("http://engine/control/fault", json={"fault": fault}) as response,
        ):
            response.raise_for_status()

    asyncio.run(send())


async def _committed(stack: Stack, watcher: Watching) -> Shutdown:
    """The shutdown, as soon as it is past the point of no return."""
    async with asyncio.timeout(_BOUND_S):
        while (shutdown := UpsFolder.of(StateDir(stack.state_dir)).unfinished()) is None:
            assert watcher.poll() is None, watcher.communicate()
            await asyncio.sleep(0.02)
    return shutdown


def _cut_mains_under_load(
    stack: Stack, rules: Path, ups: NisServer, intervene: Intervene
) -> tuple[dict[str, Any], Load]:
    """The result of the watcher that comes to an end, and who was answered."""
    load = Load()
    address = gateway_address(StateDir(stack.state_dir))

    async def go() -> dict[str, Any]:
        over = asyncio.Event()
        asking = asyncio.create_task(load.run(address, over))
        watcher = _watch(stack, rules)
        try:
            await asyncio.sleep(3)
            ups.ups.fail_mains()
            ups.ups.charge = 10.0
            committed = await _committed(stack, watcher)
            watcher = intervene(watcher)
            said, log = await asyncio.to_thread(watcher.communicate, timeout=_BOUND_S)
        finally:
            watcher.kill()
            over.set()
            await asyncio.wait_for(asking, 120)
        assert watcher.returncode == 0, log[-3000:]
        result: dict[str, Any] = json.loads(said)["data"]
        assert result["id"] == committed.id
        return result

    return asyncio.run(go()), load


def _by_name(result: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {step["name"]: step for step in result["steps"]}


def _stored(stack: Stack) -> set[str]:
    with psycopg.connect(embedded_postgres(StateDir(stack.state_dir)).dsn()) as connection:
        return {row[0] for row in connection.execute("SELECT request_id FROM requests").fetchall()}


def _shut_down(stack: Stack, rules: Path, ups: NisServer, intervene: Intervene) -> Load:
    """One of the engines does not follow the order to end. rules: the watcher's profile."""
    result, load = _cut_mains_under_load(stack, rules, ups, intervene)
    assert stack.process.wait(120) == 0
    steps = _by_name(result)
    assert result["committed"]
    assert [name for name, step in steps.items() if step["state"] == "failed"] == []
    assert [name for name, step in steps.items() if step["took_s"] > step["box_s"] + HARD_S] == []
    assert steps["engines"]["state"] == "forced"
    assert steps["postgres"]["detail"] == "pg_controldata: shut down"
    assert steps["host"]["detail"] == "the host ends"
    assert load.answered
    assert load.refused
    # A long answer is whole, or it ends with an error, and that only where the shutdown says so.
    assert load.streamed or load.cut
    assert {answer.tokens for answer in load.streamed} <= {_LONG_TOKENS}
    assert not load.cut or steps["streams"]["state"] == "forced"
    return load


@contextmanager
def _started_again(stack: Stack, load: Load, profile: Path) -> Iterator[Stack]:
    """With nothing to recover, and nothing lost that was acknowledged."""
    log = StateDir(stack.state_dir).log("postgres")
    before = log.stat().st_size
    with contextmanager(serving)(profile, stack.state_dir, ready_within_s=180) as again:
        said = log.read_bytes()[before:].decode()
        assert "database system was shut down at" in said
        assert "not properly shut down" not in said
        assert set(load.answered) <= _stored(again)
        yield again


@pytest.mark.usefixtures("untraced")
def test_the_real_vllm_stops_in_order_although_it_is_deaf(
    vllm_stack: Stack, tmp_path: Path, ups: NisServer
) -> None:
    """It is stopped (SIGSTOP), so SIGTERM does nothing to it. No acknowledged event is lost, and PostgreSQL's
    next start recovers nothing.
    """
    rules = _with_ups(own_copy("laptop", tmp_path, services=True), ups, engines_s=8.0)

    def pause(watcher: Watching) -> Watching:
        (vllm,) = (one for one in read_children(StateDir(vllm_stack.state_dir)) if one.role == "engine")
        signal_all((vllm.leader, *vllm.members), signal.SIGSTOP)
        return watcher

    load = _shut_down(vllm_stack, rules, ups, pause)
    # The engines are of no matter now: those that start at once will do.
    with _started_again(vllm_stack, load, own_copy("emulated-rtx5090x3", tmp_path, services=True)):
        pass


def test_the_stack_stops_in_order_although_an_engine_is_deaf_and_the_watcher_dies(
    tmp_path: Path, ups: NisServer
) -> None:
    """The same over emulated engines; the watcher's next start goes on where it was. Then the shutdown is
    rehearsed over the stack that was started again.
    """
    profile = _with_ups(own_copy("emulated-rtx5090x3", tmp_path, services=True), ups, engines_s=3.0)
    with contextmanager(serving)(profile, tmp_path / "s", ready_within_s=180) as stack:

        def kill(watcher: Watching) -> Watching:
            watcher.kill()
            watcher.communicate()
            return _watch(stack, profile)

        _order(StateDir(stack.state_dir).socket("r0"), "deaf")
        load = _shut_down(stack, profile, ups, kill)
        patient = _with_ups(own_copy("emulated-rtx5090x3", tmp_path, services=True), ups, engines_s=20.0)
        with _started_again(stack, load, patient) as again:
            _rehearse(again, patient)


def _rehearse(stack: Stack, profile: Path) -> None:
    """By a look, which changes nothing; then by all but the host's step, which ends the stack."""
    folder = UpsFolder.of(StateDir(stack.state_dir))
    looked = stack.json("ups", "test", "--dry-run", "--profile", str(profile))
    assert [one["ok"] for one in looked["heard"]] == [True, True]
    assert looked["measured_s"] == folder.history()[-1].took_s
    done = stack.json("ups", "test", "--real-services", "--profile", str(profile))
    assert stack.process.wait(120) == 0
    assert _by_name(done)["postgres"]["detail"] == "pg_controldata: shut down"
    assert [(one.reason, one.whole) for one in folder.history()] == [
        ("low_charge", True),
        ("rehearsal", True),
    ]
    assert folder.measured_s() == max(one.took_s for one in folder.history())
