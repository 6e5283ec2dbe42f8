"""95 % confidence intervals of means, rates and shares."""

from __future__ import annotations

from collections.abc import Sequence
from math import log, sqrt
from typing import Final

import numpy as np
from scipy import stats  # type: ignore[import-untyped]

from dreamseed_cli.bench.measure.columns import Bools, Floats
from dreamseed_cli.bench.measure.independence import effective_samples
from dreamseed_cli.bench.result import Interval

CONFIDENCE: Final = 0.95
MEAN_BATCHES: Final = 20
FEW_BATCHES: Final = 10


def mean_interval(values: Floats, series: Floats | None = None) -> Interval:
    """The mean of values in the order of time.

    Neighbours in time are alike (one queue delays them all), which Student's interval over single values
    would take for certainty. So the wider of two counts: that of so many values as these stand for
    (`effective_samples`), and from 200 values on that of the means of 20 batches.
    series: stands for the values where they come in clusters, one of each.
    """
    count = len(values)
    value = float(values.mean())
    if count < 2:
        return Interval(value=value)
    many = count >= 10 * MEAN_BATCHES
    means = np.array([part.mean() for part in np.array_split(values, MEAN_BATCHES)]) if many else values
    half = max(_student_half(means), _dependent_half(values if series is None else series))
    least = min(0.0, float(values.min()))  # the mean of times is not negative, however few they are
    return Interval(value=value, low=max(value - half, least), high=value + half)


def rate_interval(times_s: Floats, weights: Floats, window_s: tuple[float, float]) -> Interval:
    """Events (or what they weigh) per second of the window, by batch means over equal parts of it.

    20 parts, 10 where one would be shorter than a second. Where nothing came, the interval ends where nothing
    would come one time in 40 (Poisson), each weighing as those outside of the window do.
    """
    length = window_s[1] - window_s[0]
    if length <= 0:
        return Interval(value=0.0)
    batches = MEAN_BATCHES if length >= MEAN_BATCHES else FEW_BATCHES
    sums, _ = np.histogram(times_s, bins=batches, range=window_s, weights=weights)
    value = float(sums.sum() / length)
    if not value:
        each = float(weights.mean()) if len(weights) else 1.0
        return Interval(value=0.0, low=0.0, high=log(2 / (1 - CONFIDENCE)) / length * each)
    half = _student_half(sums * (batches / length))
    return Interval(value=value, low=max(value - half, 0.0), high=value + half)


def rate_in(times_s: Floats, weights: Floats, windows_s: Sequence[tuple[float, float]]) -> Interval:
    """The same of several windows that do not overlap, as if each went on where the one before ended."""
    if len(windows_s) == 1:
        return rate_interval(times_s, weights, windows_s[0])
    passed, times, kept = 0.0, [], []
    for start, end in windows_s:
        inside = (times_s >= start) & (times_s <= end)
        times.append(times_s[inside] - start + passed)
        kept.append(weights[inside])
        passed += end - start
    return rate_interval(np.concatenate(times), np.concatenate(kept), (0.0, passed))


def share_interval(good: int, of: int, independent: float | None = None) -> Interval:
    """A share by Wilson's interval; 0 without an interval of nothing.

    independent: how many independent ones the `of` stand for, if neighbours are alike.
    """
    if of == 0:
        return Interval(value=0.0)
    value, count = good / of, independent or of
    z = float(stats.norm.ppf((1 + CONFIDENCE) / 2))
    centre = (value + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z / (1 + z**2 / count) * sqrt(value * (1 - value) / count + z**2 / (4 * count**2))
    return Interval(
        value=value, low=max(0.0, min(centre - half, value)), high=min(1.0, max(centre + half, value))
    )


def attainment(good: Bools, waited: Floats | None = None) -> Interval:
    """The share of requests, in the order of time, that were good: a queue makes them bad in rows.

    waited: what made them good or bad, such as their TTFT; infinite for what never came. Where all were good
    it alone tells how much they were alike.
    """
    if not len(good):
        return share_interval(0, 0)
    series = [good.astype(np.float64)] if waited is None else [good.astype(np.float64), waited]
    return share_interval(int(good.sum()), len(good), min(effective_samples(one) for one in series))


def binomial_ranks(count: int, share: float) -> tuple[int, int]:
    """The ranks (from 1) of the order statistics that hold a quantile between them.

    0 or count + 1: no sample bounds it on that side.
    """
    tail = (1 - CONFIDENCE) / 2
    low, high = stats.binom.ppf((tail, 1 - tail), count, share)
    return max(int(low), 0), int(high) + 1


def _dependent_half(series: Floats) -> float:
    """Of so many independent values as a series stands for: two at least, of which the interval is widest."""
    if len(series) < 2:
        return 0.0
    count = max(effective_samples(series), 2.0)
    return float(stats.t.ppf((1 + CONFIDENCE) / 2, count - 1) * series.std(ddof=1) / sqrt(count))


def _student_half(means: Floats) -> float:
    count = len(means)
    return float(stats.t.ppf((1 + CONFIDENCE) / 2, count - 1) * means.std(ddof=1) / sqrt(count))
