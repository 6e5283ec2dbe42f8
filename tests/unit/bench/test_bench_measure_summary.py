"""From records to a result: known answers, and above all the overload that others hide."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic_runs import SLO, failed, queued, record, run_of, steady, textless

from dreamseed_cli.bench.cell_run import PowerSample, ServerView
from dreamseed_cli.bench.measure.summary import summarise
from dreamseed_cli.bench.records import Ending
from dreamseed_cli.bench.result import CellResult, Latency
from dreamseed_cli.bench.shapes import Rate, Replay, Streams

OVERLOAD: dict[str, Any] = {"shape": Rate(300.0, "constant"), "cell_duration_s": 30.0}


def p99_ms(found: Latency | None) -> float:
    """Which must be there."""
    assert found is not None
    return found.quantiles["p99"].value


COLD = ServerView(prefix_queries=100, prefix_hits=0)


def rules(found: CellResult) -> set[str]:
    """Those that were broken."""
    return {problem.rule for problem in found.problems}


def test_a_steady_load_has_the_figures_it_was_made_with() -> None:
    """Ten requests a second, 50 + 10 tokens each, TTFT 100 ms, ITL 20 ms."""
    found = summarise(run_of(steady(10, 100), cell_duration_s=100.0, server=COLD), SLO)
    assert found.valid
    assert found.notes == ()
    assert found.ttft is not None
    assert found.itl is not None
    assert found.e2e is not None
    assert found.tpot is not None
    assert found.ttft.quantiles["p99"].value == pytest.approx(100)
    assert found.itl.mean.value == pytest.approx(20)
    assert found.tpot.quantiles["p50"].value == pytest.approx(20)
    assert found.e2e.quantiles["p50"].value == pytest.approx(280)
    assert found.output_tokens_per_s.value == pytest.approx(100, rel=0.01)
    assert found.total_tokens_per_s.value == pytest.approx(600, rel=0.01)
    assert found.requests_per_s.value == found.goodput_per_s.value == pytest.approx(10, rel=0.01)
    assert found.slo_attainment.value == 1
    assert found.achieved_rate_per_s == pytest.approx(10)
    assert (found.prompt_tokens_mean, found.output_tokens_mean) == (50, 10)
    assert found.peak_in_flight == 3
    assert found.endings == {"complete": found.requests}


def test_overload_sent_on_time_shows_its_delay_and_is_valid() -> None:
    """300/s at a server of 200/s: the last ones wait 15 s. That is the server's doing, and a finding."""
    found = summarise(run_of(queued(300, 200, 30), **OVERLOAD), SLO)
    assert (found.valid, found.over_capacity) == (True, True)
    assert p99_ms(found.ttft) == pytest.approx(14_900, abs=100)
    assert p99_ms(found.ttft_from_send) == pytest.approx(14_900, abs=100)
    assert found.requests_per_s.value == pytest.approx(200, rel=0.01)
    assert found.slo_attainment.value < 0.1


def test_overload_sent_late_shows_the_same_delay_and_is_invalid() -> None:
    """A load that itself sends 200/s: from the send it looks like 50 ms."""
    found = summarise(run_of(queued(300, 200, 30, sent_at_per_s=200), **OVERLOAD), SLO)
    assert p99_ms(found.ttft_from_send) == pytest.approx(50)
    assert p99_ms(found.ttft) == pytest.approx(14_900, abs=100)
    assert rules(found) == {"achieved-rate", "scheduling-delay"}
    assert found.achieved_rate_per_s == pytest.approx(200, rel=0.01)
    assert found.asked_rate_per_s == 300


def test_requests_of_the_window_count_however_late_they_end() -> None:
    """The slowest tenth of all, due late in the cell, ends in the drain: it is in the p99 all the same."""
    records = [record(n, n / 20, ttft_s=30.0 if n % 10 == 0 else 0.1) for n in range(1000)]
    found = summarise(run_of(records), SLO)
    assert p99_ms(found.ttft) == pytest.approx(30_000)
    assert found.slo_attainment.value == pytest.approx(0.9, abs=0.01)


@pytest.mark.parametrize("ending", [one for one in Ending if one is not Ending.COMPLETE])
def test_whatever_is_not_complete_counts_against_the_slo(ending: Ending) -> None:
    """Refused, failed, cut, abandoned: each was due, and none is good. Only a wrong length invalidates, and
    what was never sent.
    """
    records = [failed(n, n / 10, ending) if n % 4 == 0 else record(n, n / 10) for n in range(400)]
    found = summarise(run_of(records), SLO)
    assert found.slo_attainment.value == pytest.approx(0.75, abs=0.01)
    assert found.endings[ending.value] == pytest.approx(found.requests / 4, abs=1)
    assert found.goodput_per_s.value == pytest.approx(7.5, rel=0.02)
    invalid = {Ending.WRONG_LENGTH: {"forced-length"}, Ending.UNSENT: {"own-limits"}}
    assert rules(found) == invalid.get(ending, set())
    assert found.details == {"HTTP 503": found.endings[ending.value]}


