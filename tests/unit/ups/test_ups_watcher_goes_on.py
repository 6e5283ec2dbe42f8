"""Nothing but its own end ends a watch: no disk, no log, no answer that nobody thought of."""

from __future__ import annotations

import asyncio
import errno
import io
import os
from dataclasses import replace
from pathlib import Path

import pytest
import structlog
from ups_told import RULES, Counted, Told, mains

from dreamseed_cli.core.paths import StateDir
from dreamseed_cli.ups.best_effort import log_to_stderr
from dreamseed_cli.ups.journal import Shutdown, StepState, UpsFolder, append_line
from dreamseed_cli.ups.observation import Observation
from dreamseed_cli.ups.policy import Stage
from dreamseed_cli.ups.records import Meter
from dreamseed_cli.ups.sequence import Outcome
from dreamseed_cli.ups.watch import Sizes, Watcher

HURRIED = RULES.model_copy(update={"hold_s": 0.0})


def low() -> Observation:
    """A battery at its end."""
    return replace(mains(), on_battery=True, status="OB LB", charge_percent=10.0, low_battery=True)


async def _shut_down(state: StateDir, told: Told) -> Shutdown:
    steps = Counted(state, host=True)
    watcher = Watcher(told, HURRIED, steps, UpsFolder.of(state), Sizes())
    ended = await asyncio.wait_for(watcher.run(), 20)
    assert ended is not None
    assert steps.done == ["refuse", "engines"]
    return ended


@pytest.fixture
def full_log(monkeypatch: pytest.MonkeyPatch) -> None:
    """Log lines go where nothing can be written."""

    class Full(io.StringIO):
        def write(self, _: str) -> int:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("sys.stderr", Full())
    log_to_stderr()


@pytest.mark.usefixtures("full_log")
async def test_a_log_that_takes_nothing(tmp_path: Path) -> None:
    """A disk that is full, a reader that is gone."""
    await _shut_down(StateDir(tmp_path), Told(low))


async def test_a_disk_that_gives_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the last shutdowns took, an outage before this one, whether a stack runs: nothing can be read."""
    state = StateDir(tmp_path)
    append_line(UpsFolder.of(state).root / "shutdowns.jsonl", b"{}")

    def broken(_: Path) -> bytes:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(Path, "read_bytes", broken)
    ended = await _shut_down(state, Told(low))
    assert [step.state for step in ended.steps] == [StepState.DONE, StepState.DONE]


async def test_an_answer_that_nobody_thought_of_is_no_word(tmp_path: Path) -> None:
    """It is silence, and said to be."""
    answers = iter([mains(), ValueError("oops"), None, *[low()] * 100])

    def tell() -> Observation | None:
        told = next(answers)
        if isinstance(told, ValueError):
            raise told
        return told

    with structlog.testing.capture_logs() as said:
        await _shut_down(StateDir(tmp_path), Told(tell))
    silent = [one["cause"] for one in said if one["event"] == "ups_silent"]
    assert silent == ["ValueError: oops"]
    assert "ups_heard_again" in [one["event"] for one in said]


async def test_a_mistake_in_what_is_only_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The box stops all the same."""

    def oops(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(Meter, "show", oops)
    await _shut_down(StateDir(tmp_path), Told(low))


class Slow(Counted):
    """One whose first step takes until the mains are back, and whose gateway opens slowly."""

    def __init__(self, state: StateDir) -> None:
        super().__init__(state, host=True)
        self.refused, self.opening, self.open = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def _do(self, name: str) -> Outcome:
        if not self.refused.is_set():
            self.done.append("first")
            self.refused.set()
            await asyncio.Event().wait()
        return await super()._do(name)

    async def reopen(self) -> None:
        self.opening.set()
        await self.open.wait()
        self.done.append("reopened")


async def test_a_second_outage_waits_until_the_gateway_of_the_first_is_open(tmp_path: Path) -> None:
    """Or it would be opened in the middle of the second's shutdown."""
    state = StateDir(tmp_path)
    steps, told = Slow(state), [low]

    def tell() -> Observation:
        return told[-1]()

    watcher = Watcher(Told(tell), HURRIED, steps, UpsFolder.of(state), Sizes())
    running = asyncio.create_task(watcher.run())
    async with asyncio.timeout(20):
        await steps.refused.wait()
        told.append(mains)
        await steps.opening.wait()
        told.append(low)
        await asyncio.sleep(0.1)
        assert (watcher.power.stage, steps.done) == (Stage.STOPPING, ["first"])
        steps.open.set()
        await running
    assert steps.done == ["first", "reopened", "refuse", "engines"]
