"""When requests are due, and which process makes which."""

from __future__ import annotations

from itertools import islice, pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dreamseed_cli.bench.arrivals import due_times, replay_times, share, think_times
from dreamseed_cli.bench.shapes import Rate, Replay, Streams, Users


def _follows_exponential_law(values: list[float], mean: float) -> bool:
    """Kolmogorov and Smirnov's test: the greatest distance between both distribution functions, at 1 %."""
    ordered = np.sort(values)
    law = 1 - np.exp(-ordered / mean)
    ranks = np.arange(len(ordered) + 1) / len(ordered)
    distance = max(float(np.max(ranks[1:] - law)), float(np.max(law - ranks[:-1])))
    return distance < 1.63 / float(np.sqrt(len(ordered)))


_SEEDS = st.integers(-(2**63), 2**63 - 1)
_RATES = st.builds(Rate, st.floats(0.01, 400.0), st.sampled_from(["poisson", "constant"]))
_CLOSED = st.builds(Streams, st.integers(0, 500), st.floats(0.0, 20.0)) | st.builds(
    Users, st.integers(0, 500), st.floats(0.0, 20.0)
)


@given(_RATES | _CLOSED, st.floats(0.0, 10.0), _SEEDS)
def test_times_rise_within_the_duration(shape: Rate | Streams | Users, duration_s: float, seed: int) -> None:
    """All lie in [0, duration) and none lies before the one before it."""
    times = due_times(shape, duration_s, seed).tolist()
    assert all(0 <= time < duration_s for time in times)
    assert all(before <= after for before, after in pairwise(times))


@given(st.floats(0.01, 400.0), st.floats(0.0, 10.0), _SEEDS)
def test_as_many_come_as_were_asked_for(per_s: float, duration_s: float, seed: int) -> None:
    """Chance decides when, not how many: what is measured is the load asked for."""
    assert abs(len(due_times(Rate(per_s), duration_s, seed)) - per_s * duration_s) <= 1


@given(st.integers(1, 500), st.floats(1.0, 20.0), st.floats(0.0, 10.0), _SEEDS)
def test_as_many_users_begin_as_on_average(count: int, think_s: float, duration_s: float, seed: int) -> None:
    """Those whose exponential pause ends within the run."""
    expected = count * (1 - np.exp(-duration_s / think_s))
    assert abs(len(due_times(Users(count, think_s), duration_s, seed)) - expected) <= 1


@given(st.integers(0, 2000), st.integers(1, 40))
def test_shares_make_the_whole_exactly(count: int, processes: int) -> None:
    """Every request is made by exactly one process, however many there are."""
    shares = [share(count, index, processes) for index in range(processes)]
    assert sorted(number for part in shares for number in part) == list(range(count))


def test_poisson_gaps_are_exponential() -> None:
    """The gaps follow the exponential law of the asked rate (Kolmogorov-Smirnov, fixed seed)."""
    times = due_times(Rate(50.0), 400.0, seed=7)
    gaps = np.diff(np.concatenate(([0.0], times)))
    assert _follows_exponential_law(gaps.tolist(), 1 / 50.0)
    assert not _follows_exponential_law(gaps.tolist(), 1 / 55.0)


def test_constant_arrivals_are_even() -> None:
    """Four a second for a second: at the quarters, beginning at 0."""
    assert due_times(Rate(4.0, "constant"), 1.0, seed=1).tolist() == [0.0, 0.25, 0.5, 0.75]


def test_a_ramp_spreads_the_starts() -> None:
    """The first requests are spread evenly over the ramp."""
    assert due_times(Streams(4, ramp_s=2.0), 10.0, seed=1).tolist() == [0.0, 0.5, 1.0, 1.5]


def test_users_ask_at_their_steady_rate_from_the_beginning() -> None:
    """They begin in the midst of thinking: in any stretch of time as many begin as an exponential pause has
    ends there, and with those that return, the rate is the same all along.
    """
    shape = Users(20_000, think_s=10.0)
    firsts = due_times(shape, 1e9, seed=3)
    assert len(firsts) == 20_000
    again = [first + next(think_times(shape, user, 3)) for user, first in enumerate(firsts)]
    third = [next(islice(think_times(shape, user, 3), 1, None)) + at for user, at in enumerate(again)]
    asked, _ = np.histogram([*firsts, *again, *third], bins=5, range=(0.0, 10.0))
    assert asked[:3] == pytest.approx(4_000, rel=0.05)


def test_another_seed_makes_other_arrivals() -> None:
    """Two runs with two seeds are two samples."""
    assert not np.array_equal(due_times(Rate(10.0), 5.0, 1), due_times(Rate(10.0), 5.0, 2))


def test_a_replay_is_as_fast_as_asked() -> None:
    """Twice the speed: half the times, and what lies beyond the duration is left out."""
    shape = Replay("trace", 4.0, speed=2.0)
    assert replay_times(np.array([0.0, 1.0, 4.0]), shape, 1.5).tolist() == [0.0, 0.5]


@given(_SEEDS, st.integers(0, 8))
def test_a_users_thinking_is_its_own(seed: int, user: int) -> None:
    """The same user thinks alike in whatever process; its neighbour thinks otherwise."""
    shape = Users(count=10, think_s=3.0)

    def first(who: int) -> list[float]:
        return list(islice(think_times(shape, who, seed), 5))

    assert first(user) == first(user)
    assert first(user) != first(user + 1)


def test_thinking_is_exponential() -> None:
    """All users' pauses together follow the exponential law of the asked mean (fixed seed)."""
    shape = Users(count=500, think_s=3.0)
    pauses = [pause for user in range(500) for pause in islice(think_times(shape, user, 5), 4)]
    assert _follows_exponential_law(pauses, 3.0)


def test_all_users_together_pause_for_the_mean() -> None:
    """Without the chance that a pause has by itself: 300 of them would miss by 6 % one time in three."""
    shape = Users(count=300, think_s=3.0)
    for turn in range(4):
        pauses = [next(islice(think_times(shape, user, 5), turn, None)) for user in range(300)]
        assert np.mean(pauses) == pytest.approx(3.0, rel=0.01)
