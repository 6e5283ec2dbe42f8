"""Distributions: quantiles by nearest rank, told only where the samples carry them, with honest intervals."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats  # type: ignore[import-untyped]
from synthetic_runs import upto

from dreamseed_cli.bench.change import difference
from dreamseed_cli.bench.measure.columns import Floats
from dreamseed_cli.bench.measure.independence import effective_samples
from dreamseed_cli.bench.measure.intervals import attainment, mean_interval, rate_interval, share_interval
from dreamseed_cli.bench.measure.quantiles import latency, missing_quantiles, plain_quantile
from dreamseed_cli.bench.result import Latency
from dreamseed_cli.core.quantiles import SHARES, minimum_samples

values = st.lists(st.floats(0, 1e6), min_size=1, max_size=300).map(np.array)


@pytest.mark.parametrize(("share", "least"), [(0.5, 11), (0.9, 64), (0.95, 130), (0.99, 662)])
def test_the_fewest_samples_of_each_quantile(share: float, least: int) -> None:
    """By the binomial rule, checked against scipy on both sides of the border."""
    assert minimum_samples(share) == least
    assert stats.binom.cdf(1, least, 1 - share) <= 0.01 < stats.binom.cdf(1, least - 1, 1 - share)


@pytest.mark.parametrize(("name", "share"), SHARES.items())
def test_a_quantile_stands_from_its_fewest_samples_on(name: str, share: float) -> None:
    """One sample fewer, and it is left out."""
    least = minimum_samples(share)
    enough, lacking = latency(upto(least)), latency(upto(least - 1))
    assert enough is not None
    assert lacking is not None
    assert name in enough.quantiles
    assert name not in lacking.quantiles


def test_of_662_samples_the_upper_bound_of_p99_is_none_of_chance() -> None:
    """It is a sample, so the interval is closed."""
    found = latency(np.random.default_rng(1).permutation(upto(662)))
    assert found is not None
    assert found.quantiles["p99"].value == 655  # the 656th of 662
    assert found.quantiles["p99"].high is not None


def test_no_values_no_distribution() -> None:
    """Rather than one of zeros."""
    assert latency(np.array([])) is None
    assert plain_quantile(np.array([]), 0.5) is None


@settings(deadline=None)
@given(values)
def test_a_quantile_is_numpys_inverted_cdf_and_lies_in_its_interval(data: np.ndarray) -> None:
    """Whatever the samples."""
    found = latency(data)
    assert found is not None
    for name, interval in found.quantiles.items():
        assert interval.value == np.quantile(data, SHARES[name], method="inverted_cdf")
        assert interval.low is None or interval.low <= interval.value
        assert interval.high is None or interval.value <= interval.high


@settings(deadline=None)
@given(values, st.integers(0, 200))
def test_unanswered_requests_only_ever_lengthen_a_quantile(data: np.ndarray, unanswered: int) -> None:
    """They rank as longer than all others: never a shorter quantile, and none among them."""
    alone, censored = latency(data), latency(data, unanswered=unanswered)
    assert alone is not None
    assert censored is not None
    assert censored.n == len(data)
    whole = np.concatenate([data, np.full(unanswered, np.inf)])
    for name, interval in censored.quantiles.items():
        assert interval.value == np.quantile(whole, SHARES[name], method="inverted_cdf")
        assert name not in alone.quantiles or interval.value >= alone.quantiles[name].value


def test_a_quantile_among_the_unanswered_is_left_out_and_named() -> None:
    """With 3 % unanswered there is a p95, and no p99."""
    found = latency(upto(970), unanswered=30)
    assert found is not None
    assert list(found.quantiles) == ["p50", "p90", "p95"]
    assert missing_quantiles(found, 30) == ("p99",)
    assert found.quantiles["p95"].value == 949


def test_clustered_samples_widen_the_interval() -> None:
    """A thousand gaps of twenty requests tell no more than twenty samples would."""
    rng = np.random.default_rng(3)
    data = np.repeat(rng.permutation(20), 50) * 50.0 + rng.random(1000)
    plain, clustered = latency(rng.permutation(data)), latency(data, clusters=20)
    assert plain is not None
    assert clustered is not None
    narrow, wide = plain.quantiles["p50"], clustered.quantiles["p50"]
    assert (narrow.low or 0.0, narrow.high or 0.0) == pytest.approx((475, 525), abs=55)
    assert (wide.low or 0.0) <= 300
    assert (wide.high or 0.0) >= 700
    assert clustered.quantiles["p99"].high is None


QUEUE_RUNS, QUEUE_REQUESTS = 120, 1000
SERVICE_MS = 100.0


def _queue_runs(busy: float) -> list[Latency]:
    """M/M/1: times in system of a thousand requests each, far from the start (Lindley's recursion)."""
    rng = np.random.default_rng(1)
    count = QUEUE_REQUESTS + 2000
    steps = (
        rng.exponential(SERVICE_MS, (QUEUE_RUNS, count)),
        rng.exponential(SERVICE_MS / busy, (QUEUE_RUNS, count)),
    )
    walks = np.cumsum(np.pad((steps[0] - steps[1])[:, :-1], ((0, 0), (1, 0))), axis=1)
    waits = walks - np.minimum.accumulate(walks, axis=1)
    found = [latency(run) for run in (waits + steps[0])[:, 2000:]]
    return [one for one in found if one is not None]


@pytest.mark.parametrize("busy", [0.5, 0.8])
def test_the_interval_holds_the_true_quantile_of_a_queue(busy: float) -> None:
    """Whose times in system are known: exponential, with the mean of a service over what is idle."""
    runs = _queue_runs(busy)
    for name in ("p50", "p95", "p99"):
        true = -np.log(1 - SHARES[name]) * SERVICE_MS / (1 - busy)
        told = [one.quantiles[name] for one in runs]
        held = [(one.low or 0.0) <= true <= (np.inf if one.high is None else one.high) for one in told]
        assert np.mean(held) >= 0.85, name
    assert np.mean([one.quantiles["p50"].high is not None for one in runs]) > 0.9


@pytest.mark.parametrize("busy", [0.5, 0.8])
def test_two_runs_of_one_queue_are_no_change(busy: float) -> None:
    """At most one in ten is called one."""
    runs = _queue_runs(busy)
    for name in ("p50", "p95", "p99"):
        gaps = [
            difference(a.quantiles[name], b.quantiles[name])
            for a, b in zip(runs[::2], runs[1::2], strict=True)
        ]
        changed = [(gap.low or 0.0) > 0 or (gap.high or 0.0) < 0 for gap in gaps]
        assert np.mean(changed) <= 0.1, name


def test_a_pause_that_only_the_tail_knows_opens_its_interval() -> None:
    """Twenty requests in a row that waited two seconds are one event; in a thousand they are no p99."""
    data = np.random.default_rng(2).normal(100, 10, 1000)
    data[500:520] += 2000
    paused, mixed = latency(data), latency(np.random.default_rng(3).permutation(data))
    assert paused is not None
    assert mixed is not None
    assert paused.quantiles["p99"].high is None
    assert mixed.quantiles["p99"].high is not None


def test_equal_values_do_not_seem_to_climb() -> None:
    """Yes and no by chance are as many samples as there are; in rows of twenty, as many as rows."""
    good = np.random.default_rng(1).random(1000) < 0.95
    assert effective_samples(good.astype(np.float64)) > 800
    assert effective_samples(np.ones(1000)) == 1000
    assert effective_samples(np.repeat(good[:50], 20).astype(np.float64)) < 120
    lone, rows = attainment(good), attainment(np.sort(good))
    assert lone.value == rows.value
    assert (lone.low or 0.0) > 0.9
    assert (rows.low or 0.0) < 0.8


@pytest.mark.parametrize("independent", [1.0, 12.5, 500.0])
def test_a_share_of_fewer_independent_ones_has_a_wider_interval(independent: float) -> None:
    """And the same value."""
    plain, alike = share_interval(480, 500), share_interval(480, 500, independent)
    assert alike.value == plain.value
    assert (alike.low or 0.0) <= (plain.low or 0.0)
    assert (alike.high or 1.0) >= (plain.high or 1.0)
    assert (independent < 500) is ((alike.low or 0.0) < (plain.low or 0.0) - 1e-9)


def test_the_interval_holds_the_true_quantile_nineteen_times_in_twenty() -> None:
    """200 experiments (seeded) with a known median: 190 are the mean, 184 to 196 two standard deviations."""
    held = 0
    for data in np.random.default_rng(1).exponential(1.0, (200, 101)):
        found = latency(data)
        assert found is not None
        interval = found.quantiles["p50"]
        assert interval.low is not None
        assert interval.high is not None
        held += interval.low <= np.log(2) <= interval.high
    assert 184 <= held <= 198


def test_the_mean_of_a_few_values_has_students_interval() -> None:
    """Worked by hand: mean 12, deviation 1, t(2) = 4.303; no mean of times lies below zero."""
    found = mean_interval(np.array([11.0, 12.0, 13.0]))
    assert [found.low, found.high] == pytest.approx([9.516, 14.484], abs=1e-3)
    assert mean_interval(np.array([1.0, 2.0, 3.0])).low == 0.0


def _times_in_a_queue(requests: int, load: float, seed: int) -> Floats:
    """Of requests at a server that takes 1 on average, in its steady state (Lindley's recursion)."""
    rng = np.random.default_rng(seed)
    gaps, work = rng.exponential(1 / load, requests + 500), rng.exponential(1.0, requests + 500)
    times, wait = np.empty(requests + 500), 0.0
    for i in range(len(times)):
        wait = max(0.0, wait - gaps[i])
        wait = times[i] = wait + work[i]
    return times[500:]


def test_the_interval_of_a_mean_minds_that_requests_wait_for_each_other() -> None:
    """A queue's mean time at half load is 2: Student's over 100 single times holds it half the time."""
    found = [mean_interval(_times_in_a_queue(100, 0.5, seed)) for seed in range(200)]
    assert sum((one.low or 0.0) <= 2.0 <= (one.high or 0.0) for one in found) > 140


def test_where_all_were_good_the_waiting_tells_how_sure_that_is() -> None:
    """At a load of 0.8, 98.2 % of all take 20 or less: that 300 in a row do is no proof of more."""
    times = [_times_in_a_queue(300, 0.8, seed) for seed in range(200)]
    held = [attainment(one <= 20, one) for one in times]
    assert sum((one.low or 0.0) <= 0.9817 <= (one.high or 0.0) for one in held) > 180
    alone = [attainment(one <= 20) for one in times]
    assert sum((one.low or 0.0) <= 0.9817 <= (one.high or 0.0) for one in alone) < 100


def test_the_mean_of_neighbours_that_are_alike_has_a_wider_interval() -> None:
    """A slow wave: single values would claim far more certainty than there is."""
    wave = np.sin(np.linspace(0, 2 * np.pi, 2000))
    shuffled = np.random.default_rng(1).permutation(wave)
    in_time, mixed = mean_interval(wave), mean_interval(shuffled)
    assert in_time.high is not None
    assert mixed.high is not None
    assert in_time.high - in_time.value > 5 * (mixed.high - mixed.value)


def test_one_value_has_no_interval() -> None:
    """There is nothing to tell its spread from."""
    assert mean_interval(np.array([3.0])).low is None


def test_a_rate_counts_what_falls_in_the_window_and_weighs_it() -> None:
    """Two tokens every tenth of a second, from 10 s to 30 s; all alike, so the interval is a point."""
    times = np.linspace(0.05, 39.95, 400)
    found = rate_interval(times, np.full(len(times), 2.0), (10.0, 30.0))
    assert [found.value, found.low, found.high] == pytest.approx([20.0, 20.0, 20.0])


def test_that_nothing_came_does_not_prove_that_nothing_comes() -> None:
    """In 10 s of 0.3689 a second nothing comes one time in 40; three tokens at a time weigh three times."""
    none = rate_interval(np.array([]), np.array([]), (0.0, 10.0))
    assert [none.value, none.low, none.high] == pytest.approx([0.0, 0.0, 0.3689], abs=1e-4)
    late = rate_interval(np.array([11.0, 12.0]), np.array([2.0, 4.0]), (0.0, 10.0))
    assert [late.value, late.high] == pytest.approx([0.0, 1.1067], abs=1e-4)


def test_a_rate_over_no_time_is_zero_without_an_interval() -> None:
    """Not a division by zero."""
    found = rate_interval(np.array([1.0]), np.array([1.0]), (1.0, 1.0))
    assert (found.value, found.low) == (0.0, None)


def test_a_share_has_wilsons_interval() -> None:
    """Wilson's own example class: 0 of 10 reaches up to 27.8 %; of nothing nothing is known."""
    assert share_interval(0, 10).high == pytest.approx(0.2775, abs=1e-3)
    assert share_interval(10, 10).low == pytest.approx(1 - 0.2775, abs=1e-3)
    assert share_interval(0, 0).low is None


@settings(deadline=None)
@given(st.integers(0, 500), st.integers(0, 500))
def test_a_share_lies_in_its_interval(good: int, bad: int) -> None:
    """And the interval lies between 0 and 1."""
    found = share_interval(good, good + bad)
    if found.low is not None and found.high is not None:
        assert 0 <= found.low <= found.value <= found.high <= 1
