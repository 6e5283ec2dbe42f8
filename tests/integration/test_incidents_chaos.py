"""Rehearsals against a real emulated engine, under a supervisor that is played."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest
from aiohttp import web

from dreamseed_cli.app import main
from dreamseed_cli.chaos.faults import choose_fault
from dreamseed_cli.chaos.inject import heal, inject
from dreamseed_cli.chaos.rehearsal import Rehearsal, rehearse
from dreamseed_cli.chaos.story import Observation
from dreamseed_cli.core.paths import StateDir
from dreamseed_cli.core.processes import ProcessIdentity, boot_id
from dreamseed_cli.core.result import Provenance
from dreamseed_cli.engine.emulated.command import emulated_command
from dreamseed_cli.engine.types import Command
from dreamseed_cli.incidents.book import IncidentBook
from dreamseed_cli.profile.load import load_profile
from dreamseed_cli.supervisor.child import Child, ChildSpec
from dreamseed_cli.supervisor.snapshot import GatewaySnapshot, ReplicaSnapshot, StackSnapshot
from dreamseed_cli.supervisor.state import SupervisorRecord, write_children, write_supervisor

_BOUND_S = 120.0
_POLL_S = 0.05


class PlayedSupervisor:
    """One replica that is restarted when its process ends, one gateway, and the book of it."""

    def __init__(self, state: StateDir) -> None:
        self._state = state
        socket = state.socket("r0")
        command = emulated_command(state.root / "engine.json", socket)
        self._specs = (
            ChildSpec("r0", "engine", command, f"unix:{socket}", state.log("r0"), 1.0),
            ChildSpec(
                "gateway", "gateway", Command(("sleep", "100")), "unix:/none", state.log("gateway"), 1.0
            ),
        )
        self.session = aiohttp.ClientSession("http://engine", connector=aiohttp.UnixConnector(str(socket)))
        self.book = IncidentBook(state.root / "incidents.sqlite", simulated=True)
        self.ready = asyncio.Event()
        self.restarts = True
        self.failed = 0
        self.engine, self.gateway = ("starting", "launched", time.time()), "starting"
        self._children: dict[str, Child] = {}

    def snapshot(self) -> StackSnapshot:
        """As the real one answers."""
        child, gateway = self._children.get("r0"), self._children.get("gateway")
        name, reason, since = self.engine
        pid = child.identity.pid if child and child.exit_code is None else None
        replica = ReplicaSnapshot("r0", name, reason, "", since, "unix:x", pid=pid, failed=self.failed)
        return StackSnapshot(
            profile="emulated-rtx5090x3",
            why="test",
            served_name="emulated-14b",
            provenance=Provenance.SIMULATED,
            pid=os.getpid(),
            started_at=1.0,
            taken_at=time.time(),
            activity="serving",
            gateway=GatewaySnapshot(self.gateway, "127.0.0.1:1", gateway.identity.pid if gateway else None),
            replicas=(replica,),
        )

    @property
    def record(self) -> Any:
        """The engine as `children.json` has it."""
        return self._children["r0"].record()

    async def run(self) -> None:
        """Until cancelled."""
        await asyncio.gather(self._keep_engine(), self._keep_gateway())

    async def close(self) -> None:
        """End everything."""
        for child in self._children.values():
            with suppress(ProcessLookupError):
                os.killpg(child.identity.pid, signal.SIGKILL)
            await child.wait()
        await self.session.close()
        self.book.close()

    async def generates(self, timeout_s: float = 0.4) -> bool:
        """Whether a token comes."""
        body = {"prompt": "Hi", "max_tokens": 1}
        try:
            async with asyncio.timeout(timeout_s), self.session.post("/v1/completions", json=body) as answer:
                return answer.status == 200 and "choices" in await answer.json()
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError):
            return False

    async def healthy(self) -> bool:
        """Whether it says so."""
        with suppress(aiohttp.ClientError, OSError, TimeoutError):
            async with asyncio.timeout(2.0), self.session.get("/health") as answer:
                return answer.status == 200
        return False

    async def _keep_engine(self) -> None:
        incident = None
        while True:
            child = await self._start(0)
            for _ in range(1000):
                if await self.generates():
                    break
                await asyncio.sleep(_POLL_S)
            self.engine = ("ready", "answered", time.time())
            self.ready.set()
            if incident:
                self.book.ended(incident, "recovered", requests={"moved": 1})
            await child.wait()
            incident = self.book.began("restart", "r0", cause="killed", detect_s=0.1)
            self.failed += 1
            self.engine = ("restarting" if self.restarts else "failed", "killed", time.time())
            if not self.restarts:
                return
            self.book.acted(incident, "started it again")

    async def _keep_gateway(self) -> None:
        while True:
            child = await self._start(1)
            self.gateway = "serving"
            await child.wait()
            self.gateway = "restarting"
            await asyncio.sleep(2.0)  # long enough to be seen

    async def _start(self, index: int) -> Child:
        spec = self._specs[index]
        if index == 0:
            self._state.socket("r0").unlink(missing_ok=True)
        child = self._children[spec.name] = await Child.start(spec)
        write_children(self._state, [child.record() for child in self._children.values()])
        return child


@asynccontextmanager
async def _control(state: StateDir, supervisor: PlayedSupervisor) -> AsyncIterator[None]:
    async def status(_: web.Request) -> web.Response:
        return web.Response(body=msgspec.json.encode(supervisor.snapshot()))

    application = web.Application()
    application.router.add_get("/status", status)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.UnixSite(runner, str(state.socket("control"))).start()
    try:
        yield
    finally:
        await runner.cleanup()


@pytest.fixture
async def played(tmp_path: Path) -> AsyncIterator[PlayedSupervisor]:
    """A supervised stack, ready, whose supervisor is this process."""
    state = StateDir(tmp_path / "state")
    state.create()
    (state.root / "engine.json").write_text(load_profile("emulated-rtx5090x3").engine.model_dump_json())
    identity = ProcessIdentity.of(os.getpid())
    assert identity
    write_supervisor(state, SupervisorRecord(identity, boot_id(), 1.0, "emulated-rtx5090x3", "1"))
    supervisor = PlayedSupervisor(state)
    async with _control(state, supervisor):
        running = asyncio.create_task(supervisor.run())
        try:
            async with asyncio.timeout(_BOUND_S):
                await supervisor.ready.wait()
            yield supervisor
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            await supervisor.close()


async def _rehearse(
    tmp_path: Path, fault: str, *, wait_s: float = _BOUND_S, tell: Callable[[Observation], None] | None = None
) -> Rehearsal:
    state = StateDir(tmp_path / "state")
    told = tell or (lambda _: None)
    return await asyncio.to_thread(rehearse, state, choose_fault(fault), None, wait_s=wait_s, tell=told)


async def test_a_crash_from_the_fault_to_the_recovery(played: PlayedSupervisor, tmp_path: Path) -> None:
    """The process is killed; every state is told in its order, with the incident and the failed call."""
    pid = played.record.leader.pid
    told: list[Observation] = []
    done = await _rehearse(tmp_path, "crash", tell=told.append)
    assert [(step.subject, step.state) for step in done.steps] == [("r0", "restarting"), ("r0", "ready")]
    assert done.steps[0].reason == "killed"
    detect_s, recover_s = done.verdict.detect_s, done.verdict.recover_s
    assert detect_s is not None
    assert recover_s is not None
    assert 0 <= detect_s < recover_s < done.watched_s
    assert done.calls_failed == 1
    assert done.incidents == tuple(one.id for one in played.book.last(9))
    assert len(done.incidents) == 1
    assert played.record.leader.pid != pid
    assert len(told) > 3


async def test_a_killed_gateway(played: PlayedSupervisor, tmp_path: Path) -> None:
    """It is watched instead of a replica; who counted the calls is gone."""
    done = await _rehearse(tmp_path, "gateway-crash")
    assert done.subjects == ("gateway",)
    assert [(step.subject, step.state) for step in done.steps] == [
        ("gateway", "restarting"),
        ("gateway", "serving"),
    ]
    assert done.verdict.recover_s is not None
    assert done.calls_failed is None
    assert played.engine[0] == "ready"


async def test_one_that_is_given_up_is_not_waited_for(
    played: PlayedSupervisor, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 1 long before the wait is over, and the whole story as JSON."""
    played.restarts = False
    begun = time.monotonic()
    assert await asyncio.to_thread(_main, "chaos", "crash", "--replica", "r0", "--json") == 1
    assert time.monotonic() - begun < 50.0  # --wait is 60
    document = json.loads(capsys.readouterr().out)
    data = document["data"]
    assert document["ok"] is False
    assert (data["fault"], data["subjects"], data["provenance"]) == ("crash", ["r0"], "simulated")
    assert (data["recovered"], data["recover_s"]) == (False, None)
    assert [step["state"] for step in data["steps"]] == ["failed"]
    assert data["detect_s"] >= 0


