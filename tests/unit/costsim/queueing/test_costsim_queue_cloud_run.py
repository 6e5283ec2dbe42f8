"""Cloud Run in ticks against every request on its own, and its rules one by one."""

from __future__ import annotations

import math

import numpy as np
import pytest

from dreamseed_cli.costsim.queueing.cloud_run import CloudRun, tick_s
from dreamseed_cli.costsim.queueing.outcome import Floats
from dreamseed_cli.costsim.queueing.system import CloudRunSettings


class _Door:
    """A Cloud Run whose AI requests are let in and turned away into lists."""

    def __init__(self, settings: CloudRunSettings, plain: list[int]) -> None:
        self.let_in: list[tuple[int, float]] = []
        self.turned_away: list[tuple[int, float]] = []
        self.run = CloudRun(
            settings,
            plain,
            let_in=lambda index, now: self.let_in.append((index, now)),
            turned_away=lambda index, now: self.turned_away.append((index, now)),
        )

    def until(self, end: float) -> None:
        while self.run.next_at <= end:
            self.run.tick()


def _billed_one_by_one(at_s: Floats, held_s: Floats) -> float:
    """Seconds of one instance with a request in it, every busy time rounded up to a tenth."""
    order = np.argsort(at_s)
    billed = began = until = 0.0
    for at, held in zip(at_s[order].tolist(), held_s[order].tolist(), strict=True):
        if at > until:
            billed += math.ceil((until - began) * 10) / 10
            began = at
        until = max(until, at + held)
    return billed + math.ceil((until - began) * 10) / 10


@pytest.mark.parametrize(("plain", "ai"), [(1.0, 0.02), (5.5, 0.0), (5.5, 0.09), (27.0, 0.05)])
def test_the_bill_in_ticks_is_that_of_single_requests(plain: float, ai: float) -> None:
    """Of the same requests, 0.1 s long and AI ones 4 s on average, the time billed agrees within 1 % with the
    simulation of each of them.
    """
    until = 20_000.0
    rng = np.random.default_rng(5)
    plain_at, ai_at = (np.sort(rng.uniform(0, until, rng.poisson(rate * until))) for rate in (plain, ai))
    plain_s, ai_s = rng.exponential(0.1, len(plain_at)), rng.exponential(4.0, len(ai_at))
    expected = _billed_one_by_one(np.concatenate((plain_at, ai_at)), np.concatenate((plain_s, ai_s)))
    settings = CloudRunSettings(plain_request_s=0.1, min_instances=1, max_instances=1)
    ticks, _ = np.histogram(plain_at, np.arange(round(until / 0.1) + 1) * 0.1)
    door = _Door(settings, ticks.tolist())
    for at, held in zip(ai_at.tolist(), ai_s.tolist(), strict=True):
        door.until(at)
        assert door.run.enter(0, at)
        door.run.leave(at, at=at + held)
    door.until(until)
    assert door.run.totals.billable_s == pytest.approx(expected, rel=0.01)


def test_a_service_at_zero_starts_cold() -> None:
    """The first request waits for its instance, and the start is billed."""
    door = _Door(CloudRunSettings(cold_start_s=5.0), [])
    assert not door.run.enter(0, 0.05)
    door.until(6.0)
    ((index, at),) = door.let_in
    assert index == 0
    assert at == pytest.approx(5.1, abs=0.11)
    assert door.run.totals.cold_starts == 1
    assert door.run.totals.billable_s >= 5.0


def test_beyond_the_most_instances_comes_429() -> None:
    """Two places in all: the third request waits 10 s and is turned away; a free place is taken."""
    door = _Door(CloudRunSettings(concurrency=2, min_instances=1, max_instances=1, cold_start_s=1.0), [])
    assert [door.run.enter(index, 0.0) for index in range(3)] == [True, True, False]
    door.until(9.9)
    assert not door.turned_away
    door.until(10.2)
    assert [index for index, _ in door.turned_away] == [2]
    assert not door.run.enter(3, 10.25)
    door.run.leave(10.3)
    door.until(10.5)
    assert [index for index, _ in door.let_in] == [3]


def test_plain_requests_wait_and_are_refused_too() -> None:
    """Twice what all places serve: half of it gets 429, but for those that still wait."""
    settings = CloudRunSettings(concurrency=10, min_instances=1, max_instances=1, plain_request_s=0.1)
    door = _Door(settings, [20] * 2000)
    door.until(199.95)
    assert door.run.totals.rejected_plain == pytest.approx(20_000 - settings.longest_wait_s * 200, rel=0.02)
    assert door.run.totals.request_s == pytest.approx(10 * 200, rel=0.01)


def test_the_autoscaler_follows_the_minute() -> None:
    """160 at a time with 80 aimed at on each: two instances, a third one while 190 are there."""
    settings = CloudRunSettings(plain_request_s=0.1)
    door = _Door(settings, [160] * 3000 + [190] * 3000 + [130] * 3000)
    door.until(299.0)
    assert door.run.totals.peak_instances == 2
    door.until(599.0)
    assert door.run.totals.peak_instances == 3
    assert door.run.totals.cold_starts == 1


def test_idle_instances_stay_a_quarter_of_an_hour() -> None:
    """After the load has gone its instances exist on, unbilled, and then no more."""
    door = _Door(CloudRunSettings(plain_request_s=1.0), [300] * 100)
    door.until(100.0)
    billed = door.run.totals.billable_s
    door.until(990.0)
    assert door.run.totals.instance_s > 4 * 900
    assert door.run.totals.billable_s == pytest.approx(billed, abs=5.0)
    before = door.run.totals.instance_s
    door.until(1100.0)
    before = door.run.totals.instance_s
    door.until(2000.0)
    assert door.run.totals.instance_s == before


def test_minimum_instances_cost_while_idle() -> None:
    """Two that are kept warm for nobody are idle all the time."""
    door = _Door(CloudRunSettings(min_instances=2), [])
    door.until(100.0)
    assert door.run.totals.idle_min_s == pytest.approx(200.0, rel=0.01)
    assert door.run.totals.billable_s == 0.0


def test_a_tick_is_a_request_within_reason() -> None:
    """As long as a plain request, but neither nothing nor minutes."""
    assert [tick_s(CloudRunSettings(plain_request_s=held)) for held in (0.0, 0.1, 30.0)] == [0.02, 0.1, 1.0]
