"""Each rule on both sides of its border; what is the server's doing does not invalidate."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest
from synthetic_runs import SLO, failed, record, run_of, steady

from dreamseed_cli.bench.cell_run import CellRun, ServerView
from dreamseed_cli.bench.measure import validity
from dreamseed_cli.bench.measure.columns import columns
from dreamseed_cli.bench.measure.steady import Window
from dreamseed_cli.bench.measure.summary import summarise
from dreamseed_cli.bench.measure.validity import Sending
from dreamseed_cli.bench.records import Ending, Record
from dreamseed_cli.bench.result import Problem
from dreamseed_cli.bench.shapes import Rate, Replay, Shape, Streams

COUNTED = ServerView(generation_tokens=5000)
"""What engines count over 500 answers of ten tokens."""


def problems_of(run: CellRun) -> dict[str, Problem]:
    """By rule, with every request in the window."""
    cols = columns(run.records)
    window = Window(0.0, run.ended_s)
    return {one.rule: one for one in validity.problems(run, cols, cols, window, SLO)}


def streams(count: int, rounds: int = 20) -> list[Record]:
    """So many at a time, each followed at once by the next."""
    return [record(n, (n // count) * 0.2801) for n in range(count * rounds)]


@pytest.mark.parametrize(("sent", "valid"), [(1000, True), (990, True), (989, False), (0, False)])
def test_the_achieved_rate_is_at_least_99_percent(sent: int, valid: bool) -> None:
    """Of what was due."""
    assert (validity.rate_kept(Sending(100.0, 1000, sent)) is None) is valid


def test_nothing_due_is_no_rate_missed() -> None:
    """A Poisson load may bring none in a short time."""
    assert validity.rate_kept(Sending(1.0, 0, 0)) is None


@pytest.mark.parametrize(
    ("arrivals", "due", "valid"),
    [("constant", 9999, True), ("constant", 9899, True), ("constant", 9898, False), ("poisson", 9600, True),
     ("poisson", 9500, False)],
)  # fmt: skip
def test_as_many_come_due_as_the_rate_asks_for(arrivals: str, due: int, valid: bool) -> None:
    """100/s for 100 s: a constant rate to a request, Poisson arrivals but for chance (309 of 10,000)."""
    shape = Rate(100.0, arrivals)  # type: ignore[arg-type]
    assert (validity.arrivals_made(shape, Sending(100.0, due, due)) is None) is valid


@pytest.mark.parametrize(
    ("slo_ms", "target_ms", "allowed_ms"),
    [(50, 20, 10), (1000, 20, 10), (1000, 500, 50), (1000, 5000, 100), (1000, None, 100), (50, None, 10)],
)
def test_a_slow_target_is_allowed_a_tenth_of_its_latency(
    slo_ms: float, target_ms: float | None, allowed_ms: float
) -> None:
    """Of its own or of the SLO's, whichever is less; 10 ms at least."""
    assert validity.allowed_delay_ms(slo_ms, target_ms) == pytest.approx(allowed_ms)


@pytest.mark.parametrize(("late", "rule"), [(20, set()), (21, {"scheduling-delay"})])
def test_the_p99_of_the_delay_is_judged(late: int, rule: set[str]) -> None:
    """2,000 requests, TTFT 90 ms, so 10 ms are allowed: twenty may be sent 15 ms late, not one more."""
    records = [record(n, n / 100, ttft_s=0.09, sent_late_s=0.015 if n < late else 0.0) for n in range(2000)]
    assert set(problems_of(run_of(records))) == rule


def test_the_load_cannot_excuse_its_delay_by_the_latency_it_causes() -> None:
    """All 3 s late: from the schedule the target looks slow, from the send it does not."""
    records = [record(n, n / 100, ttft_s=0.05, sent_late_s=3.0) for n in range(2000)]
    assert "10.0 ms are allowed" in problems_of(run_of(records))["scheduling-delay"].reason


def test_a_slow_accept_is_the_servers_doing() -> None:
    """Every connection takes 2 s to open: the load was on time, and the latency has it all the same."""
    records = [record(n, n / 100, ttft_s=0.09, sent_late_s=2.0, connect_s=1.999) for n in range(2000)]
    run = run_of(records)
    assert problems_of(run) == {}
    found = summarise(run, SLO)
    assert found.connect is not None
    assert found.ttft is not None
    assert found.connect.quantiles["p50"].value == pytest.approx(1999)
    assert found.ttft.quantiles["p50"].value == pytest.approx(2090)


