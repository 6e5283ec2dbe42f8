"""The steady window: warm-up trimmed by MSER-5, drain left out, never more than half."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic_runs import record, run_of, steady, textless, upto

from dreamseed_cli.bench.cell_run import CellRun
from dreamseed_cli.bench.measure.columns import columns
from dreamseed_cli.bench.measure.steady import Window, mser5, steady_window
from dreamseed_cli.bench.measure.tokens import token_events
from dreamseed_cli.bench.shapes import Replay, Streams


def window_of(run: CellRun) -> Window:
    """The steady window of a run."""
    cols = columns(run.records)
    return steady_window(run.cell, cols, token_events(cols), run.ended_s)


@settings(deadline=None)
@given(st.floats(0, 1e9), st.integers(0, 300))
def test_a_constant_series_trims_nothing(level: float, size: int) -> None:
    """Not even by the noise of the arithmetic."""
    assert mser5(np.full(size, level)).observations == 0


@settings(deadline=None)
@given(st.lists(st.floats(0, 1e6), max_size=300))
def test_never_more_than_half_is_trimmed(series: list[float]) -> None:
    """Whatever the series."""
    assert mser5(np.array(series)).observations <= len(series) / 2


@settings(deadline=None)
@given(st.integers(10, 80), st.integers(1, 50))
def test_a_ramp_before_a_plateau_is_trimmed(ramp: int, level: int) -> None:
    """All of it, but for at most a batch and the last steps, which are as good as level."""
    series = np.concatenate([np.linspace(0, level, ramp, endpoint=False), np.full(200 - ramp, float(level))])
    cut = mser5(series)
    assert 0.75 * ramp - 5 <= cut.observations <= ramp + 5
    assert cut.settled


def test_a_series_that_never_settles_says_so() -> None:
    """A ramp to the end: half is cut, and not more."""
    assert mser5(upto(200)).observations == 100
    assert not mser5(upto(200)).settled


def test_warm_up_and_drain_are_left_out() -> None:
    """The first 10 s bring a tenth of the tokens; the last answers come 5 s after the last arrival."""
    cold = [record(n, n / 10, tokens=2) for n in range(100)]
    warm = [record(100 + n, 10 + n / 10, tokens=20, ttft_s=5.0 if n > 480 else 0.1) for n in range(500)]
    run = run_of([*cold, *warm])
    window = window_of(run)
    assert window.start_s == pytest.approx(10, abs=2)
    assert window.end_s == pytest.approx(59.9)
    assert run.ended_s > 64
    assert window.notes == ()


def test_the_window_starts_no_earlier_than_the_ramp_ends() -> None:
    """Even if the flow of tokens would allow it."""
    run = run_of(steady(10, 60), Streams(8, ramp_s=20.0))
    assert window_of(run).start_s == pytest.approx(20.0)


def test_a_ramp_over_half_of_the_cell_is_noted() -> None:
    """Half stays, and the reader knows that part of the ramp is in it."""
    window = window_of(run_of(steady(10, 60), Streams(8, ramp_s=50.0)))
    assert window.start_s == pytest.approx(59.9 / 2)
    assert "ramp" in window.notes[0]


@pytest.mark.parametrize("number", [0, 1, 9])
def test_too_few_samples_leave_the_whole_cell(number: int) -> None:
    """Drain included, and noted."""
    run = run_of(steady(1, number), ended_s=30.0)
    window = window_of(run)
    assert window.span_s == (0.0, 30.0)
    assert window.notes


def test_streams_are_steady_until_no_more_are_begun() -> None:
    """Sixteen streams with answers of 4 s: the last ones begin at 28 s, and all are busy until 30 s."""
    streams = [record(n, (n // 16) * 4.0, ttft_s=0.1, itl_s=0.1, tokens=40) for n in range(16 * 8)]
    window = window_of(run_of(streams, Streams(16), cell_duration_s=30.0))
    assert window.end_s == 30.0


def test_a_cap_ends_the_window_with_the_last_arrival() -> None:
    """After it the streams run out, long before the planned time."""
    run = run_of(steady(10, 30), Streams(3), cell_duration_s=600.0, cell_requests=300)
    assert window_of(run).end_s == pytest.approx(29.9)


def test_a_trace_ends_the_window_with_its_last_request() -> None:
    """Its cell may be planned longer."""
    run = run_of(steady(10, 30), Replay("x", 600.0), cell_duration_s=600.0)
    assert window_of(run).end_s == pytest.approx(29.9)


def test_answers_longer_than_the_cell_leave_it_whole() -> None:
    """All streams begin in the ramp, and none again: behind the ramp no request was due."""
    streams = [record(n, n / 8, ttft_s=0.1, itl_s=0.5, tokens=64) for n in range(16)]
    run = run_of(streams, Streams(16, ramp_s=2.0), cell_duration_s=30.0)
    assert window_of(run).span_s == (0.0, run.ended_s)


def test_requests_all_begun_at_once_leave_the_whole_cell() -> None:
    """There is no time between first and last arrival to take a rate over."""
    run = run_of([record(n, 0.0) for n in range(100)])
    assert window_of(run).span_s == (0.0, run.ended_s)


def test_without_tokens_the_flow_is_that_of_ended_requests() -> None:
    """Static files: none end in the first 10 s."""
    files = [textless(n, n / 10, end_s=max(n / 10, 10.0) + 0.01) for n in range(600)]
    assert window_of(run_of(files)).start_s == pytest.approx(11, abs=2)
