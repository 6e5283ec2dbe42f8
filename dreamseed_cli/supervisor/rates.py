"""From running totals to a rate over the last seconds."""

from __future__ import annotations

from collections import deque


class RateWindow:
    """Rate of a counter over a sliding window, with time passed in (seconds, any monotonic clock)."""

    def __init__(self, window_s: float = 5.0) -> None:
        self._window_s = window_s
        self._samples: deque[tuple[float, int]] = deque()

    def add(self, now: float, total: int) -> None:
        """One reading of the counter; a smaller total than before means that it began anew."""
        if self._samples and total < self._samples[-1][1]:
            self._samples.clear()
        self._samples.append((now, total))
        # The youngest sample beyond the window stays: with it the window is covered whole.
        while len(self._samples) > 2 and self._samples[1][0] <= now - self._window_s:
            self._samples.popleft()

    def per_s(self) -> float | None:
        """The rate per second; None until there are two readings."""
        if len(self._samples) < 2:
            return None
        (start, first), (end, last) = self._samples[0], self._samples[-1]
        return (last - first) / (end - start) if end > start else None