def test_requests_that_were_never_sent_are_late_without_end() -> None:
    """They have no delay of their own; were they left out, a stuck load would look punctual."""
    unsent = [failed(n, n / 10, Ending.ABANDONED, sent_s=None, end_s=None) for n in range(300, 400)]
    found = problems_of(run_of([*steady(10, 30), *unsent], ended_s=70.0))
    assert {"achieved-rate", "scheduling-delay"} <= set(found)


def test_a_server_that_takes_no_connection_is_not_the_loads_fault() -> None:
    """Tried in time, and counted; not sent late."""
    records = [failed(n, n / 10, Ending.UNREACHABLE, sent_s=None) for n in range(400)]
    assert problems_of(run_of(records)) == {}


def test_a_load_without_descriptors_blames_no_server() -> None:
    """One request that this machine had no file for is one too many; it was not sent in time either."""
    unsent = failed(399, 39.9, Ending.UNSENT, sent_s=None)
    assert set(problems_of(run_of([*steady(10, 39.9), unsent]))) == {"own-limits"}
    many = [failed(n, n / 10, Ending.UNSENT, sent_s=None) for n in range(400)]
    assert {"own-limits", "achieved-rate"} <= set(problems_of(run_of(many)))


@pytest.mark.parametrize(
    ("asked", "client", "server", "valid"),
    [(10_000, 10_000, 9_900, True), (10_000, 10_000, 9_899, False), (10_000, 10_000, 2_500, False),
     (8, 8, 8, True), (8, 8, 7, False), (100, 100, None, True), (100, 98, None, False)],
)  # fmt: skip
def test_the_server_sees_the_streams_that_were_asked(
    asked: int, client: int, server: int | None, valid: bool
) -> None:
    """99 % of them, by its own word; by the client's if it tells nothing. (2,500 of 10,000 was published.)"""
    assert (validity.streams_seen(asked, client, server, refused=0) is None) is valid


@pytest.mark.parametrize(
    ("client", "refused", "remedy"),
    [(100, 5, "refused 5"), (50, 0, "ulimit"), (100, 0, "holds requests back")],
)
def test_the_remedy_for_lacking_streams_fits_their_cause(client: int, refused: int, remedy: str) -> None:
    """The server refuses, the client did not open them, or something in between holds them."""
    found = validity.streams_seen(100, client, 50, refused)
    assert found is not None
    assert remedy in found.remedy


def test_a_load_that_stood_still_is_seen_in_a_closed_loop() -> None:
    """Its answers look slow, and every request seems sent in time: its loops alone tell."""
    ticks = [(n / 100, 0.1) for n in range(500)]
    stood = [(2.0 + n / 100, 2000.0 - 10 * n) if n < 200 else tick for n, tick in enumerate(ticks)]
    assert problems_of(run_of(streams(8), Streams(8), lags=tuple(ticks))) == {}
    found = problems_of(run_of(streams(8), Streams(8), lags=tuple(stood)))
    assert set(found) == {"loop-lag"}
    assert "10.0 ms are allowed" in found["loop-lag"].reason
    early = tuple((at_s - 60.0, lag_ms) for at_s, lag_ms in stood)
    assert problems_of(run_of(streams(8), Streams(8), lags=early)) == {}


def test_streams_are_judged_by_what_was_open_at_a_time() -> None:
    """Eight streams, one after the other without a gap: eight, and not nine at the moment of change."""
    server = ServerView(peak_in_flight=8)
    assert problems_of(run_of(streams(8), Streams(8), server=server)) == {}
    assert set(problems_of(run_of(streams(8), Streams(9)))) == {"streams"}


def test_streams_are_judged_by_what_was_open_on_average_too() -> None:
    """Eight at the start, of which half never ask again; not if they paused after a failure."""
    tired = [one for n, one in enumerate(streams(8)) if n < 8 or n % 8 < 4]
    found = problems_of(run_of(tired, Streams(8)))
    assert "streams were open on average" in found["streams"].reason
    assert problems_of(run_of([*tired, failed(900, 1.0)], Streams(8))) == {}


