"""One service under its runner: real processes that end, hang, cannot start; only the keeper is made up."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from gateway_harness import until

from dreamseed_cli.core.errors import FailedError
from dreamseed_cli.engine.types import Command
from dreamseed_cli.services.keeping import NoAnswer, RunStep
from dreamseed_cli.supervisor import service_runner
from dreamseed_cli.supervisor.child import ChildSpec
from dreamseed_cli.supervisor.service import Service
from dreamseed_cli.supervisor.service_plan import ServicePlan
from dreamseed_cli.supervisor.service_runner import ServiceRunner

_SLEEP = "import time; time.sleep(60)"
_ASKED = """
import signal, sys, time
signal.signal(signal.SIGINT, lambda *_: (print("asked", flush=True), sys.exit(0)))
print("listens", flush=True)
time.sleep(60)
"""


class Scripted:
    """A keeper that prepares with `step` and answers what it is told."""

    def __init__(self, step: str | None = None) -> None:
        self.step = step
        self.answer: Callable[[], str | None] = lambda: None
        self.prepared = 0

    async def prepare(self, run: RunStep) -> None:
        self.prepared += 1
        if self.step is not None:
            await run((sys.executable, "-c", self.step))

    async def probe(self) -> str | None:
        return self.answer()


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service_runner, "_OURS_S", 0.05)
    monkeypatch.setattr(service_runner, "_ANOTHERS_S", 0.05)


def _plan(folder: Path, code: str | None = _SLEEP) -> ServicePlan:
    command = Command((sys.executable, "-c", code or ""))
    spec = ChildSpec("s", "service", command, "here", folder / "s.log", 5.0, stop_signal=signal.SIGINT)
    return ServicePlan("s", "embedded", "here", spec if code else None, "something is missing")


@asynccontextmanager
async def _running(plan: ServicePlan, keeper: Scripted) -> AsyncIterator[tuple[ServiceRunner, list[str]]]:
    states: list[str] = []

    def changed(before: Service, after: Service) -> None:
        if before.state is not after.state:
            states.append(after.state.value)

    runner = ServiceRunner(plan, keeper, on_change=changed, on_start=lambda: None)
    task = asyncio.create_task(runner.run())
    try:
        yield runner, states
    finally:
        async with asyncio.timeout(120):
            assert (await runner.stop(asyncio.Event())).survivors == ()
            await task
    assert runner.snapshot().state == "stopped"
    assert runner.snapshot().pid is None


async def test_it_is_started_and_asked_and_stopped_with_its_own_signal(tmp_path: Path) -> None:
    """PostgreSQL's fast shutdown is SIGINT."""
    async with _running(_plan(tmp_path, _ASKED), Scripted()) as (runner, _):
        await until(lambda: runner.snapshot().state == "ready")
        child = runner.child
        assert child
        assert runner.snapshot().pid == child.identity.pid
        assert runner.snapshot().means == ""
        await until(lambda: child.last_lines(1) == ["listens"])
    assert child.last_lines(1) == ["asked"]


async def test_a_killed_one_is_back_with_the_cause_in_between(tmp_path: Path) -> None:
    """It is prepared again before each start."""
    keeper = Scripted()
    async with _running(_plan(tmp_path), keeper) as (runner, states):
        await until(lambda: runner.snapshot().state == "ready")
        first = runner.snapshot().pid
        assert first
        os.kill(first, signal.SIGKILL)
        await until(lambda: runner.snapshot().state == "restarting")
        assert "killed by signal 9" in runner.snapshot().detail
        assert runner.snapshot().means == "something is missing"
        await until(lambda: runner.snapshot().state == "ready")
        assert runner.snapshot().pid not in {None, first}
        assert (runner.snapshot().restarts, keeper.prepared) == (1, 2)
        assert states == ["ready", "restarting", "starting", "ready"]


async def test_its_last_words_are_the_cause(tmp_path: Path) -> None:
    """An operator reads them without looking for a log."""
    code = "import sys; sys.exit('could not open the data folder')"
    async with _running(_plan(tmp_path, code), Scripted()) as (runner, _):
        await until(lambda: runner.snapshot().state == "restarting")
        assert "exited with code 1" in runner.snapshot().detail
        assert "could not open the data folder" in runner.snapshot().detail


