"""The steady window of a cell: after the warm-up, before the drain."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from dreamseed_cli.bench.measure.columns import Columns, Floats
from dreamseed_cli.bench.measure.tokens import Events
from dreamseed_cli.bench.shapes import Cell, Replay, Streams

BATCH: Final = 5
BATCHES: Final = 40
MOST_TRIMMED: Final = 0.5
FEWEST_REQUESTS: Final = 10
FEWEST_EVENTS: Final = 50


@dataclass(frozen=True, slots=True)
class Window:
    """Seconds since the cell's start. Requests due in it count, however late they ended."""

    start_s: float
    end_s: float
    notes: tuple[str, ...] = ()

    @property
    def span_s(self) -> tuple[float, float]:
        return self.start_s, self.end_s


@dataclass(frozen=True, slots=True)
class Truncation:
    """How many observations the warm-up takes. settled: whether the series came to rest in its first half."""

    observations: int
    settled: bool


def mser5(series: Floats) -> Truncation:
    """Where the warm-up of a series ends, by MSER-5.

    The truncation that makes the standard error of the mean of what is left smallest, over means of batches
    of five (White, Simulation 69(6), 1997; White, Cobb and Spratt, Winter Simulation Conference 2000). Only
    the first half is searched: further on the few batches left are alike by chance. A series that falls or
    rises to its end is cut there, and counts as unsettled.
    """
    count = len(series) // BATCH
    if count < 2:
        return Truncation(0, settled=False)
    means = series[: count * BATCH].reshape(count, BATCH).mean(axis=1)
    # Noise of the arithmetic must not pass for variance: a constant series trims nothing.
    floor = 1e-12 * float(np.abs(means).max()) ** 2
    most = int(count * MOST_TRIMMED)
    errors = [_squared_error(means[cut:], floor) for cut in range(most + 1)]
    best = int(np.argmin(errors))
    return Truncation(best * BATCH, settled=best < most)


def steady_window(cell: Cell, cols: Columns, events: Events, ended_s: float, *, rounds: int = 1) -> Window:
    """The window in which the figures are taken.

    It ends with the arrivals: in the drain the load is no longer the one asked for. Its start is where MSER-5
    finds the flow of tokens (of ended requests, where there are none) settled, and not before the ramp of
    streams is over; at most half is trimmed. With too few samples it is the whole cell.
    rounds: of which this is one; together they have the samples.
    """
    if not len(cols):
        return Window(0.0, ended_s, ("no request was due",))
    end = arrivals_end_s(cell, cols, ended_s)
    times, weights = _flow(cols, events)
    if end > 0 and ((times >= 0) & (times <= end)).sum() >= FEWEST_EVENTS / rounds:
        window = _trimmed(cell, times, weights, end)
        if len(cols.between(window.start_s, window.end_s)) >= FEWEST_REQUESTS / rounds:
            return window
    note = "too few samples to find a steady window: the figures are of the whole cell, drain included"
    return Window(0.0, ended_s, (note,))


def arrivals_end_s(cell: Cell, cols: Columns, ended_s: float) -> float:
    """Until when the load was the one that was asked for.

    For as long as requests were to be begun; until the last one where there was no next to begin: the cell's
    cap was reached, or the trace was over.
    """
    planned = min(cell.duration_s, ended_s)
    capped = cell.requests is not None and len(cols) >= cell.requests
    if len(cols) and (capped or isinstance(cell.shape, Replay)):
        return min(planned, float(cols.scheduled_s[-1]))
    return planned


def _trimmed(cell: Cell, times: Floats, weights: Floats, end: float) -> Window:
    series, _ = np.histogram(times, bins=BATCH * BATCHES, range=(0.0, end), weights=weights)
    cut = mser5(series)
    start = max(cut.observations / len(series) * end, _ramp_s(cell))
    notes = [] if cut.settled else ["the flow did not settle in the first half: use a longer --duration"]
    if start > end * MOST_TRIMMED:
        start = end * MOST_TRIMMED
        notes.append("the ramp takes more than half of the cell: part of it is in the window")
    return Window(start, end, tuple(notes))


def _flow(cols: Columns, events: Events) -> tuple[Floats, Floats]:
    """What flows: tokens, or else ended requests; when, and how much."""
    if events.tokens.sum() > 0:
        return events.time_s, events.tokens
    ended = cols.end_s[~np.isnan(cols.end_s)]
    return ended, np.ones(len(ended))


def _ramp_s(cell: Cell) -> float:
    return cell.shape.ramp_s if isinstance(cell.shape, Streams) else 0.0


def _squared_error(means: Floats, floor: float) -> float:
    variance = float(means.var())
    return 0.0 if variance <= floor else variance / len(means)