def _looked(*counts: int) -> ServerView:
    """Looks every quarter of a second."""
    looks = tuple((n / 4, count) for n, count in enumerate(counts))
    return ServerView(peak_in_flight=max(counts, default=None), looks=(looks,))


@pytest.mark.parametrize(
    ("counts", "valid"),
    [
        ([40, *[38] * 20], True),
        ([40, *[37] * 20], False),  # as often as not below 38, for all that 40 were there once
        ([*[40] * 11, *[0] * 10], True),  # a gauge that stood still
        ([40, *[20] * 18], True),  # too few looks
        ([], True),
    ],
)
def test_the_server_sees_the_streams_all_the_time(counts: list[int], valid: bool) -> None:
    """Not at its best moment only: 95 % of them, in half of the looks within the window."""
    run = run_of(streams(40), Streams(40), server=_looked(*counts))
    assert ("streams" in problems_of(run)) is not valid


@pytest.mark.parametrize(("seen", "valid"), [(30, True), (29, True), (28, False), (10, False)])
def test_streams_that_pause_after_failures_cannot_be_seen(seen: int, valid: bool) -> None:
    """A quarter of 40 fail at once and pause: 30 are open when the server is looked at."""
    records = [
        one if one.number % 4 else failed(one.number, one.scheduled_s, Ending.CUT) for one in streams(40)
    ]
    looks = tuple((0.14 + 0.2801 * n, seen) for n in range(20))
    run = run_of(records, Streams(40), server=ServerView(peak_in_flight=seen, looks=(looks,)))
    assert ("streams" in problems_of(run)) is not valid


def test_what_waits_in_the_gateway_is_seen_there() -> None:
    """No engine has it; looks before the window tell nothing of it, and one stream may be between answers."""
    engines, door = _looked(40, *[30] * 20).looks[0], _looked(*[40] * 21).looks[0]
    run = run_of(streams(40), Streams(40), server=ServerView(peak_in_flight=40, looks=(engines, door)))
    assert problems_of(run) == {}
    assert validity.usually_seen(run, (0.0, 5.0)) == 40
    assert validity.usually_seen(run, (5.5, 9.0)) is None
    seldom = ServerView(peak_in_flight=40, looks=(engines, door[:9]))
    assert validity.usually_seen(run_of(streams(40), Streams(40), server=seldom), (0.0, 5.0)) is None
    assert validity.streams_seen_throughout(8, 7) is None
    assert validity.streams_seen_throughout(8, 6) is not None


@pytest.mark.parametrize("ramp_s", [4.2015, 60.0])
def test_streams_that_are_still_to_come_are_not_missed(ramp_s: float) -> None:
    """Without a steady window the cell is looked at from its start: forty streams come one by one."""
    late = [one for one in streams(40) if one.scheduled_s >= one.number % 40 / 10]
    assert problems_of(run_of(late, Streams(40, ramp_s=ramp_s), server=_looked(*[20] * 8, *[40] * 12))) == {}
    assert set(problems_of(run_of(late, Streams(40)))) == {"streams"}


def test_fewer_requests_than_streams_open_no_more_than_there_are() -> None:
    """`requests` caps the cell."""
    assert problems_of(run_of(streams(8), Streams(200), cell_requests=8)) == {}


@pytest.mark.parametrize("wrong", [{"ending": Ending.WRONG_LENGTH}, {"completion_tokens": 9}])
def test_one_answer_of_another_length_is_one_too_many(wrong: dict[str, object]) -> None:
    """By its ending, or by our own count of what calls itself complete."""
    records = [*steady(10, 60), record(900, 1.0, **wrong)]  # type: ignore[arg-type]
    found = problems_of(run_of(records))
    assert "1 answers" in found["forced-length"].reason


def test_free_lengths_may_differ() -> None:
    """What was not forced is not judged."""
    assert problems_of(run_of([*steady(10, 60), record(900, 1.0, completion_tokens=9, forced=False)])) == {}


