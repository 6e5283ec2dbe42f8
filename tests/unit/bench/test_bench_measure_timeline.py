"""A cell second by second, its curves, and whether it was over capacity."""

from __future__ import annotations

import heapq

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic_runs import failed, queued, record, run_of, steady, upto

from dreamseed_cli.bench.cell_run import CellRun
from dreamseed_cli.bench.measure.columns import columns
from dreamseed_cli.bench.measure.overload import over_capacity
from dreamseed_cli.bench.measure.steady import Window
from dreamseed_cli.bench.measure.timeline import CURVE_POINTS, curve, timeline
from dreamseed_cli.bench.measure.tokens import token_events
from dreamseed_cli.bench.records import Ending
from dreamseed_cli.bench.result import Moment
from dreamseed_cli.bench.shapes import Rate, Streams

times = st.lists(st.floats(0, 1e6), min_size=1, max_size=2000).map(np.array)


def moments_of(run: CellRun) -> tuple[Moment, ...]:
    """The seconds of a run."""
    cols = columns(run.records)
    return timeline(cols, token_events(cols), run.ended_s)


def test_every_second_has_what_happened_in_it() -> None:
    """One answer of 1.5 s due at 0.0, one failure at 1.2 s, three seconds in all."""
    run = run_of([record(0, 0.0, ttft_s=0.5, itl_s=0.25, tokens=5), failed(1, 1.2)], ended_s=2.5)
    first, second, third = moments_of(run)
    assert (first.in_flight, first.output_tokens_per_s, first.requests_per_s, first.failed) == (1, 2, 0, 0)
    assert (second.in_flight, second.output_tokens_per_s, second.requests_per_s, second.failed) == (
        0,
        3,
        1,
        1,
    )
    assert first.ttft_p50_ms == pytest.approx(500)
    assert second.ttft_p50_ms is None
    assert third == Moment(t_s=2.0, in_flight=0, requests_per_s=0.0, output_tokens_per_s=0.0)


def test_the_delay_of_a_queue_stands_where_its_requests_were_due() -> None:
    """300/s at 200/s: each second adds half of one to the wait."""
    medians = [one.ttft_p50_ms for one in moments_of(run_of(queued(300, 200, 10)))]
    assert medians[:10] == [pytest.approx(50 + 250 + 500 * second, abs=10) for second in range(10)]
    assert medians[10:] == [None] * len(medians[10:])


def test_nothing_is_lost_between_the_seconds() -> None:
    """Requests, tokens and failures add up, those under way at the end included."""
    left = [record(900 + n, 5.0, end_s=None, ending=Ending.ABANDONED) for n in range(3)]
    moments = moments_of(run_of([*steady(7, 20), *left, failed(990, 3.3)], ended_s=25.0))
    assert len(moments) == 25
    assert sum(one.requests_per_s for one in moments) == 140
    assert sum(one.output_tokens_per_s for one in moments) == 1400 + 30
    assert sum(one.failed for one in moments) == 4
    assert moments[22].in_flight == 3


def test_a_cell_without_requests_has_one_empty_second() -> None:
    """So that a plot has an axis."""
    assert moments_of(run_of([], ended_s=0.0)) == (
        Moment(t_s=0.0, in_flight=0, requests_per_s=0.0, output_tokens_per_s=0.0),
    )


@settings(deadline=None)
@given(times, st.integers(0, 100))
def test_a_curve_is_the_distribution_thinned(data: np.ndarray, unanswered: int) -> None:
    """It climbs, each point is true to the whole sample, it keeps both ends and has at most 200 points."""
    points = curve(data, unanswered)
    assert 0 < len(points) <= CURVE_POINTS
    assert list(points) == sorted(points)
    assert points[0] == (data.min(), 1 / (len(data) + unanswered))
    assert points[-1] == (data.max(), len(data) / (len(data) + unanswered))
    for value, share in points:
        assert (data < value).sum() < round(share * (len(data) + unanswered)) <= (data <= value).sum()


def test_a_curve_keeps_its_tail() -> None:
    """Of 100,000 samples the last ten are points of their own."""
    shares = [share for _, share in curve(upto(100_000))]
    assert sum(share > 0.9999 for share in shares) >= 8


def test_no_values_no_curve() -> None:
    """Rather than a point at zero."""
    assert curve(np.array([])) == ()


def is_over(run: CellRun) -> bool:
    """Whether a run was over capacity, the whole of it as the window."""
    cols, window = columns(run.records), Window(0.0, run.cell.duration_s)
    return over_capacity(run.cell.shape, cols, token_events(cols), window, run.ended_s)


@pytest.mark.parametrize(("server_per_s", "over"), [(400, False), (101, False), (90, True), (50, True)])
def test_a_growing_queue_is_over_capacity(server_per_s: float, over: bool) -> None:
    """100 requests a second for a minute."""
    assert is_over(run_of(queued(100, server_per_s, 60), Rate(100.0, "constant"))) is over


def places(seed: int, per_s: float, *, count: int, answer_s: float, seconds: float = 60.0) -> CellRun:
    """Poisson arrivals at a server of so many places, whose answers take so long: what an engine is."""
    rng = np.random.default_rng(seed)
    due = np.sort(rng.uniform(0, seconds, rng.poisson(per_s * seconds)))
    free, records = [0.0] * count, []
    for number, at in enumerate(due):
        begun = max(float(at), heapq.heappop(free))
        heapq.heappush(free, begun + answer_s)
        ttft_s = begun - float(at) + answer_s / 10
        records.append(record(number, float(at), ttft_s=ttft_s, itl_s=answer_s / 10))
    return run_of(records, Rate(per_s), cell_duration_s=seconds)


@pytest.mark.parametrize(("count", "answer_s"), [(1, 0.1), (40, 4.0)])
def test_poisson_arrivals_below_capacity_are_not_over_it(count: int, answer_s: float) -> None:
    """90 % of what the server takes: the queue comes and goes."""
    assert not any(is_over(places(seed, 9.0, count=count, answer_s=answer_s)) for seed in range(10))


@pytest.mark.parametrize(("count", "answer_s"), [(1, 0.1), (40, 4.0)])
def test_a_tenth_too_much_is_seen_within_a_minute(count: int, answer_s: float) -> None:
    """11 requests a second at a server of 10: against chance in the arrivals alone, most runs look alike."""
    assert sum(is_over(places(seed, 11.0, count=count, answer_s=answer_s)) for seed in range(10)) >= 8


def test_long_answers_that_are_still_to_come_are_no_overload() -> None:
    """A cell of 20 s and answers of 19 s: the number under way grows in any system."""
    assert not is_over(run_of([record(n, n / 10, ttft_s=19.0) for n in range(200)]))


def test_a_closed_loop_cannot_be_over_capacity() -> None:
    """It asks only as fast as it is answered."""
    assert not is_over(run_of(queued(100, 50, 60), Streams(100)))
