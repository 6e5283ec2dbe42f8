"""From the records of a cell to its result."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any, Final

import msgspec
import numpy as np

from dreamseed_cli.bench.cell_run import CellRun
from dreamseed_cli.bench.measure import validity
from dreamseed_cli.bench.measure.columns import Bools, Columns, Floats, columns, peak_in_flight
from dreamseed_cli.bench.measure.energy import energy
from dreamseed_cli.bench.measure.intervals import attainment, rate_interval
from dreamseed_cli.bench.measure.notes import notes
from dreamseed_cli.bench.measure.overload import over_capacity
from dreamseed_cli.bench.measure.quantiles import latency, plain_quantile
from dreamseed_cli.bench.measure.steady import Window, steady_window
from dreamseed_cli.bench.measure.timeline import curve, timeline
from dreamseed_cli.bench.measure.tokens import (
    Events,
    Gaps,
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
from dreamseed_cli.bench.result import CellResult, Interval, ReplicaShare, Slo
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


def summarise(run: CellRun, slo: Slo, *, usd_per_kwh: float | None = None) -> CellResult:
    """Everything that is told of a cell.

    Latencies, endings and attainment are of the requests that were due in the steady window, however late
    they ended; rates are of what arrived or ended within the window. The records' order is of no account.
    """
    parts = _take_apart(run)
    inside, window, run = parts.inside, parts.window, parts.run
    found = validity.problems(run, parts.cols, inside, window, slo)
    fields: dict[str, Any] = _latencies(parts) | _rates(parts, slo) | _load(parts, slo)
    return CellResult(
        name=run.cell.name,
        shape=msgspec.to_builtins(run.cell.shape),
        workload=run.cell.workload,
        valid=not found,
        problems=found,
        over_capacity=over_capacity(run.cell.shape, parts.cols, parts.events, window, run.ended_s),
        notes=notes(run, parts.cols, inside, window, parts.gaps),
        partial=run.interrupted,
        duration_s=run.ended_s,
        window_s=window.span_s,
        requests=len(inside),
        endings=dict(sorted(Counter(one.ending.value for one in inside.records).items())),
        details=_details(inside),
        prompt_tokens_mean=_mean([one.prompt_tokens for one in inside.records]),
        output_tokens_mean=_mean([one.completion_tokens for one in inside.records if _is_answer(one.ending)]),
        cache_hit_percent=_percent([one.cache_hit for one in inside.records]),
        prefix_hit_percent=_prefix_percent(run),
        replicas=_replicas(parts),
        energy=energy(run.power, parts.events, window.span_s, usd_per_kwh),
        timeline=timeline(parts.cols, parts.events, run.ended_s),
        **fields,
    )


def _take_apart(run: CellRun) -> _Parts:
    cols = columns(run.records)
    events = token_events(cols)
    window = steady_window(run.cell, cols, events, run.ended_s)
    inside = cols.between(window.start_s, window.end_s)
    return _Parts(run, cols, events, window, inside, gaps(inside))


def _latencies(parts: _Parts) -> dict[str, Any]:
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


def _rates(parts: _Parts, slo: Slo) -> dict[str, Any]:
    cols, events, span = parts.cols, parts.events, parts.window.span_s
    good, inside = (kept_slo(one, slo.ttft_ms, slo.tpot_ms) for one in (cols, parts.inside))
    prompted = ~np.isnan(cols.first_s)
    prompts = np.array([one.prompt_tokens or 0 for one in cols.records], dtype=np.float64)
    return {
        "output_tokens_per_s": rate_interval(events.time_s, events.tokens, span),
        "total_tokens_per_s": rate_interval(
            np.concatenate([events.time_s, cols.first_s[prompted]]),
            np.concatenate([events.tokens, prompts[prompted]]),
            span,
        ),
        "requests_per_s": _rate(cols.end_s[cols.complete], span),
        "goodput_per_s": _rate(cols.end_s[good], span),
        "slo_attainment": attainment(inside),
    }


def _load(parts: _Parts, slo: Slo) -> dict[str, Any]:
    """What was asked of the load, and what it and the server saw."""
    run, shape = parts.run, parts.run.cell.shape
    sent = validity.sending(run, parts.cols, validity.allowed_delay(parts.inside, slo))
    asked = shape.per_s if isinstance(shape, Rate) else None
    if isinstance(shape, Replay) and sent.horizon_s > 0:
        asked = sent.due / sent.horizon_s
    return {
        "asked_rate_per_s": asked,
        "achieved_rate_per_s": sent.achieved_per_s,
        "asked_streams": shape.count if isinstance(shape, Streams) else None,
        "peak_in_flight": peak_in_flight(parts.cols, run.ended_s),
        "server_peak_in_flight": run.server.peak_in_flight,
        "loop_lag_p99_ms": validity.loop_lag_p99_ms(run, parts.window),
    }


def _replicas(parts: _Parts) -> dict[str, ReplicaShare]:
    """Each engine's share, where answers tell which one made them."""
    owners = np.array([one.replica for one in parts.cols.records], dtype=np.str_)
    inside = np.array([one.replica for one in parts.inside.records], dtype=np.str_)
    ttft = ttft_ms(parts.inside)
    events, span = parts.events, parts.window.span_s
    shares = {}
    for name in sorted({*owners.tolist()} - {""}):
        ours = (owners == name)[events.owner]
        known = _known(ttft[inside == name])
        enough = len(known) >= minimum_samples(SHARES["p50"])
        shares[name] = ReplicaShare(
            requests=int((inside == name).sum()),
            output_tokens_per_s=rate_interval(events.time_s[ours], events.tokens[ours], span).value,
            ttft_p50_ms=plain_quantile(known, 0.5) if enough else None,
        )
    return shares


def _details(inside: Columns) -> dict[str, int]:
    failed = (one.detail for one in inside.records if one.ending is not Ending.COMPLETE and one.detail)
    return dict(Counter(failed).most_common(COMMONEST))


def _prefix_percent(run: CellRun) -> float | None:
    hits, queries = run.server.prefix_hits, run.server.prefix_queries
    return 100 * hits / queries if hits is not None and queries else None


def _rate(times_s: Floats, span: tuple[float, float]) -> Interval:
    return rate_interval(times_s, np.ones(len(times_s)), span)


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
