"""Whether a load is over what the server can take: valid all the same, and said."""

from __future__ import annotations

from math import sqrt
from typing import Final

import numpy as np

from dreamseed_cli.bench.measure.columns import Columns, in_flight
from dreamseed_cli.bench.measure.steady import Window
from dreamseed_cli.bench.shapes import Rate, Replay, Shape

CHANCE: Final = 1.645
"""One-sided 95 % of a normal distribution."""


def over_capacity(shape: Shape, cols: Columns, window: Window, ended_s: float) -> str | None:
    """A note if, under an open load, more and more requests waited or were under way.

    They did if their number (counted from when each was due) grew by more than chance would let it in a
    system just at its limit, where it is a random walk of as many steps as there were arrivals and ends.
    The time in which the first answers are still to come does not count, for in it the number grows in any
    system: it is taken from the first tenth of the requests, which a queue has not delayed yet.
    """
    if not isinstance(shape, Rate | Replay) or not len(cols):
        return None
    end = np.where(np.isnan(cols.end_s), ended_s, cols.end_s)
    early = slice(len(cols) // 10 + 1)
    start_s = max(window.start_s, float(np.median((end - cols.scheduled_s)[early])))
    if start_s > (window.start_s + window.end_s) / 2:
        return None
    moments = np.linspace(start_s, window.end_s, 101)
    waiting = in_flight(cols.scheduled_s, end, moments)
    slope = float(np.polyfit(moments - start_s, waiting, 1)[0])
    arrivals, ends = (((one >= start_s) & (one <= window.end_s)).sum() for one in (cols.scheduled_s, end))
    if slope * (window.end_s - start_s) <= CHANCE * sqrt(arrivals + ends):
        return None
    return (
        f"over capacity: the requests that wait or are under way grew by {slope:.3g} a second, "
        f"from {waiting[0]} to {waiting[-1]}; the latencies grow with the length of the cell"
    )
