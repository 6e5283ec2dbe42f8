"""When requests are due, and which process makes which: the whole plan follows from the seed. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from dreamseed_cli.bench.shapes import Rate, Replay, Streams, Users

Seconds = npt.NDArray[np.float64]

# Apart from the workload's own generators, which the same seed begins.
_ARRIVALS, _THINKING, _STARTS = 0xA771, 0x7417, 0x57A7


def due_times(shape: Rate | Streams | Users, duration_s: float, seed: int) -> Seconds:
    """Seconds since the start, rising, all below `duration_s`: every request of a rate; of streams and users
    each one's first.
    """
    times = _times(shape, duration_s, seed)
    return times[times < duration_s]


def replay_times(recorded_s: Seconds, shape: Replay, duration_s: float) -> Seconds:
    """The recorded times at the replay's speed, counted from the trace's own zero, below `duration_s`."""
    times: Seconds = recorded_s / shape.speed
    return times[times < duration_s]


def share(count: int, index: int, processes: int) -> range:
    """The numbers of 0 to `count` that process `index` of `processes` makes: every one has exactly one."""
    return range(index, count, processes)


def think_times(shape: Users, user: int, seed: int) -> Iterator[float]:
    """One user's pauses in seconds, exponentially distributed, without end; the same in whatever process."""
    generator = np.random.default_rng([_THINKING, _entropy(seed), user])
    while True:
        yield float(generator.exponential(shape.think_s))


def _times(shape: Rate | Streams | Users, duration_s: float, seed: int) -> Seconds:
    if isinstance(shape, Users):
        return _midst_of_thinking(shape, seed)
    if isinstance(shape, Streams):
        return np.arange(shape.count, dtype=np.float64) * (shape.ramp_s / max(shape.count, 1))
    if shape.arrivals == "poisson":
        return _poisson(shape.per_s, duration_s, seed)
    # One more than fit: what is due too late is left out by whoever asked.
    return np.arange(math.ceil(duration_s * shape.per_s) + 1, dtype=np.float64) / shape.per_s


def _midst_of_thinking(shape: Users, seed: int) -> Seconds:
    """Every user's first request, in order.

    What is left of an exponential pause is distributed as the pause itself: so the users ask at their steady
    rate from the beginning, where users who begin one after another overshoot it once the first ones return.
    """
    generator = np.random.default_rng([_STARTS, _entropy(seed)])
    return np.sort(generator.exponential(shape.think_s, shape.count))


def _poisson(per_s: float, duration_s: float, seed: int) -> Seconds:
    """Exponential gaps. Drawn in blocks of one size, so that a longer run begins as a shorter one does."""
    generator = np.random.default_rng([_ARRIVALS, _entropy(seed)])
    blocks: list[Seconds] = []
    last_s = 0.0
    while last_s < duration_s:
        blocks.append(last_s + np.cumsum(generator.exponential(1.0 / per_s, 1024)))
        last_s = float(blocks[-1][-1])
    return np.concatenate(blocks) if blocks else np.empty(0)


def _entropy(seed: int) -> int:
    """numpy takes no negative seeds."""
    return seed & (2**64 - 1)
