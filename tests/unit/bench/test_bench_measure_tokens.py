"""Tokens are the server's count: chunks of several tokens, silent servers and false usage."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic_runs import failed, record, textless

from dreamseed_cli.bench.measure.columns import columns
from dreamseed_cli.bench.measure.tokens import (
    e2e_ms,
    gaps,
    kept_slo,
    scheduling_delay_ms,
    token_events,
    tpot_ms,
    ttft_from_send_ms,
    ttft_ms,
)
from dreamseed_cli.bench.records import Ending, Record


def pieces(times: list[float], totals: list[int], tokens: int | None, *, number: int = 0) -> Record:
    """A complete answer whose pieces came at these times, with these running totals."""
    ends = {"first_token_s": times[0], "last_token_s": times[-1], "end_s": times[-1]}
    told: dict[str, Any] = {"piece_s": times, "piece_tokens": totals, "completion_tokens": tokens, **ends}
    return record(number, 0.0, **told)


def gaps_of(one: Record) -> list[float]:
    """Of one record, in ms."""
    return [float(gap) for gap in gaps(columns([one])).ms.round(6)]


def test_latencies_count_from_the_scheduled_time_and_from_the_send() -> None:
    """Sent 2 s late, first token 0.1 s after that."""
    cols = columns([record(0, 1.0, sent_late_s=2.0, ttft_s=0.1, itl_s=0.05, tokens=11)])
    assert ttft_ms(cols)[0] == pytest.approx(2100)
    assert ttft_from_send_ms(cols)[0] == pytest.approx(100)
    assert scheduling_delay_ms(cols)[0] == pytest.approx(2000)
    assert e2e_ms(cols)[0] == pytest.approx(2600)
    assert tpot_ms(cols)[0] == pytest.approx(50)


def test_tpot_is_by_usage_and_not_by_pieces() -> None:
    """Three pieces, eleven tokens, one second between first and last: 100 ms."""
    assert tpot_ms(columns([pieces([0.0, 0.5, 1.0], [1, 6, 11], 11)]))[0] == pytest.approx(100)


def test_one_token_has_no_tpot_and_no_gap() -> None:
    """Nor does it spoil the mean with a zero."""
    cols = columns([record(0, 0.0, tokens=1)])
    assert np.isnan(tpot_ms(cols)[0])
    assert len(gaps(cols).ms) == 0


def test_an_answer_in_one_moment_has_no_tpot_and_no_gap() -> None:
    """Through a proxy that holds streams back; 0 ms would be the best there is. A cache may do so."""
    cols = columns([pieces([1.0], [0], 200), pieces([1.0, 1.0], [1, 200], 200, number=1)])
    assert np.isnan(tpot_ms(cols)).all()
    assert (len(gaps(cols).ms), gaps(cols).at_once, gaps(cols).untold) == (0, 2, 0)
    cached = pieces([1.0], [200], 200)
    cached.cache_hit = True
    assert gaps(columns([cached])).at_once == 0


def test_tpot_counts_from_the_first_token_though_it_showed_nothing() -> None:
    """Else a server that holds its text back until the end would have the best there is."""
    held = pieces([0.0, 0.9, 1.0], [1, 2, 11], 11)
    held.first_token_s = 0.9
    assert tpot_ms(columns([held]))[0] == pytest.approx(100)
    assert ttft_ms(columns([held]))[0] == pytest.approx(900)


def test_a_piece_of_several_tokens_counts_as_so_many_gaps() -> None:
    """One token, then four at once 400 ms later: four gaps of 100 ms."""
    assert gaps_of(pieces([0.0, 0.4, 0.5], [1, 5, 6], 6)) == [100, 100, 100, 100, 100]


def test_a_piece_without_a_total_lends_its_time_to_the_next() -> None:
    """The tokens of both came in that time; which in which is not known."""
    assert gaps_of(pieces([0.0, 0.1, 0.4], [1, 0, 5], 5)) == [100, 100, 100, 100]


def test_a_last_piece_without_a_total_has_that_of_the_usage() -> None:
    """It comes with the usage just behind it."""
    assert gaps_of(pieces([0.0, 0.1, 0.3], [1, 2, 0], 4)) == [100, 100, 100]


def test_without_totals_pieces_are_tokens_only_if_there_are_as_many() -> None:
    """Else the request gives no gaps, and is counted."""
    assert gaps_of(pieces([0.0, 0.1, 0.3], [0, 0, 0], 3)) == [100, 200]
    found = gaps(columns([pieces([0.0, 0.1, 0.3], [0, 0, 0], 7)]))
    assert (len(found.ms), found.untold) == (0, 1)


def test_gaps_do_not_reach_from_one_request_into_the_next() -> None:
    """Each stands alone, also when the second begins long after the first."""
    cols = columns([record(0, 0.0, tokens=3, itl_s=0.1), record(1, 100.0, tokens=2, itl_s=0.3)])
    assert gaps(cols).ms.round(6).tolist() == [100, 100, 300]
    assert gaps(cols).requests == 2


@pytest.mark.parametrize("ending", [Ending.CUT, Ending.MISCOUNTED, Ending.WRONG_LENGTH, Ending.STALLED])
def test_only_complete_answers_give_gaps_and_tpot(ending: Ending) -> None:
    """What was broken off is no answer; its first token was one all the same."""
    cols = columns([record(0, 0.0, ending=ending)])
    assert len(gaps(cols).ms) == 0
    assert np.isnan(tpot_ms(cols)[0])
    assert np.isnan(e2e_ms(cols)[0])
    assert ttft_ms(cols)[0] == pytest.approx(100)


def test_tokens_arrive_with_their_pieces() -> None:
    """By the running totals; within a span only what came then."""
    events = token_events(columns([pieces([1.0, 2.0, 3.0], [1, 5, 6], 6)]))
    assert events.within(0, 1.5) == 1
    assert events.within(1.5, 2.5) == 4
    assert events.within(0, 10) == 6


def test_without_totals_tokens_are_spread_over_the_pieces() -> None:
    """Nine tokens in three pieces."""
    events = token_events(columns([pieces([1.0, 2.0, 3.0], [0, 0, 0], 9)]))
    assert events.within(1.5, 2.5) == pytest.approx(3)


def test_a_token_without_text_comes_last() -> None:
    """Usage tells one more than the pieces did: the stop token."""
    events = token_events(columns([pieces([1.0, 2.0], [1, 2], 3)]))
    assert events.within(1.5, 2.5) == 2
    assert events.within(0, 10) == 3


def test_false_usage_adds_no_tokens_and_a_cut_answer_those_it_was_told_of() -> None:
    """MISCOUNTED: none of it can be believed. CUT: the totals until then."""
    lie = record(0, 0.0, ending=Ending.MISCOUNTED, completion_tokens=1000)
    cut = record(1, 0.0, tokens=4, ending=Ending.CUT, completion_tokens=None)
    events = token_events(columns([lie, cut, failed(2, 0.0)]))
    assert events.within(0, 100) == 4


@settings(deadline=None)
@given(st.lists(st.lists(st.integers(0, 5), min_size=1, max_size=8), min_size=1, max_size=6))
def test_tokens_are_kept_and_gaps_add_up(growths: list[list[int]]) -> None:
    """Whatever comes in which piece, tokens add up to the usage, and gaps to the time between told pieces."""
    cols = columns(
        pieces(
            [0.1 * step for step in range(len(grown))], np.cumsum(grown).tolist(), sum(grown), number=number
        )
        for number, grown in enumerate(growths)
    )
    told = [np.flatnonzero(grown) for grown in growths]
    assert token_events(cols).within(-1, 100) == pytest.approx(sum(map(sum, growths)))
    assert gaps(cols).ms.sum() == pytest.approx(sum(100.0 * (at[-1] - at[0]) for at in told if len(at)))


def test_a_request_is_good_if_complete_and_in_time() -> None:
    """Each limit alone is enough to miss; the TTFT is the one from the scheduled time."""
    cols = columns(
        [
            record(0, 0.0, ttft_s=0.5),
            record(1, 0.0, ttft_s=1.5),
            record(2, 0.0, ttft_s=0.5, itl_s=0.2),
            record(3, 0.0, ttft_s=0.5, sent_late_s=1.0),
            record(4, 0.0, ttft_s=0.5, ending=Ending.CUT),
            failed(5, 0.0),
            record(6, 0.0, ttft_s=0.5, tokens=1),
        ]
    )
    assert kept_slo(cols, 1000, 100).tolist() == [True, False, False, False, False, False, True]


def test_an_answer_without_text_is_there_when_it_ends() -> None:
    """A static file has no first token."""
    files = [textless(0, 0.0, end_s=0.2), textless(1, 0.0, end_s=2.0)]
    assert kept_slo(columns(files), 1000, 100).tolist() == [True, False]
