"""Numbers as a report writes them: short, and never more than was measured."""

from __future__ import annotations

import pytest
from bench_results import batching_suite, cell
from hypothesis import given
from hypothesis import strategies as st

from dreamseed_cli.bench.report.words import (
    fact,
    load_words,
    measure,
    number,
    overload,
    percent,
    spread,
    stem_of,
)
from dreamseed_cli.bench.result import Interval, Moment

sizes = st.floats(min_value=1e-4, max_value=1e9)


@given(sizes, st.sampled_from([1, -1]))
def test_a_number_is_within_half_a_percent_of_what_it_says(size: float, sign: int) -> None:
    """Three digits are enough for that, with and without the zeros that end them."""
    for text in (number(sign * size), measure(sign * size)):
        assert float(text.replace(",", "")) == pytest.approx(sign * size, rel=0.0051)


@given(st.floats(min_value=0, max_value=1))
def test_all_is_said_only_of_all(share: float) -> None:
    """One failure in a million is not 100 %."""
    said = float(percent(share).removesuffix(" %"))
    assert (said == 100) == (share == 1)
    assert said == pytest.approx(share * 100, abs=0.11)


@pytest.mark.parametrize(
    ("value", "short", "exact"),
    [
        (12345.6, "12,346", "12,346"),
        (4.0, "4", "4.00"),
        (0.0, "0", "0"),
        (None, "-", "-"),
        (999.7, "1,000", "1,000"),
    ],
)
def test_how_numbers_look(value: float | None, short: str, exact: str) -> None:
    """Thousands apart; a measured figure keeps the zeros that tell how exact it is."""
    assert (number(value), measure(value)) == (short, exact)


def test_an_interval_is_written_only_where_there_is_one() -> None:
    """No low or no high end: nothing is made up."""
    assert spread(Interval(value=5.0, low=4.5, high=5.5)) == "4.50-5.50"
    assert spread(Interval(value=5.0)) == ""
    assert spread(None) == ""


def test_facts_of_a_table_are_words() -> None:
    """Numbers, words, yes and no, and nothing."""
    assert [fact(value) for value in (5321.4, "8GB", True, False, None)] == ["5,321", "8GB", "yes", "no", "-"]


def test_a_growing_queue_is_told_by_the_window_alone() -> None:
    """Before it, and after it, other things happen; without a second in it there is no number."""
    seconds = tuple(
        Moment(t_s=float(s), in_flight=100 * s, requests_per_s=1.0, output_tokens_per_s=1.0)
        for s in range(30)
    )
    one = batching_suite().cells[3].model_copy(update={"window_s": (10.0, 20.0)})
    assert "(900 at first, 1,900 in the end)" in overload(one.model_copy(update={"timeline": seconds}))
    assert "(" not in overload(one.model_copy(update={"timeline": ()}))


def test_a_load_is_told_with_its_unit() -> None:
    """And cells of one name but for the load are one sweep."""
    streams = batching_suite().cells[3]
    rate = cell({"type": "rate", "per_s": 2.5, "arrivals": "poisson"}, tokens_per_s=500.0, ttft_ms=90.0)
    assert [load_words(one) for one in (streams, rate)] == ["8 streams", "2.5 requests/s"]
    assert [stem_of(one) for one in (streams, rate)] == ["streams", "poisson"]
    assert stem_of(rate.model_copy(update={"name": "spike"})) == "spike"
