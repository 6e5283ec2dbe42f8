"""Whether a load is over what the server can take: valid all the same, and said."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from typing import Final

import numpy as np

from dreamseed_cli.bench.measure.columns import Columns, Floats, Ints, in_flight
from dreamseed_cli.bench.measure.intervals import rate_interval
from dreamseed_cli.bench.measure.steady import Window
from dreamseed_cli.bench.measure.tokens import Events
from dreamseed_cli.bench.shapes import Rate, Replay, Shape

CHANCE: Final = 1.645
"""One-sided 95 % of a normal distribution."""
ANSWERS_TO_FILL: Final = 3.0
"""How many answers, one after another, it takes from an idle server until as many end as begin."""


@dataclass(frozen=True, slots=True)
class _Queue:
    """What waited or was under way from `start_s` to `end_s`, and how much came and went meanwhile."""

    start_s: float
    end_s: float
    waiting: Ints
    per_s: float
    moves: int

    @property
    def grown(self) -> float:
        return self.per_s * (self.end_s - self.start_s)


def over_capacity(shape: Shape, cols: Columns, events: Events, window: Window, ended_s: float) -> bool:
    """Whether, under an open load, requests came faster than the server completed them.

    Two signs tell it. Either so many more wait or are under way in the end that a system just at its limit
    would hardly show it. Or the tokens that came are fewer than those asked for, beyond their 95 % interval,
    and the queue grew by more than its own chance (the root of its mean). The second one sees a load of a
    tenth too much in a minute, which the first cannot: a busy server's flow is even, arrivals are not.
    """
    if not isinstance(shape, Rate | Replay) or not len(cols):
        return False
    queue = _queue(cols, window, ended_s)
    if queue is None:
        return False
    return queue.grown > CHANCE * sqrt(queue.moves) or _falls_behind(shape, cols, events, queue)


def _queue(cols: Columns, window: Window, ended_s: float) -> _Queue | None:
    """None if the cell is too short to tell.

    The time in which the batch fills does not count, for in it the number grows in any system.
    """
    end = np.where(np.isnan(cols.end_s), ended_s, cols.end_s)
    start_s = max(window.start_s, _filled_s(cols, end))
    if start_s > (window.start_s + window.end_s) / 2:
        return None
    moments = np.linspace(start_s, window.end_s, 101)
    waiting = in_flight(cols.scheduled_s, end, moments)
    slope = float(np.polyfit(moments - start_s, waiting, 1)[0])
    moves = sum(int(((one >= start_s) & (one <= window.end_s)).sum()) for one in (cols.scheduled_s, end))
    return _Queue(start_s, window.end_s, waiting, slope, moves)


def _filled_s(cols: Columns, end_s: Floats) -> float:
    """When a batch of answers is full at this load, counted from an idle server.

    Engines slow down as their batch fills, so it takes `ANSWERS_TO_FILL` answers one after another, as long
    as they take at this load from their first token on: a queue does not prolong that. And at least the time
    of the first tenth of the requests, which a queue has not delayed yet.
    """
    early = float(np.median((end_s - cols.scheduled_s)[: len(cols) // 10 + 1]))
    made = (end_s - cols.first_s)[~np.isnan(cols.first_s)]
    return max(early, ANSWERS_TO_FILL * float(np.median(made))) if len(made) else early


def _falls_behind(shape: Rate | Replay, cols: Columns, events: Events, queue: _Queue) -> bool:
    """Whether fewer tokens came than were asked for, and the queue grew meanwhile."""
    due = cols.between(queue.start_s, queue.end_s)
    if not len(due) or queue.grown <= sqrt(max(float(queue.waiting.mean()), 1.0)):
        return False
    lengths = [one.completion_tokens or one.wanted_tokens for one in due.records]
    per_s = shape.per_s if isinstance(shape, Rate) else len(due) / (queue.end_s - queue.start_s)
    came = rate_interval(events.time_s, events.tokens, (queue.start_s, queue.end_s))
    return came.high is not None and came.value > 0 and came.high < per_s * float(np.mean(lengths))
