"""A cell second by second, and its distributions as curves."""

from __future__ import annotations

from math import ceil
from typing import Final

import numpy as np

from dreamseed_cli.bench.measure.columns import Columns, Floats, Ints, in_flight, under_way
from dreamseed_cli.bench.measure.quantiles import plain_quantile
from dreamseed_cli.bench.measure.tokens import Events, ttft_ms
from dreamseed_cli.bench.result import Moment

CURVE_POINTS: Final = 200


def timeline(cols: Columns, events: Events, ended_s: float) -> tuple[Moment, ...]:
    """The cell's seconds from its start until the load was over.

    In flight: at the second's end. TTFT: of the requests that were due in it, whenever they were answered, so
    that a growing queue shows when it began. Failures stand where they ended, or at the end of the load.
    """
    seconds = max(ceil(ended_s), 1)
    moments = np.arange(1, seconds + 1, dtype=np.float64)
    open_then = in_flight(*under_way(cols, ended_s), np.minimum(moments, ended_s))
    ended = np.where(np.isnan(cols.end_s), ended_s, cols.end_s)
    done = np.bincount(_second(ended[cols.complete], seconds), minlength=seconds)
    failed = np.bincount(_second(ended[~cols.complete], seconds), minlength=seconds)
    tokens = np.bincount(_second(events.time_s, seconds), events.tokens, minlength=seconds)
    medians = _medians(cols, seconds)
    return tuple(
        Moment(
            t_s=float(second),
            in_flight=int(open_then[second]),
            requests_per_s=float(done[second]),
            output_tokens_per_s=float(tokens[second]),
            ttft_p50_ms=medians.get(second),
            failed=int(failed[second]),
        )
        for second in range(seconds)
    )


def curve(values_ms: Floats, unanswered: int = 0) -> tuple[tuple[float, float], ...]:
    """An empirical distribution as (ms, share at or below), in at most 200 points, the tails kept.

    With unanswered requests it ends below 1.
    """
    count = len(values_ms)
    if not count:
        return ()
    ordered = np.sort(values_ms)
    ranks = _curve_ranks(count)
    shares = ranks / (count + unanswered)
    return tuple(zip(ordered[ranks - 1].tolist(), shares.tolist(), strict=True))


def _curve_ranks(count: int) -> Ints:
    """All ranks, or those evenly spread in the middle and on a logarithmic scale towards both ends."""
    if count <= CURVE_POINTS:
        return np.arange(1, count + 1)
    tail = np.geomspace(1, count / 2, CURVE_POINTS // 4)
    middle = np.linspace(1, count, CURVE_POINTS // 2)
    ranks = np.concatenate([tail, middle, count + 1 - tail]).round().astype(np.int64)
    return np.unique(np.clip(ranks, 1, count))


def _second(times_s: Floats, seconds: int) -> Ints:
    return np.clip(times_s.astype(np.int64), 0, seconds - 1)


def _medians(cols: Columns, seconds: int) -> dict[int, float | None]:
    """The median TTFT by the second in which requests were due; only of seconds with answers."""
    found = ttft_ms(cols)
    known = ~np.isnan(found)
    if not known.any():
        return {}
    second = _second(cols.scheduled_s[known], seconds)
    # Columns are in the order in which requests were due, so each second is one stretch.
    present, starts = np.unique(second, return_index=True)
    parts = np.split(found[known], starts[1:])
    return {int(one): plain_quantile(part, 0.5) for one, part in zip(present, parts, strict=True)}
