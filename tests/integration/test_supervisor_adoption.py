"""A real engine outlives its killed supervisor, is adopted, answers, and is stopped in order."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import aiohttp
import lone_supervisor
import pytest
import uvloop
from gateway_harness import until
from lone_supervisor import planned, profile

from dreamseed_cli.core.paths import StateDir
from dreamseed_cli.core.processes import ProcessIdentity
from dreamseed_cli.engine.client import EngineClient
from dreamseed_cli.profile.schema import Profile
from dreamseed_cli.supervisor.adoption import AdoptedChild, adopt_or_start
from dreamseed_cli.supervisor.child import Stopped
from dreamseed_cli.supervisor.orphans import end_orphans, find_orphans
from dreamseed_cli.supervisor.stack import ReplicaPlan
from dreamseed_cli.supervisor.state import read_children
from dreamseed_cli.supervisor.takeover import Takeover, take_over
from dreamseed_cli.supervisor.winding import StackPart, stop_within

_BOUND_S = 120.0


@pytest.fixture
def state(tmp_path: Path) -> Iterator[StateDir]:
    """A state folder in which a supervisor was killed while its engine ran."""
    folder = StateDir(tmp_path / "s")
    folder.create()
    argv = [sys.executable, lone_supervisor.__file__, str(folder.root)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, start_new_session=True) as supervisor:
        assert supervisor.stdout
        assert int(supervisor.stdout.readline()) > 0
        supervisor.kill()
    yield folder
    end_orphans(find_orphans(folder))


def _take(state: StateDir, chosen: Profile) -> Takeover:
    spec = planned(state, chosen).spec
    assert spec
    return take_over(state, find_orphans(state), [spec], lambda _: None)


def _leader(state: StateDir) -> ProcessIdentity:
    (record,) = read_children(state)
    return record.leader


async def _answers(plan: ReplicaPlan) -> None:
    client = EngineClient(plan.endpoint, model=plan.model, api="chat", usage_per_chunk=True)
    try:
        async with asyncio.timeout(_BOUND_S):
            await until(client.health)
            await client.first_token(60.0)
    finally:
        await client.close()


def test_it_is_adopted_answers_and_is_stopped(state: StateDir) -> None:
    """The same process, in the event loop that serve uses."""
    leader, plan = _leader(state), planned(state, profile())
    took = _take(state, profile())
    assert "Adopted r0" in took.notes[0]

    async def supervise() -> None:
        assert plan.spec
        child = await adopt_or_start(plan.spec, took.left)
        assert isinstance(child, AdoptedChild)
        assert child.identity == leader
        await _answers(plan)
        assert await child.stop(asyncio.Event()) == Stopped()

    uvloop.run(supervise())
    assert not leader.alive()
    assert "killed" not in state.log("r0").read_text()


def test_one_that_is_deaf_is_forced_although_its_own_time_was_up_first(state: StateDir) -> None:
    """It ignores SIGTERM; the part's time had hardly begun."""
    leader, plan = _leader(state), planned(state, profile())
    left = _take(state, profile()).left

    async def supervise() -> None:
        assert plan.spec
        child = await adopt_or_start(replace(plan.spec, grace_s=0.5), left)
        await _answers(plan)
        connector = aiohttp.UnixConnector(str(plan.endpoint.socket))
        async with aiohttp.ClientSession("http://engine", connector=connector) as session:
            (await session.post("/control/fault", json={"fault": "deaf"})).raise_for_status()
        ended = await stop_within(StackPart.ENGINES, child.stop, _BOUND_S)
        assert (ended.forced, ended.survivors) == (True, 0)

    uvloop.run(supervise())
    assert not leader.alive()


def test_its_crash_is_noticed(state: StateDir) -> None:
    """And what it started with it is swept."""
    leader, plan = _leader(state), planned(state, profile())
    left = _take(state, profile()).left

    async def supervise() -> None:
        assert plan.spec
        child = await adopt_or_start(plan.spec, left)
        await _answers(plan)
        os.kill(leader.pid, signal.SIGKILL)
        async with asyncio.timeout(_BOUND_S):
            await child.wait()
        assert await child.sweep(asyncio.Event()) == ()
        # The next start is a start: the record is of a process that has ended.
        again = await adopt_or_start(plan.spec, left)
        assert not isinstance(again, AdoptedChild)
        assert again.identity != leader
        await again.stop(asyncio.Event())

    uvloop.run(supervise())


def test_an_engine_of_another_profile_is_ended(state: StateDir) -> None:
    """As it was before there was adoption."""
    leader = _leader(state)
    took = _take(state, profile(seed=77))
    assert not took.left
    assert "other settings" in took.notes[0]
    assert not leader.alive()
