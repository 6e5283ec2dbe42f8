"""How many independent samples values in the order of time stand for: one queue delays neighbours alike."""

from __future__ import annotations

from typing import Final

import numpy as np
from scipy import stats  # type: ignore[import-untyped]

from dreamseed_cli.bench.measure.columns import Floats

WINDOW: Final = 5.0
"""Autocorrelations are added up to so many correlation times (Sokal, Monte Carlo Methods, 1997)."""
LEAST_KEPT: Final = 0.25
"""Correcting for the sample's own mean never makes a correlation time more than four times as long."""


def effective_samples(values: Floats, above: float | None = None) -> float:
    """Values over their integrated autocorrelation time: of their ranks, and of being above a bound.

    The longer time counts: ranks tell most of how a queue comes and goes, the bound alone of pauses that only
    the tail knows. Equal values share a rank: told apart by their order, they would seem to climb. At least
    one.
    """
    series = [stats.rankdata(values)]
    if above is not None:
        series.append((values > above).astype(np.float64))
    return max(1.0, len(values) / max(correlation_time(one) for one in series))


def correlation_time(series: Floats) -> float:
    """1 + 2 times the sum of the autocorrelations, in samples; 1 for what is independent or constant."""
    count = len(series)
    centred = series - series.mean()
    if count < 4 or not centred.any():
        return 1.0
    spectrum = np.fft.rfft(centred, 1 << (2 * count - 1).bit_length())
    covariance = np.fft.irfft(np.abs(spectrum) ** 2)[:count]
    times = 2 * np.cumsum(covariance / covariance[0]) - 1
    enough = np.flatnonzero(np.arange(count) >= WINDOW * times)
    last = int(enough[0]) if len(enough) else count - 1
    # The mean is the sample's own, so every autocorrelation comes out too small by the time over the count.
    return max(1.0, float(times[last]) / max(1 - (2 * last + 1) / count, LEAST_KEPT))
