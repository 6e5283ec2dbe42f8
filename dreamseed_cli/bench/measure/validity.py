"""When the figures of a cell must not be believed: each rule is one function that gives a Problem or None.

Refusals, failures and overload are the server's doing: they are counted, and do not make a cell invalid.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count
from math import sqrt
from statistics import median
from typing import Final

import numpy as np

from dreamseed_cli.bench.cell_run import CellRun
from dreamseed_cli.bench.measure.columns import (
    Bools,
    Columns,
    Floats,
    in_flight,
    mean_in_flight,
    peak_in_flight,
    under_way,
)
from dreamseed_cli.bench.measure.intervals import share_interval
from dreamseed_cli.bench.measure.quantiles import plain_quantile
from dreamseed_cli.bench.measure.steady import Window, arrivals_end_s
from dreamseed_cli.bench.measure.tokens import ttft_from_send_ms
from dreamseed_cli.bench.records import Ending
from dreamseed_cli.bench.result import Problem, Slo
from dreamseed_cli.bench.shapes import Cell, Rate, Replay, Streams

KEPT: Final = 0.99
"""The share of the asked rate, or of the asked streams, that must have come about."""
HELD: Final = 0.95
"""The share of the asked streams that must be open on average."""
FEWEST_LOOKS: Final = 20
"""At the server within the window: of fewer, nothing is told of what it had meanwhile."""
DELAY_MS: Final = 10.0
DELAY_SHARE: Final = 0.10
PREFIX_HITS: Final = 0.01
COUNT_SHARE: Final = 0.01
"""By how much the usage of all answers and the engines' own count may differ."""
_PROBES: Final = 64
"""Tokens that a supervisor's looks at its engines may add to their count meanwhile."""
ONE_IN_A_THOUSAND: Final = 3.09
FEWEST_REQUESTS: Final = next(n for n in count(1) if (share_interval(n, n).low or 0.0) > 0.5)
"""Of fewer, were all of them good, the interval of the attainment would still hold one half."""

MORE_LOAD = "Give the load more processes or a machine of its own, or ask for less."


@dataclass(frozen=True, slots=True)
class Sending:
    """How the load was sent, under an open shape.

    horizon_s: how long requests were to be begun. due, sent: requests until then; sent in time.
    """

    horizon_s: float
    due: int
    sent: int

    @property
    def achieved_per_s(self) -> float:
        return self.sent / self.horizon_s if self.horizon_s > 0 else 0.0


def sending(run: CellRun, cols: Columns, allowed_ms: float) -> Sending:
    """Counts what was due and what was sent.

    The allowed delay is granted to the last ones, too. A request that never got a connection was tried.
    """
    horizon = arrivals_end_s(run.cell, cols, run.ended_s)
    due = cols.scheduled_s <= horizon
    in_time = cols.begun_s <= horizon + allowed_ms / 1000
    sent = np.where(np.isnan(cols.sent_s), ~never_sent(cols), in_time)
    return Sending(horizon, int(due.sum()), int((due & sent).sum()))


def never_sent(cols: Columns) -> Bools:
    """Which requests the load gave up, or could not send, before it sent them."""
    own = np.array([one.ending is Ending.UNSENT for one in cols.records], dtype=np.bool_)
    return np.isnan(cols.sent_s) & (abandoned(cols) | own)


def abandoned(cols: Columns) -> Bools:
    """Which requests the load gave up, sent or not."""
    return np.array([one.ending is Ending.ABANDONED for one in cols.records], dtype=np.bool_)


def allowed_delay_ms(slo_ttft_ms: float, target_ttft_ms: float | None) -> float:
    """How late the p99 of requests may be sent: 10 ms, or 10 % of the target latency for slow targets.

    Our reading of that sentence: a target is slow if 10 % of its latency is more than 10 ms, and its latency
    is the TTFT, where delay in sending does the harm. "The target latency" may mean what the target should
    keep (the SLO) or what it does; the shorter of both counts, so the cell is valid in either reading. What
    it does is the median from the *send*, in which our own delay cannot excuse itself.
    """
    target = slo_ttft_ms if target_ttft_ms is None else min(slo_ttft_ms, target_ttft_ms)
    return max(DELAY_MS, DELAY_SHARE * target)


def rate_kept(one: Sending) -> Problem | None:
    """At least 99 % of what was due was sent while the load lasted."""
    if one.sent >= KEPT * one.due:
        return None
    return Problem(
        rule="achieved-rate",
        reason=f"{one.sent:,} of {one.due:,} due requests were sent in time ({one.sent / one.due:.1%})",
        remedy=MORE_LOAD,
    )


