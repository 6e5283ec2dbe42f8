"""The simulation reduced to queues with a known answer: it must give it."""

from __future__ import annotations

import math
from heapq import heappop, heappush

import numpy as np
import pytest

from benchmarks._closed_form import md1_wait_s, mmc_wait_s
from dreamseed_cli.costsim.queueing.arrivals import Asked
from dreamseed_cli.costsim.queueing.card import CardModel
from dreamseed_cli.costsim.queueing.outcome import Floats
from dreamseed_cli.costsim.queueing.path import Path
from dreamseed_cli.costsim.queueing.system import CloudRunSettings, System
from dreamseed_cli.gateway.call import PriorityClass
from dreamseed_cli.profile.schema import Admission, EmulatedCard, Targets

STEP_S = 0.0005
"""So short that waiting for the end of a step does not count beside a service of a second."""
_OPEN = Admission(
    max_queued_standard=10**9,
    reserved_for_premium=0,
    prefill_ahead_tokens=10**9,
    prefill_ahead_quiet_tokens=10**9,
)


def _plain_queue(places: int) -> System:
    """Cards whose steps take the same time at any batch: an answer's service is its length."""
    card = EmulatedCard(
        source="test",
        prefill_tokens_per_s=1e9,
        decode_step_ms=STEP_S * 1000,
        decode_step_ms_per_seq=0.0,
        kv_cache_tokens=10**9,
    )
    return System(
        CardModel(card, places),
        replicas=1,
        targets=Targets(),
        admission=_OPEN,
        cloud_run=CloudRunSettings(concurrency=10**6, min_instances=1, plain_request_s=1.0),
        idle_w=0.0,
        loaded_w=0.0,
    )


def _waits(places: int, at_s: Floats, service_s: Floats) -> Floats:
    count = len(at_s)
    steps = np.maximum(np.rint(service_s / STEP_S), 1).astype(np.int64)
    ones = np.ones(count, dtype=np.int64)
    asked = Asked(
        at_s, ones, ones, steps, np.zeros(count, dtype=np.int64), 10**6, {PriorityClass.STANDARD: math.inf}
    )
    trail, _, _ = Path(asked, [], _plain_queue(places)).walk(0.0, float(at_s[-1]))
    # From the arrival to the first token, less the step that makes it: waits for the place and for a step.
    return trail.first_at - at_s - STEP_S


def _exact_waits(places: int, at_s: Floats, service_s: Floats) -> Floats:
    """First come first served by the recursion of Kiefer and Wolfowitz: whoever comes takes the place that is
    free first.
    """
    free = [0.0] * places
    waits = []
    for at, service in zip(at_s.tolist(), service_s.tolist(), strict=True):
        begin = max(at, heappop(free))
        heappush(free, begin + service)
        waits.append(begin - at)
    return np.array(waits)


def _interval(values: Floats, batches: int = 20) -> tuple[float, float]:
    """Mean and half of its 99 % interval by batch means (t of 19 degrees of freedom)."""
    means = np.array([part.mean() for part in np.array_split(values, batches)])
    return float(means.mean()), 2.861 * float(means.std(ddof=1)) / math.sqrt(batches)


@pytest.mark.no_cover
@pytest.mark.parametrize(("places", "load"), [(1, 0.5), (4, 0.6), (16, 0.8)])
def test_mmc_waits_as_erlang_says(places: int, load: float) -> None:
    """Poisson arrivals and exponential service at c places: each wait is that of the exact recursion but for
    steps that are under way; their mean and p95 agree with Erlang C within 1 % or the batch means' interval.
    """
    rng = np.random.default_rng((7, places))
    count = 20_000
    at_s = np.cumsum(rng.exponential(1 / (load * places), count))
    service_s = rng.exponential(1.0, count)
    waits = _waits(places, at_s, service_s)
    exact = _exact_waits(places, at_s, service_s)
    assert waits.mean() == pytest.approx(exact.mean(), rel=0.01)
    expected = mmc_wait_s(places, load * places, 1.0)
    mean, half = _interval(waits[2000:])
    assert abs(mean - expected.mean_s) <= max(0.01 * expected.mean_s, half)
    tails = np.array([np.quantile(part, 0.95) for part in np.array_split(waits[2000:], 20)])
    spread = 2.861 * tails.std(ddof=1) / math.sqrt(20)
    p95, known = float(np.quantile(waits[2000:], 0.95)), expected.quantile_s(0.95)
    assert abs(p95 - known) <= max(0.01 * known, spread)


@pytest.mark.no_cover
def test_md1_waits_as_pollaczek_and_khinchine_say() -> None:
    """Constant service at one place: half of what M/M/1 waits."""
    rng = np.random.default_rng(11)
    at_s = np.cumsum(rng.exponential(1 / 0.6, 20_000))
    waits = _waits(1, at_s, np.ones(20_000))
    assert waits.mean() == pytest.approx(_exact_waits(1, at_s, np.ones(20_000)).mean(), rel=0.01)
    mean, half = _interval(waits[2000:])
    expected = md1_wait_s(0.6, 1.0)
    assert abs(mean - expected) <= max(0.01 * expected, half)
    assert half < 0.15 * expected
