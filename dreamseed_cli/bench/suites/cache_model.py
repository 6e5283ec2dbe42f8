"""The hit rate that a skewed workload must have, computed: it is a property of the skew, not of the box.

Requests are independent draws (the independent reference model) from a catalogue whose r-th most popular item
comes in proportion to r to the minus `exponent` (Zipf). An answer is kept for a time from when it was made,
however often it is asked for meanwhile, and none is pushed out. Pure; rates are per second, times seconds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

Shares = npt.NDArray[np.float64]

_HIGHEST_EXPONENT = 5.0
_LONGEST_TTL_S = 1e9
_HALVINGS = 60


@dataclass(frozen=True, slots=True)
class Skew:
    """A catalogue and how unevenly it is asked for."""

    catalogue: int
    exponent: float

    def shares(self) -> Shares:
        """Of all requests, each item's; they add up to 1."""
        weights: Shares = np.arange(1, self.catalogue + 1, dtype=np.float64) ** -self.exponent
        shares: Shares = weights / weights.sum()
        return shares


@dataclass(frozen=True, slots=True)
class Needed:
    """What would give the wanted share, each with the other two as they are; None where nothing does."""

    exponent: float | None
    catalogue: int | None
    ttl_s: float | None


def settled_hit_share(skew: Skew, per_s: float, ttl_s: float) -> float:
    """The share of hits once the cache has been in use for long.

    An item asked for at the rate l misses once, is kept for T, and misses again 1/l later on average: its
    share of hits is l T / (1 + l T) (Jung, Berger and Balakrishnan, Modeling TTL-based Internet Caches,
    INFOCOM 2003).
    """
    shares = skew.shares()
    kept = shares * per_s * ttl_s
    return float((shares * kept / (1 + kept)).sum())


def first_hit_share(skew: Skew, before: int, requests: int) -> float:
    """The share of hits among `requests` that follow `before` others on an empty cache that forgets nothing.

    Only an item's first request misses: n requests ask for sum(1 - (1 - p)^n) different items on average.
    """
    if requests < 1:
        return 0.0
    return 1 - (_different(skew, before + requests) - _different(skew, before)) / requests


def filling_s(skew: Skew, per_s: float, ttl_s: float, within: float) -> float:
    """How long an empty cache takes until its hits are within so much (a share) of the settled ones.

    At the latest when the first answers go: from then on what comes is about what goes.
    """
    settled = settled_hit_share(skew, per_s, ttl_s)

    def full(seconds: float) -> bool:
        return settled - first_hit_share(skew, round(per_s * seconds), 1) <= within

    return _least(full, 0.0, ttl_s) or 0.0 if full(ttl_s) else ttl_s


def needed_for(share: float, skew: Skew, per_s: float, ttl_s: float) -> Needed:
    """What the exponent, the catalogue or the time to live would have to be for so many hits, settled."""

    def of(**change: Any) -> float:
        return settled_hit_share(replace(skew, **change), per_s, ttl_s)

    exponent = _least(lambda x: of(exponent=x) >= share, 0.0, _HIGHEST_EXPONENT)
    ttl = _least(lambda x: settled_hit_share(skew, per_s, x) >= share, 0.0, _LONGEST_TTL_S)
    return Needed(exponent, _largest(lambda n: of(catalogue=n) >= share, skew.catalogue), ttl)


def _different(skew: Skew, requests: int) -> float:
    shares = skew.shares()
    # A catalogue of one has a share of 1, whose logarithm of nothing is minus infinity: rightly so.
    with np.errstate(divide="ignore"):
        never = np.exp(requests * np.log1p(-shares)) if requests else np.ones_like(shares)
    return float((1 - never).sum())


def _least(holds: Callable[[float], bool], low: float, high: float) -> float | None:
    """The least value that holds, which every greater one does too; None if the highest does not."""
    if not holds(high):
        return None
    if holds(low):
        return low
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high


def _largest(holds: Callable[[int], bool], beyond: int) -> int | None:
    """The largest number that holds, which every smaller one does too; looked for up to 100 x `beyond`."""
    if not holds(1):
        return None
    low, high, most = 1, 2, 100 * beyond
    while holds(high):
        if high >= most:
            return high
        low, high = high, min(2 * high, most)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low
