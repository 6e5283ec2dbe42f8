"""From the records of a cell to its result."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec
import numpy as np

from dreamseed_cli.bench.cell_run import CellRun
from dreamseed_cli.bench.measure import validity
from dreamseed_cli.bench.measure.columns import Bools, Columns, Floats, columns, peak_in_flight
from dreamseed_cli.bench.measure.energy import energy
from dreamseed_cli.bench.measure.intervals import attainment, rate_in, rate_interval
from dreamseed_cli.bench.measure.notes import notes
from dreamseed_cli.bench.measure.overload import over_capacity
from dreamseed_cli.bench.measure.quantiles import latency, plain_quantile
from dreamseed_cli.bench.measure.rounds import begins_s, laid_together
from dreamseed_cli.bench.measure.steady import Window, steady_window
from dreamseed_cli.bench.measure.timeline import curve, timeline
from dreamseed_cli.bench.measure.tokens import (
    Events,
    Gaps,
    answered_ms,
    connect_ms,
    e2e_ms,
    gaps,
    kept_slo,
    scheduling_delay_ms,
    token_events,
    tpot_ms,
    ttft_from_send_ms,
    ttft_ms,
)
from dreamseed_cli.bench.records import Ending
from dreamseed_cli.bench.result import CellResult, Interval, Problem, ReplicaShare, Round, Slo
from dreamseed_cli.bench.shapes import Rate, Replay, Streams
from dreamseed_cli.core.quantiles import SHARES, minimum_samples

COMMONEST: Final = 5


@dataclass(frozen=True, slots=True)
class _Parts:
    """A run taken apart once. inside: requests that were due in the window; gaps: of those."""

    run: CellRun
    cols: Columns
    events: Events
    window: Window
    inside: Columns
    gaps: Gaps

    @property
    def before(self) -> int:
        """Requests that were due before the window."""
        return int((self.cols.scheduled_s < self.window.start_s).sum())


@dataclass(frozen=True, slots=True)
class _Whole(_Parts):
    """All rounds of a cell on one line of time. windows_s: of each; `window`: from the first to the last."""

    windows_s: tuple[tuple[float, float], ...]


def summarise(run: CellRun, slo: Slo, *, usd_per_kwh: float | None = None) -> CellResult:
    """Everything that is told of a cell.

    Latencies, endings and attainment are of the requests that were due in the steady window, however late
    they ended; rates are of what arrived or ended within the window. The records' order is of no account.
    """
    return summarise_rounds((run,), slo, of=1, usd_per_kwh=usd_per_kwh)


def summarise_rounds(
    runs: Sequence[CellRun], slo: Slo, *, of: int, usd_per_kwh: float | None = None
) -> CellResult:
    """The same of a cell that was measured in rounds: the requests of all their windows together.

    Each round must keep the rules of validity by itself, but for the number of requests.
    of: so many rounds there will be; these must have their part of the samples that a cell needs.
    """
    rounds = [_take_apart(run, of) for run in runs]
    whole = _together(rounds)
    inside, run = whole.inside, whole.run
    found = (*_problems(rounds, slo), *_few(len(inside) * of // len(runs)))
    fields: dict[str, Any] = _latencies(whole) | _rates(whole, slo) | _load(rounds, whole, slo)
    return CellResult(
        name=run.cell.name,
        shape=msgspec.to_builtins(run.cell.shape),
        workload=run.cell.workload,
        valid=not found,
        problems=found,
        over_capacity=_over_capacity(rounds),
        notes=notes(run, whole.cols, inside, whole.window, whole.gaps),
        partial=run.interrupted,
        duration_s=run.ended_s,
        window_s=whole.window.span_s,
        rounds=tuple(_rounds(rounds, slo)) if len(rounds) > 1 else (),
        requests=len(inside),
        requests_before=sum(one.before for one in rounds),
        endings=dict(sorted(Counter(one.ending.value for one in inside.records).items())),
        details=_details(inside),
        prompt_tokens_mean=_mean([one.prompt_tokens for one in inside.records]),
        output_tokens_mean=_mean([one.completion_tokens for one in inside.records if _is_answer(one.ending)]),
        cache_hit_percent=_percent([one.cache_hit for one in inside.records]),
        prefix_hit_percent=_prefix_percent(run),
        replicas=_replicas(whole),
        energy=energy(run.power, whole.events, whole.windows_s, usd_per_kwh),
        timeline=timeline(whole.cols, whole.events, run.ended_s),
        **fields,
    )


def _take_apart(run: CellRun, rounds: int) -> _Parts:
    cols = columns(run.records)
    events = token_events(cols)
    window = steady_window(run.cell, cols, events, run.ended_s, rounds=rounds)
    inside = cols.between(window.start_s, window.end_s)
    return _Parts(run, cols, events, window, inside, gaps(inside))


def _together(rounds: Sequence[_Parts]) -> _Whole:
    if len(rounds) == 1:
        (one,) = rounds
        return _Whole(one.run, one.cols, one.events, one.window, one.inside, one.gaps, (one.window.span_s,))
    runs = [one.run for one in rounds]
    run = laid_together(runs)
    cols = columns(run.records)
    windows = tuple(
        (begin + one.window.start_s, begin + one.window.end_s)
        for one, begin in zip(rounds, begins_s(runs), strict=True)
    )
    kept = [(cols.scheduled_s >= start) & (cols.scheduled_s <= end) for start, end in windows]
    inside = cols.only(np.any(kept, axis=0))
    window = Window(windows[0][0], windows[-1][1], _window_notes(rounds))
    return _Whole(run, cols, token_events(cols), window, inside, gaps(inside), windows)


def _window_notes(rounds: Sequence[_Parts]) -> tuple[str, ...]:
    """What is to be said of the rounds' windows, with how many of them it is true of."""
    found = Counter(note for one in rounds for note in one.window.notes)
    return tuple(f"{count} of {len(rounds)} rounds: {note}" for note, count in found.items())