async def test_one_that_does_not_answer_is_killed_and_started_anew(tmp_path: Path) -> None:
    """After some probes in a row, not after one; it may ignore every gentler signal."""
    keeper = Scripted()
    async with _running(_plan(tmp_path), keeper) as (runner, states):
        await until(lambda: runner.snapshot().state == "ready")
        first = runner.child
        assert first

        def silent() -> str | None:
            raise NoAnswer("no connection within 2 s")

        keeper.answer = silent
        await until(lambda: "hung" in states)
        await until(lambda: runner.snapshot().state == "restarting")
        assert "no connection within 2 s" in runner.snapshot().detail
        assert not first.identity.alive()
        keeper.answer = lambda: None
        await until(lambda: runner.snapshot().state == "ready")


async def test_a_paused_process_is_hung_even_if_nothing_can_be_asked_of_it(tmp_path: Path) -> None:
    """The relay has no door to knock at: the kernel says that it is stopped."""
    async with _running(_plan(tmp_path), Scripted()) as (runner, states):
        await until(lambda: runner.snapshot().state == "ready")
        first = runner.snapshot().pid
        assert first
        os.kill(first, signal.SIGSTOP)
        await until(lambda: "hung" in states)
        await until(lambda: runner.snapshot().state == "ready")
        assert runner.snapshot().pid != first


async def test_a_preparation_that_fails_is_tried_again(tmp_path: Path) -> None:
    """initdb on a full disk: the cause is shown, and once there is room it goes on."""
    keeper = Scripted("import sys; sys.exit('No space left on device')")
    async with _running(_plan(tmp_path), keeper) as (runner, _):
        await until(lambda: runner.snapshot().reason == "cannot_start")
        assert "No space left on device" in runner.snapshot().detail
        keeper.step = None
        await until(lambda: runner.snapshot().state == "ready")


async def test_a_stop_during_the_preparation_ends_it(tmp_path: Path) -> None:
    """Its process is a child as any other."""
    async with _running(_plan(tmp_path), Scripted(_SLEEP)) as (runner, _):
        await until(lambda: runner.child is not None)
        child = runner.child
        assert child
        assert child.identity.alive()
    assert not child.identity.alive()


async def test_a_stop_while_it_waits_for_the_next_start(tmp_path: Path) -> None:
    """Nothing is started any more."""
    keeper = Scripted()
    async with _running(_plan(tmp_path, "raise SystemExit(1)"), keeper) as (runner, _):
        await until(lambda: runner.snapshot().state == "restarting")
    assert keeper.prepared == 1


async def test_a_program_that_is_not_there(tmp_path: Path) -> None:
    """The cause names it."""
    plan = _plan(tmp_path)
    assert plan.spec
    spec = ChildSpec("s", "service", Command(("/no/such/server",)), "here", tmp_path / "s.log", 1.0)
    async with _running(ServicePlan("s", "embedded", "here", spec, ""), Scripted()) as (runner, _):
        await until(lambda: runner.snapshot().reason == "cannot_start")
        assert "/no/such/server" in runner.snapshot().detail


@pytest.mark.parametrize("error", [FailedError("a keeper's own"), ValueError("nobody foresaw")])
async def test_a_keeper_that_fails_takes_nothing_down(tmp_path: Path, error: Exception) -> None:
    """Whatever goes wrong in looking at a service, it is shown, and looked at again."""
    keeper = Scripted()

    def fail() -> str | None:
        raise error

    async with _running(_plan(tmp_path, None), keeper) as (runner, _):
        await until(lambda: runner.snapshot().state == "ready")
        keeper.answer = fail
        await until(lambda: runner.snapshot().state == "unusable")
        assert str(error) in runner.snapshot().detail
        keeper.answer = lambda: None
        await until(lambda: runner.snapshot().state == "ready")


async def test_anothers_service_is_only_watched(tmp_path: Path) -> None:
    """Nothing is prepared, started or killed."""
    keeper = Scripted()

    def silent() -> str | None:
        raise NoAnswer("refused")

    keeper.answer = silent
    async with _running(_plan(tmp_path, None), keeper) as (runner, _):
        await until(lambda: runner.snapshot().state == "unreachable")
        keeper.answer = lambda: "its schema is behind"
        await until(lambda: runner.snapshot().detail == "its schema is behind")
    assert keeper.prepared == 0