@pytest.mark.parametrize(("hits", "valid"), [(10, True), (11, False), (None, True)])
def test_the_prefix_cache_stays_cold(hits: int | None, valid: bool) -> None:
    """At most 1 %; not told is not judged."""
    assert (validity.prefix_cache_cold(hits, 1000) is None) is valid


def test_prompts_that_repeat_on_purpose_may_be_cached() -> None:
    """A cell without a nonce, and a trace that brings its prompts; not one whose prompts are made."""
    server = ServerView(prefix_queries=1000, prefix_hits=900)

    def rules(shape: Shape) -> set[str]:
        return set(problems_of(run_of(steady(10, 60), shape, server=server)))

    assert rules(Rate(10.0, "constant")) == {"prefix-cache"}
    assert rules(Replay("t.jsonl", 60.0)) == {"prefix-cache"}
    assert rules(Replay("t.jsonl", 60.0, own_prompts=True)) == set()
    run = run_of(steady(10, 60), server=server)
    assert problems_of(replace(run, cell=msgspec.structs.replace(run.cell, nonce=""))) == {}


def test_a_lost_process_and_too_few_requests_invalidate() -> None:
    """Records are missing, or there never were enough."""
    assert set(problems_of(run_of(steady(10, 60), lost_processes=1))) == {"lost-process"}
    few, enough = (summarise(run_of(steady(1, many), Rate(1.0, "constant")), SLO) for many in (3, 4))
    assert ([one.rule for one in few.problems], enough.problems) == (["samples"], ())


@pytest.mark.parametrize("ending", [Ending.REFUSED, Ending.SERVER_ERROR, Ending.CUT, Ending.STALLED])
def test_a_failing_server_is_a_valid_finding(ending: Ending) -> None:
    """Even if it fails every request."""
    assert problems_of(run_of([failed(n, n / 10, ending) for n in range(400)])) == {}


@pytest.mark.parametrize(
    ("generated", "valid"),
    [(5000, True), (4951, True), (4950, False), (500, False), (5114, True), (5200, False)],
)
def test_usage_is_what_the_engines_counted(generated: int, valid: bool) -> None:
    """5,000 by usage: too high beyond 1 %; too low if somebody else asks (a probe now and then may)."""
    run = run_of(steady(10.0, 50.0), server=ServerView(generation_tokens=generated))
    assert ("usage" in problems_of(run)) is not valid


@pytest.mark.parametrize(
    ("read", "hits", "valid"), [(991, 0, True), (990, 0, False), (500, 500, True), (0, 0, True)]
)
def test_prompts_are_as_long_as_the_engines_read(read: int, hits: int, valid: bool) -> None:
    """1,000 by usage: too many beyond 1 %, but for what the prefix cache had."""
    assert (validity.prompts_agree(1000, read, hits) is None) is valid


def test_the_prompts_of_answers_are_counted() -> None:
    """500 answers whose usage tells 5 each, and engines that read 4."""
    records = steady(10.0, 50.0, prompt_tokens=5)
    told = replace(COUNTED, prompt_tokens=2000)
    assert "2,500 prompt tokens" in problems_of(run_of(records, server=told))["usage"].reason
    assert problems_of(run_of(records, server=replace(told, prompt_tokens=2500))) == {}


def test_what_nobody_received_may_have_been_counted() -> None:
    """An engine generates on until it hears of a cut; a usage above its count is made up all the same."""
    records = [*steady(10.0, 50.0), record(500, 49.0, ending=Ending.CUT, tokens=2)]
    for generated, valid in ((6000, True), (4000, False)):
        run = run_of(records, server=ServerView(generation_tokens=generated))
        assert ("usage" in problems_of(run)) is not valid


def test_answers_of_a_cache_are_in_no_engines_count() -> None:
    """Nor is anything held against an engine that does not tell, or where equal prompts share an answer."""
    hits = run_of(steady(10.0, 50.0, cache_hit=True), server=ServerView(generation_tokens=1))
    untold = run_of(steady(10.0, 50.0), server=ServerView(generation_tokens=0))
    repeats = run_of(steady(10.0, 50.0), server=ServerView(generation_tokens=1))
    repeats = replace(repeats, cell=msgspec.structs.replace(repeats.cell, nonce=""))
    assert not any("usage" in problems_of(run) for run in (hits, untold, repeats))
