"""A distribution of times with its quantiles, each with its interval and only where samples carry it."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, floor

import numpy as np

from dreamseed_cli.bench.measure.columns import Floats
from dreamseed_cli.bench.measure.independence import effective_samples
from dreamseed_cli.bench.measure.intervals import binomial_ranks, mean_interval
from dreamseed_cli.bench.result import Interval, Latency
from dreamseed_cli.core.quantiles import SHARES, minimum_samples, rank


def plain_quantile(values: Floats, share: float) -> float | None:
    """The sample's quantile by nearest rank however few there are; None of nothing."""
    if not len(values):
        return None
    place = rank(share, len(values)) - 1
    return float(np.partition(values, place)[place])


def quantile_ms(values_ms: Sequence[float], share: float) -> float | None:
    """The same to the microsecond; None where there are too few samples for it."""
    if len(values_ms) < minimum_samples(share):
        return None
    found = plain_quantile(np.asarray(values_ms), share)
    return None if found is None else round(found, 3)


def latency(values_ms: Floats, *, unanswered: int = 0, clusters: int | None = None) -> Latency | None:
    """The distribution of times in milliseconds, given in the order of time; None if there are none.

    unanswered: requests whose time never came. They are right-censored: each ranks as longer than every
    value, so a quantile that falls among them is left out, and one below them is not flattered by their
    absence. Mean, minimum and maximum are of the values alone.
    clusters: how many the values come in (the gaps between one request's tokens), of about one size each.

    Quantiles are by nearest rank (numpy's `inverted_cdf`), their intervals by order statistics
    (Conover, Practical Nonparametric Statistics, 3.2), free of any distribution, and as wide as those of so
    many independent samples as the values (or their clusters) stand for. How different the next run would
    be is not in them.
    """
    if not len(values_ms):
        return None
    ordered = np.sort(values_ms)
    total = len(ordered) + unanswered
    series = values_ms if clusters is None else _means(values_ms, clusters)
    found = {
        name: _quantile(ordered, total, share, _independent(series, share))
        for name, share in SHARES.items()
        if total >= minimum_samples(share)
    }
    return Latency(
        n=len(ordered),
        mean=mean_interval(values_ms, series),
        min=float(ordered[0]),
        max=float(ordered[-1]),
        quantiles={name: interval for name, interval in found.items() if interval is not None},
    )


def missing_quantiles(found: Latency, unanswered: int) -> tuple[str, ...]:
    """The quantiles for which there are samples enough, but which fall among the unanswered."""
    total = found.n + unanswered
    due = (name for name, share in SHARES.items() if total >= minimum_samples(share))
    return tuple(name for name in due if name not in found.quantiles)


def _means(values: Floats, clusters: int) -> Floats:
    parts = np.array_split(values, max(1, min(clusters, len(values))))
    return np.array([part.mean() for part in parts])


def _independent(series: Floats, share: float) -> int:
    """How many independent samples a quantile's interval rests on."""
    return int(effective_samples(series, above=plain_quantile(series, share)))


def _quantile(ordered: Floats, total: int, share: float, independent: int) -> Interval | None:
    place = rank(share, total)
    if place > len(ordered):
        return None
    low, high = binomial_ranks(independent, share)
    low_place = min(floor(low * total / independent), place)
    high_place = max(ceil(high * total / independent), place)
    return Interval(
        value=float(ordered[place - 1]),
        low=float(ordered[low_place - 1]) if low_place >= 1 else None,
        high=float(ordered[high_place - 1]) if high <= independent and high_place <= len(ordered) else None,
    )