def test_unanswered_requests_hide_no_quantile() -> None:
    """A fifth gets no token: the p50 is that of all; p90 to p99 lie among those, and a note says so."""
    records = [
        failed(n, n / 10) if n % 5 == 0 else record(n, n / 10, ttft_s=0.1 + n / 1e5) for n in range(900)
    ]
    found = summarise(run_of(records), SLO)
    assert found.ttft is not None
    assert list(found.ttft.quantiles) == ["p50"]
    assert any("p90, p95, p99 of TTFT lie among them" in note for note in found.notes)
    assert found.cdfs["ttft"][-1][1] == pytest.approx(0.8, abs=0.01)


def test_answers_without_text_leave_the_ttft_alone() -> None:
    """Static files have none, and are not unanswered either."""
    files = [textless(n, n / 10, end_s=n / 10 + 0.1) for n in range(200)]
    found = summarise(run_of(files, server=COLD), SLO)
    assert found.valid
    assert (found.ttft, found.ttft_hits, found.ttft_misses) == (None, None, None)
    assert found.slo_attainment.value == 1
    assert found.e2e is not None
    assert found.e2e.quantiles["p50"].value == pytest.approx(100)
    assert found.notes == ()


@settings(max_examples=10, deadline=None)
@given(st.randoms(use_true_random=False))
def test_the_order_of_the_records_is_of_no_account(random: Random) -> None:
    """They come from several processes."""
    records = [*steady(20, 20), *(failed(1000 + n, n / 3) for n in range(30))]
    shuffled = random.sample(records, len(records))
    assert summarise(run_of(shuffled), SLO) == summarise(run_of(records), SLO)


def test_a_result_comes_back_from_its_json() -> None:
    """All its figures are plain numbers, none of them numpy's."""
    power = tuple(PowerSample(t / 2, 400.0) for t in range(250))
    records = [record(n, n / 20, replica="gpu0", cache_hit=False) for n in range(900)]
    found = summarise(run_of([*records, failed(950, 3.0)], power=power), SLO, usd_per_kwh=0.12)
    assert CellResult.model_validate_json(found.model_dump_json()) == found
    assert type(found.window_s[0]) is float
    assert found.ttft is not None
    assert type(found.ttft.quantiles["p99"].value) is float


def test_each_replica_has_its_share() -> None:
    """Three quarters of the requests go to gpu0, and its tokens with them."""
    records = [record(n, n / 10, replica="gpu1" if n % 4 == 0 else "gpu0") for n in range(600)]
    found = summarise(run_of(records), SLO)
    assert list(found.replicas) == ["gpu0", "gpu1"]
    assert sum(one.requests for one in found.replicas.values()) == found.requests
    assert found.replicas["gpu0"].output_tokens_per_s == pytest.approx(75, rel=0.02)
    assert found.replicas["gpu1"].ttft_p50_ms == pytest.approx(100)


def test_energy_is_that_of_the_window() -> None:
    """400 W at 100 tok/s: 4 J a token; at $0.12 a kilowatt-hour $0.1333 a million."""
    power = tuple(PowerSample(t / 2, 400.0) for t in range(250))
    found = summarise(run_of(steady(10, 100), power=power), SLO, usd_per_kwh=0.12)
    assert found.energy is not None
    assert found.energy.mean_power_w == pytest.approx(400)
    assert found.energy.joules == pytest.approx(400 * (found.window_s[1] - found.window_s[0]))
    assert found.energy.joules_per_output_token == pytest.approx(4, rel=0.01)
    assert found.energy.usd_per_million_output_tokens == pytest.approx(0.1333, rel=0.01)


def test_energy_follows_a_changing_power_and_needs_no_price() -> None:
    """From 0 W to 100 W evenly: the trapezoids make the mean of the window's ends."""
    power = (PowerSample(0.0, 0.0), PowerSample(100.0, 100.0))
    found = summarise(run_of(steady(10, 100), power=power), SLO)
    assert found.energy is not None
    assert found.energy.mean_power_w == pytest.approx(sum(found.window_s) / 2)
    assert found.energy.usd_per_million_output_tokens is None


@pytest.mark.parametrize("times", [(), (5.0,), (500.0, 501.0)])
def test_without_power_in_the_window_there_is_no_energy(times: tuple[float, ...]) -> None:
    """One reading, or those of another time, tell nothing."""
    power = tuple(PowerSample(t, 400.0) for t in times)
    assert summarise(run_of(steady(10, 100), power=power), SLO).energy is None