def arrivals_made(shape: Rate, one: Sending) -> Problem | None:
    """As many requests were due as the rate asks for, but for the chance in Poisson arrivals (1 in 1,000)."""
    asked = shape.per_s * one.horizon_s
    slack = ONE_IN_A_THOUSAND * sqrt(asked) if shape.arrivals == "poisson" else 1.0
    if one.due >= KEPT * asked - slack:
        return None
    return Problem(
        rule="arrivals",
        reason=f"only {one.due:,} requests came due in {one.horizon_s:.3g} s at {shape.per_s:g} a second",
        remedy="Records are missing: look for a process of the load that died, and run the cell again.",
    )


def streams_seen(asked: int, client_peak: int, server_peak: int | None, refused: int) -> Problem | None:
    """The server (without its figure: the client) had 99 % of the asked streams open at a time.

    The hundredth is for sampling: the gauge is read several times a second, and a stream whose answer has
    ended and whose next request is on its way is in nobody's count. Below 100 streams it allows none to lack.
    """
    seen, who = (client_peak, "the client") if server_peak is None else (server_peak, "the server")
    if seen >= KEPT * asked:
        return None
    if refused:
        remedy = f"It refused {refused:,} requests: raise its limits, or ask for fewer streams."
    elif client_peak < KEPT * asked:
        remedy = "So many were never open: use a longer cell, more processes, or more files (ulimit -n)."
    else:
        remedy = "Something before the server holds requests back: raise its limits, or ask for fewer."
    return Problem(
        rule="streams",
        reason=f"{who} saw {seen:,} streams at most, asked were {asked:,}",
        remedy=remedy,
    )


def streams_held(asked: int, mean: float) -> Problem | None:
    """The streams were open all through the window, and not at one moment only.

    What a stream takes from an answer to its next request is granted, up to a twentieth of its time.
    """
    if mean >= HELD * asked:
        return None
    return Problem(
        rule="streams",
        reason=f"{mean:,.1f} streams were open on average, asked were {asked:,}",
        remedy="Give the load more processes, use a longer cell, or ask for fewer streams.",
    )


def open_streams_seen(open_then: int, server_peak: int | None) -> Problem | None:
    """Where streams pause after failures: the server had what the client had open, not all that were asked.

    open_then: the most by the client when the server was looked at. A twentieth, or one stream, is granted:
    failures come and go between two looks.
    """
    if server_peak is None or server_peak >= min(HELD * open_then, open_then - 1):
        return None
    return Problem(
        rule="streams",
        reason=f"the server saw {server_peak:,} streams at most, and {open_then:,} were open at a look at it",
        remedy="Something before the server holds requests back: raise its limits, or ask for fewer.",
    )


def streams_seen_throughout(asked: int, usual: float | None) -> Problem | None:
    """The server had the streams all through the window, and not at one moment only.

    usual: what it had in half of the looks or more; the median, since an engine's gauge stands still while it
    computes. A twentieth is granted as in `streams_held`, or one stream that is between two answers.
    """
    if usual is None or usual >= min(HELD * asked, asked - 1):
        return None
    return Problem(
        rule="streams",
        reason=f"the server saw {usual:,.0f} streams or fewer half of the time, asked were {asked:,}",
        remedy="Something before the server holds requests back, or is slow beside the answers: raise its "
        "limits, or use longer answers.",
    )


def usually_seen(run: CellRun, span_s: tuple[float, float]) -> float | None:
    """What the server had in half of the looks; None if there were too few. Of engines and gateway the one
    that had more: each is the least that there was. The engines alone do not tell, where the gateway was
    looked at too seldom: in its queue no engine sees a request.
    """
    looks = [[count for at_s, count in one if span_s[0] <= at_s <= span_s[1]] for one in run.server.looks]
    seen = [counts for counts in looks if counts]
    if any(len(counts) < FEWEST_LOOKS for counts in seen):
        return None
    return max((median(counts) for counts in seen), default=None)


def sent_on_time(p99_ms: float | None, allowed_ms: float) -> Problem | None:
    """The p99 of scheduling delay keeps within what is allowed (`allowed_delay_ms`)."""
    if p99_ms is None or p99_ms <= allowed_ms:
        return None
    return Problem(
        rule="scheduling-delay",
        reason=f"p99 of the delay in sending is {p99_ms:,.1f} ms; {allowed_ms:,.1f} ms are allowed",
        remedy=MORE_LOAD,
    )


