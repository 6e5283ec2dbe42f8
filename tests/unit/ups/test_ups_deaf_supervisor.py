"""A supervisor that takes connections and never answers: PostgreSQL is asked in time all the same."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
from short_state import short_state

from dreamseed_cli.core.errors import UsageError
from dreamseed_cli.core.paths import StateDir
from dreamseed_cli.core.processes import ProcessIdentity, boot_id
from dreamseed_cli.profile.load import load_profile
from dreamseed_cli.profile.schema import Postgres
from dreamseed_cli.supervisor import power_control
from dreamseed_cli.supervisor.control import NoAnswer
from dreamseed_cli.supervisor.ending import end_left
from dreamseed_cli.supervisor.state import (
    ChildRecord,
    Role,
    SupervisorRecord,
    only_supervisor,
    write_children,
    write_supervisor,
)
from dreamseed_cli.supervisor.winding import PartEnded, StackPart
from dreamseed_cli.ups import steps as steps_module
from dreamseed_cli.ups.journal import StepState
from dreamseed_cli.ups.sequence import Outcome
from dreamseed_cli.ups.steps import Steps

# It ends by SIGINT alone, as PostgreSQL's fast shutdown does, and says so.
_POSTGRES = """
import pathlib, signal, sys, time
def stop(*_):
    pathlib.Path(sys.argv[1]).touch()
    sys.exit()
signal.signal(signal.SIGTERM, signal.SIG_IGN)
signal.signal(signal.SIGINT, stop)
print("up", flush=True)
time.sleep(60)
"""
_SLEEPS = "import time; print('up', flush=True); time.sleep(60)"


@contextmanager
def _process(*argv: str) -> Iterator[ProcessIdentity]:
    """One in a session of its own, once it is up."""
    with subprocess.Popen(
        [sys.executable, "-c", *argv], stdout=subprocess.PIPE, start_new_session=True
    ) as process:
        assert process.stdout
        process.stdout.readline()
        found = ProcessIdentity.of(process.pid)
        assert found
        try:
            yield found
        finally:
            process.kill()


class Stack:
    """A deaf supervisor over an engine and a PostgreSQL."""

    def __init__(self, state: StateDir, around: ExitStack) -> None:
        self.stopped = state.root / "stopped"
        self.supervisor, self.engine, self.postgres = (
            around.enter_context(_process(*argv))
            for argv in ((_SLEEPS,), (_SLEEPS,), (_POSTGRES, str(self.stopped)))
        )
        write_supervisor(state, SupervisorRecord(self.supervisor, boot_id(), time.time(), "p", "0"))
        children: list[tuple[str, Role, ProcessIdentity, int]] = [
            ("r0", "engine", self.engine, signal.SIGTERM),
            ("postgres", "service", self.postgres, signal.SIGINT),
        ]
        write_children(
            state,
            [
                ChildRecord(name, role, "unix:/x", leader, (leader,), stop_signal=signum)
                for name, role, leader, signum in children
            ],
        )
        deaf = around.enter_context(socket.socket(socket.AF_UNIX))
        deaf.bind(str(state.socket("control")))
        deaf.listen()


@pytest.fixture
def state() -> Iterator[StateDir]:
    """A folder with a short path."""
    with short_state() as made:
        yield made


@pytest.fixture
def stack(state: StateDir) -> Iterator[Stack]:
    """It runs."""
    with ExitStack() as around:
        yield Stack(state, around)


@pytest.mark.parametrize("answers_first", [False, True])
async def test_a_supervisor_that_is_deaf_is_killed_and_each_part_ended_at_its_step(
    state: StateDir, stack: Stack, monkeypatch: pytest.MonkeyPatch, answers_first: bool
) -> None:
    """It costs one answer's time, not every part's: one that says nothing is given no order to wait for.
    PostgreSQL ends by its own signal, last.
    """
    ordered: list[StackPart] = []

    async def order(_: StateDir, part: StackPart, within_s: float) -> PartEnded:
        ordered.append(part)
        raise NoAnswer("nothing comes back", place="control")

    async def answer(_: StateDir, within_s: float) -> bool:
        return True

    monkeypatch.setattr(steps_module, "ANSWERS_WITHIN_S", 0.2)
    monkeypatch.setattr(steps_module, "wind_down", order)
    if answers_first:
        monkeypatch.setattr(steps_module, "answers", answer)
    steps = {step.name: step for step in Steps(state, load_profile("emulated-rtx5090x3"), host=False).all()}

    async def do(name: str) -> Outcome:
        return await steps[name].run(10.0)

    gateway = await do("gateway")
    assert gateway.state is StepState.FORCED
    assert gateway.detail.startswith("the supervisor did not answer and was killed")
    assert ordered == ([StackPart.GATEWAY] if answers_first else [])
    assert not stack.supervisor.alive()
    assert stack.engine.alive()
    assert (await do("engines")).state is StepState.DONE
    assert not stack.engine.alive()
    assert stack.postgres.alive()
    await do("postgres")
    assert not stack.postgres.alive()
    assert stack.stopped.exists()
    assert (await do("redis")).state is StepState.SKIPPED


async def test_silence_is_waited_for_in_full_once(
    state: StateDir, stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By all steps together: PostgreSQL gets its time. After one word of the supervisor it is heard again."""
    waited: list[float] = []
    deaf = True

    async def call(_: StateDir, method: str, path: str, body: object = None, *, timeout_s: float) -> Any:
        waited.append(timeout_s)
        if deaf:
            raise NoAnswer("nothing comes back", place="control")
        return 200, b'{"calls": 0, "journal_bytes": 0}'

    monkeypatch.setattr(power_control, "call", call)
    profile = load_profile("emulated-rtx5090x3")
    services = profile.services.model_copy(update={"postgres": Postgres(mode="off")})
    steps = Steps(state, profile.model_copy(update={"services": services}), host=False)
    by_name = {step.name: step for step in steps.all()}
    for name in ("refuse", "streams", "flush"):
        with pytest.raises(NoAnswer):
            await by_name[name].run(20.0)
    deaf = False
    assert (await by_name["streams"].run(20.0)).state is StepState.DONE
    deaf = True
    with pytest.raises(NoAnswer):
        await steps.inside()
    assert (await by_name["gateway"].run(20.0)).state is StepState.FORCED
    assert waited == [5.0, 1.0, 1.0, 1.0, 5.0, 1.0]
    assert not stack.supervisor.alive()


async def test_what_another_supervisor_holds_is_left_to_it(state: StateDir, stack: Stack) -> None:
    """Nothing is ended twice, nor what is not proven to be without one."""
    with only_supervisor(state), pytest.raises(UsageError, match="already runs"):
        end_left(state, StackPart.ENGINES, 1.0)
    assert stack.engine.alive()