def test_an_interrupted_run_is_partial_and_not_invalid() -> None:
    """What was under way is said."""
    open_then = [record(900 + n, 59.0 + n / 100, end_s=None, ending=Ending.ABANDONED) for n in range(5)]
    run = run_of([*steady(10, 59), *open_then], interrupted=True, ended_s=60.0, cell_duration_s=600.0)
    found = summarise(run, SLO)
    assert found.partial
    assert found.valid
    assert found.notes[0] == "interrupted: 5 requests under way, taken as not answered"


def test_a_cell_of_nothing_is_a_result_all_the_same() -> None:
    """Interrupted before the first request: invalid for want of samples."""
    found = summarise(run_of([], ended_s=0.0, interrupted=True), SLO)
    assert rules(found) == {"samples"}
    assert found.requests == 0
    assert found.ttft is None


def test_what_the_server_tells_stands_beside() -> None:
    """Cache hits of the answers with their TTFT, prefix hits of the engines, streams they saw."""
    records = [
        record(n, n / 10, cache_hit=n % 2 == 0, ttft_s=0.002 if n % 2 == 0 else 0.3) for n in range(400)
    ]
    server = ServerView(peak_in_flight=7, prefix_queries=1000, prefix_hits=5)
    found = summarise(run_of(records, server=server), SLO)
    assert found.cache_hit_percent == pytest.approx(50, abs=0.5)
    assert found.ttft_hits is not None
    assert found.ttft_misses is not None
    assert found.ttft_hits.quantiles["p90"].value == pytest.approx(2)
    assert found.ttft_misses.quantiles["p50"].value == pytest.approx(300)
    assert found.prefix_hit_percent == 0.5
    assert found.server_peak_in_flight == 7


def test_failures_outside_the_window_are_told() -> None:
    """Those of the warm-up are in no figure."""
    records = [*(failed(9000 + n, n / 100) for n in range(20)), *steady(10, 100)]
    found = summarise(run_of(records), SLO)
    assert found.endings == {"complete": found.requests}
    assert "20 requests outside the window failed, too" in found.notes


def test_a_replay_asks_for_the_rate_of_its_trace() -> None:
    """And is kept to it."""
    late = [record(n, n / 10, sent_late_s=60.0 if n > 500 else 0.0) for n in range(600)]
    found = summarise(run_of(late, Replay("trace.jsonl", 60.0), cell_duration_s=60.0), SLO)
    assert found.asked_rate_per_s == pytest.approx(10, rel=0.01)
    assert "achieved-rate" in rules(found)


def test_silent_servers_are_named() -> None:
    """No totals, fewer pieces than tokens: no ITL, but a TPOT. No count of streams: the client's is taken."""
    records = [
        record(n, n / 10, tokens=10, piece_tokens=[0] * 10, completion_tokens=30, forced=False)
        for n in range(400)
    ]
    found = summarise(run_of(records, Streams(1)), SLO)
    assert found.itl is None
    assert found.tpot is not None
    assert found.tpot.quantiles["p50"].value == pytest.approx(180 / 29)
    assert any("TPOT stands" in note for note in found.notes)
    assert any("client's count" in note for note in found.notes)
    assert any("not checked whether prompts were new" in note for note in found.notes)


def test_lengths_that_were_not_forced_are_noted() -> None:
    """Once none of them was; pages, which want no tokens, have none to force."""
    free, pages = ([record(n, n / 10, forced=False) for n in range(200)] for _ in range(2))
    for one in pages:
        one.wanted_tokens = 0
    told = [summarise(run_of(records, server=COLD), SLO).notes for records in (free, pages, steady(10, 20))]
    assert [any("takes no `ignore_eos`" in note for note in notes) for notes in told] == [True, False, False]


def test_more_tokens_than_bytes_of_text_are_noted() -> None:
    """A tenth of the text that the usage tells of; a byte a token is the least that any tokenizer gives."""
    for text_bytes, noted in ((1, True), (9, True), (10, False)):
        records = steady(10, 20, text_bytes=text_bytes)
        found = summarise(run_of(records, server=COLD), SLO)
        assert any("bytes of text" in note for note in found.notes) is noted


def test_answers_that_came_in_one_moment_are_noted() -> None:
    """They have a TTFT and no time between tokens."""
    found = summarise(run_of(steady(10, 20, itl_s=0.0), server=COLD), SLO)
    assert (found.ttft is not None, found.tpot, found.itl) == (True, None, None)
    assert any("answers came in one moment" in note for note in found.notes)
