"""The reader of the cards: the real child with the real bindings on the fake NVML, in its time box."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
import pytest
from fake_nvml import FakeNvml
from gateway_harness import until
from nvml_children import nvml_children

from dreamseed_cli.supervisor.gpu import telemetry
from dreamseed_cli.supervisor.gpu.reading import CardReading, Loss, Problem, XidEvent
from dreamseed_cli.supervisor.gpu.telemetry import CHILD, Telemetry

_GIB = 1 << 30


@pytest.fixture
def nvml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeNvml:
    """Two healthy cards, for every process that this test starts."""
    fake = FakeNvml(tmp_path)
    for name, value in fake.environment.items():
        monkeypatch.setenv(name, value)
    return fake


@asynccontextmanager
async def _reading(
    *, call_timeout_s: float = 20.0, argv: tuple[str, ...] = CHILD
) -> AsyncIterator[tuple[Telemetry, list[XidEvent]]]:
    xids: list[XidEvent] = []
    reader = Telemetry(call_timeout_s=call_timeout_s, on_xid=xids.append, argv=argv)
    try:
        yield reader, xids
    finally:
        await reader.close()


async def test_healthy_cards(nvml: FakeNvml) -> None:
    """Every figure with its unit; one child answers all polls, and is gone after the end."""
    nvml.set(c1_reasons=0x4 | 0x40, c1_pids="300,100", c1_ecc=2, c1_recovery=1)
    async with _reading() as (reader, _):
        poll = await reader.poll()
        [child] = nvml_children()
        assert poll.cards[0] == CardReading(
            index=0,
            uuid="GPU-fake-0",
            name="Fake GPU",
            utilisation=0.42,
            memory_used_bytes=3 * _GIB,
            memory_total_bytes=32 * _GIB,
            power_w=250.0,
            power_limit_w=575.0,
            temperature_c=61,
            throttle=(),
            ecc_uncorrected=0,
            recovery_action="none",
            pids=(),
        )
        second = poll.cards[1]
        assert second.throttle == ("power_cap", "hw_thermal")
        assert (second.pids, second.ecc_uncorrected, second.recovery_action) == ((100, 300), 2, "gpu_reset")
        nvml.set(c0_gpu=7)
        assert (await reader.poll()).cards[0].utilisation == 0.07
        assert nvml_children() == [child]
        assert os.getsid(child.pid) == child.pid
    assert not child.is_running()


async def test_what_a_card_does_not_tell_is_none(nvml: FakeNvml) -> None:
    """A card for games has no ECC; it is read all the same."""
    nvml.set(cards=1, c0_gpu=-1, c0_used=-1, c0_power=-1, c0_limit=-1, c0_temperature=-1, c0_reasons=-1)
    nvml.set(c0_ecc=-1, c0_recovery=-1, c0_pids=-1)
    async with _reading() as (reader, _):
        assert (await reader.poll()).cards == (CardReading(0, "GPU-fake-0", "Fake GPU"),)


async def test_a_hang_is_named_with_its_card_and_its_child_killed(nvml: FakeNvml) -> None:
    """The next poll has a child of its own; the cards beside the hanging one can be read without it."""
    nvml.set(cards=3)
    async with _reading(call_timeout_s=1.0) as (reader, _):
        assert (await reader.poll()).problem is None
        nvml.set(c1_hang=1)
        [child] = nvml_children()
        poll = await reader.poll()
        assert (poll.problem, poll.at_card, poll.at_uuid) == (Problem.HANG, 1, "GPU-fake-1")
        assert poll.detail == "NVML at card 1 does not answer within 1 s"
        assert not child.is_running()
        nvml.set(c1_hang=0)
        assert len((await reader.poll()).cards) == 3
        nvml.set(c1_hang=1)
        beside = await reader.poll(frozenset({"GPU-fake-1"}))
        assert [card.index for card in beside.cards] == [0, 2]


async def test_a_driver_that_hangs_while_it_starts(nvml: FakeNvml) -> None:
    """Which card it is may be known; its uuid is not."""
    nvml.set(hang=1)
    async with _reading(call_timeout_s=0.3) as (reader, _):
        poll = await reader.poll()
    assert (poll.problem, poll.at_card, poll.at_uuid) == (Problem.HANG, 0, "")


async def test_a_child_that_outlives_sigkill_is_left_behind(
    nvml: FakeNvml, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In an uninterruptible call nothing ends it: the poll returns, and such children do not pile up."""
    monkeypatch.setattr(telemetry, "_KILL_WAIT_S", 0.05)
    monkeypatch.setattr(telemetry, "_MOST_STUCK", 1)
    monkeypatch.setattr(asyncio.subprocess.Process, "kill", lambda _: None)
    nvml.set(hang=1)
    async with _reading(call_timeout_s=0.2) as (reader, _):
        assert (await reader.poll()).problem is Problem.HANG
        [stuck] = nvml_children()
        poll = await reader.poll()
        assert (poll.problem, "cannot be killed" in poll.detail) == (Problem.HANG, True)
        assert nvml_children() == [stuck]
        nvml.set(hang=0)
        os.kill(stuck.pid, signal.SIGKILL)
        await until(lambda: not stuck.is_running())
        # asyncio hears of the end a little later.
        await until(lambda: not any(child.running for child in reader._stuck))
        assert len((await reader.poll()).cards) == 2
        monkeypatch.undo()