def loop_on_time(p99_ms: float | None, allowed_ms: float) -> Problem | None:
    """The p99 of the lag of the load's own event loops keeps within the same.

    A closed loop is due when it is sent: a load that stood still would be taken for a slow server.
    """
    if p99_ms is None or p99_ms <= allowed_ms:
        return None
    return Problem(
        rule="loop-lag",
        reason=f"the load's own loops are late: p99 {p99_ms:,.1f} ms; {allowed_ms:,.1f} ms are allowed",
        remedy=MORE_LOAD,
    )


def loop_lag_p99_ms(run: CellRun, window: Window) -> float | None:
    """Of the ticks in the window; None where the load told none."""
    lags = np.array(run.lags, dtype=np.float64).reshape(-1, 2)
    inside = (lags[:, 0] >= window.start_s) & (lags[:, 0] <= window.end_s)
    return plain_quantile(lags[inside, 1], 0.99)


def lengths_kept(wrong: int) -> Problem | None:
    """Every forced answer has exactly the length that was forced."""
    if not wrong:
        return None
    return Problem(
        rule="forced-length",
        reason=f"{wrong:,} answers were of another length than was forced",
        remedy="See that the server knows `ignore_eos`, and that prompt and answer fit its context length.",
    )


def prefix_cache_cold(hits: int | None, queries: int | None) -> Problem | None:
    """At most 1 % of the prompts' tokens came from the prefix cache."""
    if hits is None or not queries or hits <= PREFIX_HITS * queries:
        return None
    return Problem(
        rule="prefix-cache",
        reason=f"{hits / queries:.1%} of the prompts' tokens came from the prefix cache",
        remedy="Restart the server, or keep other clients from it, so that no prompt has been seen before.",
    )


def tokens_agree(told: int, generated: int | None, *, whole: bool) -> Problem | None:
    """The usage of all answers is what the engines' counter says they generated, but for 1 %.

    told: the sum of usage, without answers that a cache gave. generated: 0 of engines without such a counter.
    whole: every request was answered to its end; else the engines generated what nobody received, and only a
    usage that is too high can be told.
    """
    if not generated:
        return None
    place = f"the answers' usage tells {told:,} tokens, and the engines counted {generated:,}"
    if told > generated * (1 + COUNT_SHARE):
        return Problem(
            rule="usage",
            reason=place,
            remedy="Something between makes the usage up: measure the engine itself, and compare.",
        )
    if whole and generated > told * (1 + COUNT_SHARE) + _PROBES:
        return Problem(
            rule="usage",
            reason=place,
            remedy="Somebody else asks these engines, too: keep other clients from them.",
        )
    return None


def prompts_agree(told: int, read: int | None, hits: int | None) -> Problem | None:
    """The usage of all answers tells no more prompt tokens than the engines counted, but for 1 %.

    read: 0 of engines without such a counter. hits: those from the prefix cache, which some count apart. An
    engine also reads what nobody got an answer to, and what somebody else asks (`tokens_agree` tells that).
    """
    if not read or told <= (read + (hits or 0)) * (1 + COUNT_SHARE):
        return None
    return Problem(
        rule="usage",
        reason=f"the answers' usage tells {told:,} prompt tokens, and the engines read {read:,}",
        remedy="Something between makes the usage up: measure the engine itself, and compare.",
    )


def own_limits(unsent: int) -> Problem | None:
    """Nothing was left unsent for want of a file descriptor or a port of this machine."""
    if not unsent:
        return None
    return Problem(
        rule="own-limits",
        reason=f"{unsent:,} requests were not sent: this machine had no file descriptor or port left",
        remedy="Raise the limit (ulimit -Hn, net.ipv4.ip_local_port_range), or ask for less.",
    )


def all_processes(lost: int) -> Problem | None:
    """No process of the load died; its records are missing."""
    if not lost:
        return None
    return Problem(
        rule="lost-process",
        reason=f"{lost} of the load's processes died, and their records with them",
        remedy="Look for what ended them (memory, a signal) and run the cell again.",
    )


def samples_enough(requests: int) -> Problem | None:
    """There are as many requests as any statement needs."""
    if requests >= FEWEST_REQUESTS:
        return None
    return Problem(
        rule="samples",
        reason=f"too few requests were due in the window: {requests}",
        remedy=f"Use a longer --duration: {FEWEST_REQUESTS} are the least of which anything can be told.",
    )


