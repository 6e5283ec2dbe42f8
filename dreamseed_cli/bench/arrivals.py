"""When requests are due, and which process makes which: the whole plan follows from the seed. Pure.

Chance decides when requests come, not how many: of a Poisson process, and of users who pause for
exponential times, as many come in the whole run as come on average. (A Poisson process whose count is known
is that many moments, each uniform in the run; the gaps stay exponential.) Else a run of half a minute at 10
requests/s would have a load that is 11 % off every twentieth time, and its figures would be another load's.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from functools import lru_cache

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
    """One user's pauses in seconds, exponentially distributed, without end; the same in whatever process.

    The n-th pauses of all users together have the law's own mean: each user gets one of `count` equal parts
    of the law, at random (stratified sampling).
    """
    for turn in itertools.count():
        yield float(_pauses(shape, turn, _entropy(seed))[user])


@lru_cache(maxsize=16)
def _pauses(shape: Users, turn: int, entropy: int) -> Seconds:
    """Every user's pause of this turn."""
    generator = np.random.default_rng([_THINKING, entropy, turn])
    longer = (generator.permutation(shape.count) + 1.0 - generator.random(shape.count)) / shape.count
    pauses: Seconds = -shape.think_s * np.log(longer)
    return pauses


def _times(shape: Rate | Streams | Users, duration_s: float, seed: int) -> Seconds:
    if isinstance(shape, Users):
        return _midst_of_thinking(shape, duration_s, seed)
    if isinstance(shape, Streams):
        return np.arange(shape.count, dtype=np.float64) * (shape.ramp_s / max(shape.count, 1))
    if shape.arrivals == "poisson":
        return _poisson(shape.per_s, duration_s, seed)
    # One more than fit: what is due too late is left out by whoever asked.
    return np.arange(math.ceil(duration_s * shape.per_s) + 1, dtype=np.float64) / shape.per_s


def _midst_of_thinking(shape: Users, duration_s: float, seed: int) -> Seconds:
    """The first requests of the users who make one in the run, in order.

    What is left of an exponential pause is distributed as the pause itself: so the users ask at their steady
    rate from the beginning, where users who begin one after another overshoot it once the first ones return.
    """
    generator = np.random.default_rng([_STARTS, _entropy(seed)])
    within = -math.expm1(-duration_s / shape.think_s) if shape.think_s > 0 else 1.0
    parts = generator.random(_on_average(shape.count * within, generator)) * within
    return np.sort(-shape.think_s * np.log1p(-parts))


def _poisson(per_s: float, duration_s: float, seed: int) -> Seconds:
    generator = np.random.default_rng([_ARRIVALS, _entropy(seed)])
    return np.sort(generator.random(_on_average(per_s * duration_s, generator)) * duration_s)


def _on_average(expected: float, generator: np.random.Generator) -> int:
    """A whole number next to it, whose mean it is."""
    return math.floor(expected + generator.random())


def _entropy(seed: int) -> int:
    """numpy takes no negative seeds."""
    return seed & (2**64 - 1)