async def test_a_fault_that_stays_until_it_is_healed(
    played: PlayedSupervisor, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nobody notices in time: exit code 1 and the way out; after it the engine generates again."""
    assert await asyncio.to_thread(_main, "chaos", "hang", "--wait", "0.5") == 1
    said = capsys.readouterr().out
    for words in ("SIMULATED", "Nothing changed its state", "dreamseed chaos heal --replica r0"):
        assert words in said
    assert await played.healthy()
    assert not await played.generates()
    assert await asyncio.to_thread(_main, "chaos", "heal") == 0
    assert "SIMULATED" in capsys.readouterr().out
    assert await played.generates(30.0)


@pytest.mark.parametrize("fault", ["freeze", "garbage", "refuse"])
async def test_a_fault_strikes_and_is_healed(fault: str, played: PlayedSupervisor) -> None:
    """No token while it lasts; the process and its socket are the same after it."""
    await asyncio.to_thread(inject, choose_fault(fault), [played.record])
    assert not await played.generates()
    assert played.record.leader.paused() is (fault == "freeze")
    assert await played.healthy() is (fault != "freeze")
    await asyncio.to_thread(heal, played.record)
    assert await played.generates(30.0)


async def test_an_interrupted_rehearsal_ends_its_fault(played: PlayedSupervisor, tmp_path: Path) -> None:
    """Ctrl-C leaves no frozen engine behind."""

    def interrupt(_: Observation) -> None:
        if played.record.leader.paused():  # a stop takes effect a moment after its signal
            raise KeyboardInterrupt

    def rehearse_until_interrupted() -> None:
        with pytest.raises(KeyboardInterrupt):
            rehearse(
                StateDir(tmp_path / "state"), choose_fault("freeze"), None, wait_s=_BOUND_S, tell=interrupt
            )

    await asyncio.to_thread(rehearse_until_interrupted)
    assert not played.record.leader.paused()
    assert await played.generates(30.0)


def _main(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    return int(ended.value.code or 0)
