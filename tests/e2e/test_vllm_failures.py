"""The real vLLM fails while it answers: what its callers get, and how it comes back.

In the order of the file: the last test leaves an adopted vLLM, and nobody waits for a restart of that one.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from benchmarks._fire import Stack as Fire
from benchmarks._vllm_fire import Asked, core_fault, supervisor_fault
from dreamseed_cli.core.paths import StateDir

if TYPE_CHECKING:
    from tests.e2e.conftest import Stack

pytestmark = pytest.mark.usefixtures("untraced")


@pytest.fixture
def fire(vllm_stack: Stack) -> Iterator[Fire]:
    """The shared stack as `benchmarks._fire` sees it; a supervisor that is started there becomes its own."""
    stand = Fire(vllm_stack.state_dir.parent, StateDir(vllm_stack.state_dir), vllm_stack.argv, {})
    stand.process = vllm_stack.process
    try:
        yield stand
    finally:
        vllm_stack.process = stand.process


def _all_answered(asked: Asked) -> None:
    """Nobody's answer is lost, shortened or different: neither those of which nothing had been streamed, nor
    the greedy one that was half streamed.
    """
    assert [one for one in asked.all if not one.answered] == []
    assert asked.begun.text == asked.undisturbed.text


def test_a_killed_engine_core_costs_nobody_an_answer(fire: Fire) -> None:
    """vLLM's server survives its core by a second or two, failing every request; it is restarted, and all
    requests, those that came just after the fault too, wait for it and are answered.
    """
    fault = asyncio.run(core_fault(fire, signal.SIGKILL))
    assert fault.reason in {"failing", "exited"}
    assert fault.incident["outcome"] == "recovered"
    told = [fault.incident["cause"], *(action["text"] for action in fault.incident["actions"])]
    assert any(text == "exited" or text.startswith("restarting (exited)") for text in told), told
    assert fault.family_left == 0
    _all_answered(fault.asked)


def test_a_stopped_engine_core_is_ejected_though_its_health_says_200(fire: Fire) -> None:
    """Nothing ends by itself, not even the server; only the tokens stop."""
    fault = asyncio.run(core_fault(fire, signal.SIGSTOP))
    assert set(fault.health) == {200}
    assert len(fault.health) > 10
    assert fault.incident["outcome"] == "recovered"
    assert "no_progress" in str(fault.incident)
    assert fault.family_left == 0
    _all_answered(fault.asked)


def test_a_killed_supervisor_leaves_vllm_at_work(fire: Fire) -> None:
    """The same processes answer on, without a supervisor and under the next one, which loads no model."""
    fault = asyncio.run(supervisor_fault(fire))
    assert fault.same_processes
    assert any("Adopted" in note and "r0" in note for note in fault.notes)
    _all_answered(fault.asked)
