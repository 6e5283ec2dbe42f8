"""Which quantiles are told of how many samples, and which sample each one is: the same rules everywhere."""

from __future__ import annotations

from functools import cache
from itertools import count
from math import ceil
from typing import Final

SHARES: Final = {"p50": 0.50, "p90": 0.90, "p95": 0.95, "p99": 0.99}
RISK: Final = 0.01
_ROUNDING: Final = 1e-9


@cache
def minimum_samples(share: float) -> int:
    """From how many samples on a quantile is told: 11, 64, 130 and 662 for p50, p90, p95 and p99.

    The smallest n of which, with 99 % confidence, more than one sample lies beyond the quantile:
    P(Binomial(n, 1 - share) <= 1) <= 0.01. With fewer the "p99" is little else than the maximum.
    """
    beyond = 1 - share

    def risk(n: int) -> float:
        return share**n + n * beyond * share ** (n - 1)

    return next(n for n in count(1) if risk(n) <= RISK)


def rank(share: float, of: int) -> int:
    """The nearest rank (from 1): the smallest sample with at least that share at or below it."""
    return max(ceil(share * of - _ROUNDING), 1)
