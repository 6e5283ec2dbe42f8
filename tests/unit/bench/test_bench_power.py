"""When the cards' power may be added up."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from fake_nvml import FakeNvml
from gateway_harness import until
from nvml_children import nvml_children

from dreamseed_cli.bench.power_watch import PowerWatch, total_watts
from dreamseed_cli.supervisor.gpu.reading import CardReading, Loss, LostCard, Poll, Problem


def _card(index: int, watts: float | None) -> CardReading:
    return CardReading(index, f"GPU-{index}", "Fake GPU", power_w=watts)


@pytest.mark.parametrize(
    ("poll", "watts"),
    [
        (Poll((_card(0, 250.0), _card(1, 300.5))), 550.5),
        (Poll((_card(0, 0.0),)), 0.0),
        (Poll((_card(0, 250.0), _card(1, None))), None),
        (Poll((_card(0, 250.0),), (LostCard(1, "GPU-1", Loss.LOST),)), None),
        (Poll(problem=Problem.HANG), None),
        (Poll(), None),
    ],
)
def test_half_a_sum_is_none(poll: Poll, watts: float | None) -> None:
    """A card that does not tell would make the energy look better than it is."""
    assert total_watts(poll) == watts


@pytest.fixture
def nvml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeNvml:
    """Two cards of 250 W each, for every process that this test starts."""
    fake = FakeNvml(tmp_path)
    for name, value in fake.environment.items():
        monkeypatch.setenv(name, value)
    return fake


async def test_power_is_sampled_over_all_cards(nvml: FakeNvml) -> None:
    """From before the start to after the stop, in order, by one reader that is gone afterwards."""
    nvml.set(c1_power=300_000)
    watch = PowerWatch(every_s=0.01)
    await watch.start()
    [reader] = nvml_children()
    await until(lambda: len(watch._samples) >= 3)
    nvml.set(c0_power=400_000)
    await until(lambda: watch._samples[-1][1] == 700.0)
    samples = await watch.stop()
    assert {sample.watts for sample in samples} == {550.0, 700.0}
    times = [sample.t_s for sample in samples]
    assert times == sorted(times)
    assert times[0] <= 0 <= times[-1]
    assert not reader.is_running()


async def test_times_count_from_the_cells_start(nvml: FakeNvml) -> None:
    """Which may be another than the watch's."""
    watch = PowerWatch(every_s=60.0)
    await watch.start()
    samples = await watch.stop(watch._began_s - 100.0)
    assert len(samples) == 2
    assert all(sample.t_s > 99.0 for sample in samples)


async def test_a_card_that_is_lost_for_a_moment_leaves_a_gap(nvml: FakeNvml) -> None:
    """And no sample of the other one alone."""
    watch = PowerWatch(every_s=60.0)
    await watch.start()
    nvml.set(c1_error=15)
    assert await watch._sample()
    nvml.set(c1_error=0)
    assert [sample.watts for sample in await watch.stop()] == [500.0, 500.0]


async def test_without_a_card_there_is_nothing(nvml: FakeNvml) -> None:
    """No driver, no card, no reader: no samples, no process that stays, no error."""
    nvml.set(init=9)
    for argv in (None, ("/no/such/python",), (sys.executable, "-c", "pass")):
        watch = PowerWatch(every_s=0.01) if argv is None else PowerWatch(every_s=0.01, argv=argv)
        await watch.start()
        assert await watch.stop() == ()
        assert nvml_children() == []
    assert await PowerWatch().stop() == ()