@pytest.mark.parametrize(
    ("error", "loss"), [(15, Loss.LOST), (28, Loss.NOT_FOUND), (16, Loss.RESET_REQUIRED)]
)
async def test_a_card_lost_in_mid_run(nvml: FakeNvml, error: int, loss: Loss) -> None:
    """It is named, and the others are read."""
    async with _reading() as (reader, _):
        await reader.poll()
        nvml.set(c0_error=error)
        poll = await reader.poll()
        assert poll.problem is None
        assert [(lost.index, lost.uuid, lost.loss) for lost in poll.lost] == [(0, "GPU-fake-0", loss)]
        assert [card.index for card in poll.cards] == [1]


async def test_a_card_that_cannot_be_opened(nvml: FakeNvml) -> None:
    """Lost before NVML started: the index is all there is."""
    nvml.set(c1_error=999)
    async with _reading() as (reader, _):
        poll = await reader.poll()
    assert [(lost.index, lost.uuid, lost.loss) for lost in poll.lost] == [(1, "", Loss.LOST)]
    assert len(poll.cards) == 1


async def test_an_xid_is_reported_as_it_happens(nvml: FakeNvml) -> None:
    """Without a poll, with the card it belongs to."""
    async with _reading() as (reader, xids):
        await reader.poll()
        nvml.xid(1, 48)
        await until(lambda: xids)
        nvml.xid(0, 79)
        await until(lambda: len(xids) == 2)
    assert xids == [XidEvent(48, 1, "GPU-fake-1"), XidEvent(79, 0, "GPU-fake-0")]


async def test_cards_without_events_are_read_all_the_same(nvml: FakeNvml) -> None:
    """A driver that reports no Xids, or only of one card."""
    nvml.set(events=3, c1_events=3)
    async with _reading() as (reader, xids):
        assert len((await reader.poll()).cards) == 2
    nvml.set(events=0)
    async with _reading() as (reader, xids):
        await reader.poll()
        nvml.xid(0, 48)
        await until(lambda: xids)


@pytest.mark.parametrize(
    ("init", "problem", "said"),
    [
        (9, Problem.DRIVER_MISSING, "Driver Not Loaded"),
        (18, Problem.FAILED, "reboot this machine"),
        (4, Problem.FAILED, "/dev/nvidia"),
    ],
)
async def test_nvml_that_does_not_start(nvml: FakeNvml, init: int, problem: Problem, said: str) -> None:
    """The reason in words, with what to do; no child is kept."""
    nvml.set(init=init)
    async with _reading() as (reader, _):
        poll = await reader.poll()
        assert (poll.problem, said in poll.detail) == (problem, True)
        assert nvml_children() == []


async def test_no_library(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A machine without NVIDIA's driver."""
    (tmp_path / "libnvidia-ml.so.1").write_text("not a library")
    monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path))
    async with _reading() as (reader, _):
        assert (await reader.poll()).problem is Problem.DRIVER_MISSING


async def test_a_driver_without_cards(nvml: FakeNvml) -> None:
    """That is another thing than no driver."""
    nvml.set(cards=0)
    async with _reading() as (reader, _):
        assert (await reader.poll()).problem is Problem.NO_CARDS


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        ((sys.executable, "-c", "print('{}'); raise SystemExit('out of luck')"), "out of luck"),
        ((sys.executable, "-c", "pass"), "without a word"),
        (("/no/such/python",), "cannot be started"),
    ],
)
async def test_a_child_that_dies(argv: tuple[str, ...], said: str) -> None:
    """Its last words are in the detail."""
    async with _reading(argv=argv) as (reader, _):
        poll = await reader.poll()
    assert (poll.problem, said in poll.detail) == (Problem.FAILED, True)


async def test_the_child_ends_with_its_parent(nvml: FakeNvml) -> None:
    """Even when it hangs in NVML and its parent was killed."""
    nvml.set(hang=1)
    code = (
        "import subprocess, sys, time\n"
        "child = subprocess.Popen(sys.argv[1:], stdin=subprocess.PIPE, stdout=subprocess.PIPE)\n"
        "child.stdout.readline()\n"
        'child.stdin.write(b\'{"uuids": [], "indices": [], "of": 0}\\n\'); child.stdin.flush()\n'
        "child.stdout.readline()\n"
        "print(child.pid, flush=True); time.sleep(60)\n"
    )
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, *CHILD, stdout=asyncio.subprocess.PIPE
    )
    assert parent.stdout is not None
    child = psutil.Process(int(await parent.stdout.readline()))
    parent.kill()
    await parent.wait()
    await until(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE)


async def test_nobody_uses_nvml_while_it_is_released(nvml: FakeNvml) -> None:
    """A reset demands that; polls wait for its end."""
    async with _reading() as (reader, _):
        await reader.poll()
        async with reader.released():
            assert nvml_children() == []
            waiting = asyncio.create_task(reader.poll())
            await asyncio.sleep(0.05)
            assert not waiting.done()
        assert len((await waiting).cards) == 2


@pytest.mark.gpu
async def test_a_real_card() -> None:
    """A card that is there tells at least its name and its memory."""
    async with _reading() as (reader, _):
        poll = await reader.poll()
    if poll.problem in {Problem.DRIVER_MISSING, Problem.NO_CARDS}:
        pytest.skip(f"no NVIDIA card here: {poll.detail}")
    assert poll.problem is None, poll.detail
    for card in poll.cards:
        assert card.uuid.startswith("GPU-")
        assert card.memory_total_bytes is None or card.memory_total_bytes > _GIB