def _problems(rounds: Sequence[_Parts], slo: Slo) -> Iterator[Problem]:
    """Of each round by itself."""
    for number, one in enumerate(rounds, start=1):
        place = f"round {number}: " if len(rounds) > 1 else ""
        for problem in validity.problems(one.run, one.cols, one.inside, one.window, slo):
            yield problem.model_copy(update={"reason": f"{place}{problem.reason}"})


def _over_capacity(rounds: Sequence[_Parts]) -> bool:
    """Whether most rounds say so: one of them by itself does it by chance, now and then, at any load."""
    told = [
        over_capacity(one.run.cell.shape, one.cols, one.events, one.window, one.run.ended_s) for one in rounds
    ]
    return 2 * sum(told) > len(told)


def _few(requests: int) -> Iterator[Problem]:
    problem = validity.samples_enough(requests)
    if problem is not None:
        yield problem


def _rounds(rounds: Sequence[_Parts], slo: Slo) -> Iterator[Round]:
    """What each says by itself."""
    for one, begin in zip(rounds, begins_s([one.run for one in rounds]), strict=True):
        tokens = rate_interval(one.events.time_s, one.events.tokens, one.window.span_s)
        each = _known(tpot_ms(one.inside))
        yield Round(
            begin_s=begin,
            duration_s=one.run.ended_s,
            window_s=one.window.span_s,
            requests=len(one.inside),
            requests_before=one.before,
            achieved_rate_per_s=_sent(one, slo).achieved_per_s,
            output_tokens_per_s=tokens.value,
            tpot_mean_ms=float(each.mean()) if len(each) else None,
        )


def _latencies(parts: _Whole) -> dict[str, Any]:
    """Distributions and their curves.

    A time to something that never came ranks as longer than all others (`quantiles.latency`); the time
    between tokens exists only for answers.
    """
    inside = parts.inside
    textless = inside.complete & np.isnan(inside.first_s)
    ttft, from_send = ttft_ms(inside), ttft_from_send_ms(inside)
    e2e, tpot, delay = e2e_ms(inside), tpot_ms(inside), scheduling_delay_ms(inside)
    silent = int((np.isnan(ttft) & ~textless).sum())
    failed = int((~inside.complete).sum())
    unsent = int(validity.never_sent(inside).sum())
    hit, miss = (_mask([one.cache_hit is wanted for one in inside.records]) for wanted in (True, False))
    known = {"ttft": _known(ttft), "itl": parts.gaps.ms, "tpot": _known(tpot), "e2e": _known(e2e)}
    unanswered = {"ttft": silent, "e2e": failed}
    return {
        "ttft": latency(known["ttft"], unanswered=silent),
        "ttft_from_send": latency(_known(from_send), unanswered=silent),
        # Whether one that was never answered would have been a hit is not known: these are of answers alone.
        "ttft_hits": latency(_known(ttft[hit])),
        "ttft_misses": latency(_known(ttft[miss])),
        "itl": latency(known["itl"], clusters=parts.gaps.requests),
        "tpot": latency(known["tpot"]),
        "e2e": latency(known["e2e"], unanswered=failed),
        "connect": latency(_known(connect_ms(inside))),
        "scheduling_delay": latency(_known(delay), unanswered=unsent),
        "cdfs": {
            name: curve(values, unanswered.get(name, 0)) for name, values in known.items() if len(values)
        },
    }


