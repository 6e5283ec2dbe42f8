"""The hit rate that a workload's skew gives, computed."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dreamseed_cli.bench.suites.cache_model import (
    Skew,
    filling_s,
    first_hit_share,
    needed_for,
    settled_hit_share,
)

SKEWS = st.builds(Skew, st.integers(1, 300), st.floats(0, 3))
RATES = st.floats(0.01, 1000)
TTLS = st.floats(0.01, 1e5)


@given(SKEWS)
def test_the_shares_fall_with_the_rank_and_add_up(skew: Skew) -> None:
    """Zipf's law: the r-th in proportion to r to the minus exponent."""
    shares = skew.shares()

    assert shares.sum() == pytest.approx(1.0)
    assert all(shares[1:] <= shares[:-1])
    assert shares[0] / shares[-1] == pytest.approx(skew.catalogue**skew.exponent)


@given(SKEWS, RATES, TTLS)
def test_more_requests_or_a_longer_life_never_lower_the_hits(skew: Skew, per_s: float, ttl_s: float) -> None:
    """Only their product counts, and the share lies between 0 and 1."""
    share = settled_hit_share(skew, per_s, ttl_s)

    assert 0 <= share <= 1
    assert settled_hit_share(skew, 2 * per_s, ttl_s) >= share
    assert settled_hit_share(skew, 2 * per_s, ttl_s) == pytest.approx(
        settled_hit_share(skew, per_s, 2 * ttl_s)
    )


def test_a_single_prompt_follows_the_papers_formula() -> None:
    """l T / (1 + l T) with l T = 9."""
    assert settled_hit_share(Skew(1, 1.0), 3.0, 3.0) == pytest.approx(0.9)


def test_a_single_prompt_misses_once() -> None:
    """Of ten requests on an empty cache nine are hits, of ten more all."""
    assert first_hit_share(Skew(1, 1.0), 0, 10) == pytest.approx(0.9)
    assert first_hit_share(Skew(1, 1.0), 10, 10) == pytest.approx(1.0)
    assert first_hit_share(Skew(1, 1.0), 5, 0) == 0.0


@given(SKEWS, st.integers(0, 500), st.integers(1, 500))
def test_what_came_before_only_helps(skew: Skew, before: int, requests: int) -> None:
    """A warm cache misses no more than an empty one, and an empty one at least once."""
    cold = first_hit_share(skew, 0, requests)

    assert cold <= 1 - 1 / requests + 1e-9
    assert first_hit_share(skew, before, requests) >= cold - 1e-9


def test_the_formula_for_a_run_agrees_with_drawn_requests() -> None:
    """400 requests after 100, of 200 prompts: the average of 300 simulations."""
    skew, rng = Skew(200, 0.9), random.Random(3)  # noqa: S311
    shares = []
    for _ in range(300):
        drawn = rng.choices(range(200), skew.shares().tolist(), k=500)
        known, hits = set(drawn[:100]), 0
        for item in drawn[100:]:
            hits += item in known
            known.add(item)
        shares.append(hits / 400)

    assert first_hit_share(skew, 100, 400) == pytest.approx(sum(shares) / 300, abs=0.005)


def test_the_formula_for_a_settled_cache_agrees_with_simulated_time() -> None:
    """Poisson arrivals at 10/s over 50 prompts that are kept for 8 s from when they were made."""
    skew, rng = Skew(50, 1.1), random.Random(4)  # noqa: S311
    now, hits = 0.0, 0
    made: dict[int, float] = {}
    items = rng.choices(range(50), skew.shares().tolist(), k=60_000)
    for item in items:
        now += rng.expovariate(10.0)
        if now - made.get(item, float("-inf")) < 8.0:
            hits += 1
        else:
            made[item] = now

    assert settled_hit_share(skew, 10.0, 8.0) == pytest.approx(hits / len(items), abs=0.005)


@pytest.mark.parametrize("share", [0.5, 0.7, 0.9])
def test_what_is_said_to_be_needed_is_enough_and_hardly_more(share: float) -> None:
    """Each of the three by itself."""
    skew, per_s, ttl_s = Skew(2000, 0.5), 0.5, 600.0
    needed = needed_for(share, skew, per_s, ttl_s)

    assert needed.exponent is not None
    assert needed.catalogue is not None
    assert needed.ttl_s is not None
    assert settled_hit_share(Skew(2000, needed.exponent), per_s, ttl_s) == pytest.approx(share, abs=1e-6)
    assert settled_hit_share(skew, per_s, needed.ttl_s) == pytest.approx(share, abs=1e-6)
    assert settled_hit_share(Skew(needed.catalogue, 0.5), per_s, ttl_s) >= share
    assert settled_hit_share(Skew(needed.catalogue + 1, 0.5), per_s, ttl_s) < share


def test_what_nothing_gives_is_said_so() -> None:
    """One request in a thousand seconds, kept for one: no skew and no catalogue brings 90 %."""
    needed = needed_for(0.9, Skew(10, 1.0), 0.001, 1.0)

    assert (needed.exponent, needed.catalogue) == (None, None)
    assert needed.ttl_s is not None


def test_what_is_there_already_needs_nothing() -> None:
    """The exponent could even be 0."""
    needed = needed_for(0.5, Skew(10, 1.0), 100.0, 3600.0)

    assert needed.exponent == 0.0


def test_filling_ends_when_hits_are_near_the_settled_ones() -> None:
    """Not before."""
    skew, per_s, ttl_s = Skew(200, 0.9), 10.0, 600.0
    settled = settled_hit_share(skew, per_s, ttl_s)

    took_s = filling_s(skew, per_s, ttl_s, 0.05)

    assert settled - first_hit_share(skew, round(per_s * took_s), 1) <= 0.05
    assert settled - first_hit_share(skew, round(per_s * (took_s - 1)), 1) > 0.05


def test_a_cache_has_filled_when_its_first_answers_go() -> None:
    """One prompt asked for once a second and kept for a second: half hits, from the first second on."""
    assert filling_s(Skew(1, 1.0), 1.0, 1.0, 0.0) <= 1.0
    assert filling_s(Skew(10**6, 0.0), 1.0, 100.0, 0.0) == pytest.approx(100.0, rel=0.02)