def problems(run: CellRun, cols: Columns, inside: Columns, window: Window, slo: Slo) -> tuple[Problem, ...]:
    """All rules over a run of a cell but `samples_enough`, which is of all its rounds together.

    inside: those of its requests that were due in the window.
    """
    shape = run.cell.shape
    allowed = allowed_delay(inside, slo)
    sent = sending(run, cols, allowed)
    server = run.server
    found = [
        rate_kept(sent) if isinstance(shape, Rate | Replay) else None,
        arrivals_made(shape, sent) if isinstance(shape, Rate) else None,
        _streams(run, cols, window, shape) if isinstance(shape, Streams) else None,
        sent_on_time(plain_quantile(_delays_ms(run, inside), 0.99), allowed),
        loop_on_time(loop_lag_p99_ms(run, window), allowed),
        lengths_kept(_wrong_lengths(cols)),
        None if repeats(run.cell) else prefix_cache_cold(server.prefix_hits, server.prefix_queries),
        _tokens(run),
        own_limits(cols.count(Ending.UNSENT)),
        all_processes(run.lost_processes),
    ]
    return tuple(problem for problem in found if problem is not None)


def repeats(cell: Cell) -> bool:
    """Whether prompts come again on purpose."""
    return not cell.nonce or (isinstance(cell.shape, Replay) and cell.shape.own_prompts)


def allowed_delay(inside: Columns, slo: Slo) -> float:
    """`allowed_delay_ms` for the target as it was in the window."""
    known = ttft_from_send_ms(inside)
    return allowed_delay_ms(slo.ttft_ms, plain_quantile(known[~np.isnan(known)], 0.5))


def _tokens(run: CellRun) -> Problem | None:
    """Unless records are missing, or equal requests may share one generation."""
    if run.lost_processes or repeats(run.cell):
        return None
    generated = [one for one in run.records if not one.cache_hit and one.ending is not Ending.MISCOUNTED]
    told = sum(one.completion_tokens or 0 for one in generated)
    answered = {Ending.COMPLETE, Ending.WRONG_LENGTH}
    whole = all(one.ending in answered for one in run.records)
    asked = sum(one.prompt_tokens or 0 for one in generated)
    server = run.server
    return tokens_agree(told, server.generation_tokens, whole=whole) or prompts_agree(
        asked, server.prompt_tokens, server.prefix_hits
    )


def _streams(run: CellRun, cols: Columns, window: Window, shape: Streams) -> Problem | None:
    asked = min(shape.count, run.cell.requests or shape.count)
    peak = peak_in_flight(cols, run.ended_s)
    refused = cols.count(Ending.REFUSED)
    server_peak = run.server.peak_in_flight
    if not refused and not np.all(cols.complete | abandoned(cols)):
        return open_streams_seen(_open_at_looks(run, cols), server_peak)
    lacking = streams_seen(asked, peak, server_peak, refused)
    # A cell without a steady window is looked at from its start on, where streams are still to come.
    span_s = max(window.start_s, shape.ramp_s), min(window.end_s, arrivals_end_s(run.cell, cols, run.ended_s))
    if lacking or refused or run.cell.requests or span_s[0] >= span_s[1]:
        # A stream pauses after it was refused, and a capped cell runs out of requests.
        return lacking
    held = streams_held(asked, mean_in_flight(cols, run.ended_s, span_s))
    return held or streams_seen_throughout(asked, usually_seen(run, span_s))


def _open_at_looks(run: CellRun, cols: Columns) -> int:
    """The most that were open by the client whenever somebody looked at the server."""
    at_s = np.array([at_s for one in run.server.looks for at_s, _ in one])
    return int(in_flight(*under_way(cols, run.ended_s), at_s).max(initial=0))


def _delays_ms(run: CellRun, inside: Columns) -> Floats:
    """How late each was sent; one that was given up unsent was so until the load was over."""
    begun = np.where(never_sent(inside), run.ended_s, inside.begun_s)
    delays = (begun - inside.scheduled_s) * 1000
    return np.asarray(delays[~np.isnan(delays)], dtype=np.float64)


def _wrong_lengths(cols: Columns) -> int:
    """By its ending, or by our own count: an answer that calls itself complete is not taken at its word."""
    return sum(
        one.ending is Ending.WRONG_LENGTH
        or (
            one.ending is Ending.COMPLETE
            and one.forced
            and one.completion_tokens is not None
            and one.completion_tokens != one.wanted_tokens
        )
        for one in cols.records
    )