def _rates(parts: _Whole, slo: Slo) -> dict[str, Any]:
    cols, events, windows = parts.cols, parts.events, parts.windows_s
    good, inside = (kept_slo(one, slo.ttft_ms, slo.tpot_ms) for one in (cols, parts.inside))
    prompted = ~np.isnan(cols.first_s)
    prompts = np.array([one.prompt_tokens or 0 for one in cols.records], dtype=np.float64)
    return {
        "output_tokens_per_s": rate_in(events.time_s, events.tokens, windows),
        "total_tokens_per_s": rate_in(
            np.concatenate([events.time_s, cols.first_s[prompted]]),
            np.concatenate([events.tokens, prompts[prompted]]),
            windows,
        ),
        "requests_per_s": _rate(cols.end_s[cols.complete], windows),
        "goodput_per_s": _rate(cols.end_s[good], windows),
        "slo_attainment": attainment(inside, answered_ms(parts.inside)),
    }


def _load(rounds: Sequence[_Parts], parts: _Whole, slo: Slo) -> dict[str, Any]:
    """What was asked of the load, and what it and the server saw."""
    run, shape = parts.run, parts.run.cell.shape
    sent = [_sent(one, slo) for one in rounds]
    horizon_s = sum(one.horizon_s for one in sent)
    asked = shape.per_s if isinstance(shape, Rate) else None
    if isinstance(shape, Replay) and horizon_s > 0:
        asked = sum(one.due for one in sent) / horizon_s
    lags = [validity.loop_lag_p99_ms(one.run, one.window) for one in rounds]
    return {
        "asked_rate_per_s": asked,
        "achieved_rate_per_s": sum(one.sent for one in sent) / horizon_s if horizon_s > 0 else 0.0,
        "asked_streams": shape.count if isinstance(shape, Streams) else None,
        "peak_in_flight": peak_in_flight(parts.cols, run.ended_s),
        "server_peak_in_flight": run.server.peak_in_flight,
        "loop_lag_p99_ms": max((lag for lag in lags if lag is not None), default=None),
    }


def _sent(parts: _Parts, slo: Slo) -> validity.Sending:
    return validity.sending(parts.run, parts.cols, validity.allowed_delay(parts.inside, slo))


def _replicas(parts: _Whole) -> dict[str, ReplicaShare]:
    """Each engine's share, where answers tell which one made them."""
    owners = np.array([one.replica for one in parts.cols.records], dtype=np.str_)
    inside = np.array([one.replica for one in parts.inside.records], dtype=np.str_)
    ttft = ttft_ms(parts.inside)
    events, windows = parts.events, parts.windows_s
    shares = {}
    for name in sorted({*owners.tolist()} - {""}):
        ours = (owners == name)[events.owner]
        known = _known(ttft[inside == name])
        enough = len(known) >= minimum_samples(SHARES["p50"])
        shares[name] = ReplicaShare(
            requests=int((inside == name).sum()),
            output_tokens_per_s=rate_in(events.time_s[ours], events.tokens[ours], windows).value,
            ttft_p50_ms=plain_quantile(known, 0.5) if enough else None,
        )
    return shares


def _details(inside: Columns) -> dict[str, int]:
    failed = (one.detail for one in inside.records if one.ending is not Ending.COMPLETE and one.detail)
    return dict(Counter(failed).most_common(COMMONEST))


def _prefix_percent(run: CellRun) -> float | None:
    hits, queries = run.server.prefix_hits, run.server.prefix_queries
    return 100 * hits / queries if hits is not None and queries else None


def _rate(times_s: Floats, windows_s: Sequence[tuple[float, float]]) -> Interval:
    return rate_in(times_s, np.ones(len(times_s)), windows_s)


def _known(values: Floats) -> Floats:
    known: Floats = values[~np.isnan(values)]
    return known


def _mask(kept: list[bool]) -> Bools:
    return np.array(kept, dtype=np.bool_)


def _is_answer(ending: Ending) -> bool:
    return ending in {Ending.COMPLETE, Ending.WRONG_LENGTH}


def _mean(values: list[int | None]) -> float | None:
    known = [one for one in values if one is not None]
    return sum(known) / len(known) if known else None


def _percent(values: list[bool | None]) -> float | None:
    known = [one for one in values if one is not None]
    return 100 * sum(known) / len(known) if known else None
