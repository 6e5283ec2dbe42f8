"""Times to the first token of the last minutes, from the gateway's histogram."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping

from dreamseed_cli.core.quantiles import SHARES, minimum_samples
from dreamseed_cli.top.reading import Reading

FIRST_TOKENS = "gen_ai_server_time_to_first_token_seconds_bucket"
WINDOW_S = 300.0
"""As in the rules for Prometheus, so that this screen and the dashboards tell the same."""
_EVERY_S = 5.0
SHOWN = ("p50", "p95", "p99")
Buckets = Mapping[float, float]
"""How many took at most so many seconds, by that bound."""


class FirstTokens:
    """Remembers the last minutes' readings, a few of them and of this histogram alone."""

    def __init__(self) -> None:
        self._readings: deque[Reading] = deque()

    def quantiles(self, now: Reading, priority: str) -> dict[str, float | None]:
        """Seconds by quantile since the oldest reading; None with too few samples; inf: beyond all bounds."""
        was = _buckets(self._readings[0], priority) if self._readings else {}
        grown = {bound: count - was.get(bound, 0.0) for bound, count in _buckets(now, priority).items()}
        return {name: quantile(grown, SHARES[name]) for name in SHOWN}

    def add(self, now: Reading) -> None:
        """Remember this one. A gateway that began anew counts from zero: what was before is forgotten."""
        own = Reading(now.at, {key: value for key, value in now.samples.items() if key[0] == FIRST_TOKENS})
        if self._readings and own.total(FIRST_TOKENS) < self._readings[-1].total(FIRST_TOKENS):
            self._readings.clear()
            self._readings.append(Reading(now.at))
        elif not self._readings or now.at - self._readings[-1].at >= _EVERY_S:
            self._readings.append(own)
        while self._readings[0].at < now.at - WINDOW_S:
            self._readings.popleft()


def _buckets(reading: Reading, priority: str) -> dict[float, float]:
    """Summed over engines and models."""
    sums: dict[float, float] = {}
    for (name, has), value in reading.samples.items():
        labels = dict(has)
        if name == FIRST_TOKENS and labels.get("priority") == priority:
            bound = float(labels["le"])
            sums[bound] = sums.get(bound, 0.0) + value
    return sums


def quantile(buckets: Buckets, share: float) -> float | None:
    """As histogram_quantile() of Prometheus: linear within the bucket in which it lies."""
    total = buckets.get(math.inf, 0.0)
    if total < minimum_samples(share):
        return None
    below, low = 0.0, 0.0
    for bound, count in sorted(buckets.items()):
        if count >= share * total:
            return (
                bound
                if bound == math.inf
                else low + (bound - low) * (share * total - below) / (count - below)
            )
        below, low = count, bound
    return None
