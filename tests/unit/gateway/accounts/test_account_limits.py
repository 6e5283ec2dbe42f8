"""Limits per user: their law, and that memory stays bounded."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dreamseed_cli.engine.types import GenerationRequest, Turn
from dreamseed_cli.gateway.accounts.limits import UserLimits, estimate_tokens
from dreamseed_cli.gateway.accounts.types import Tier
from dreamseed_cli.gateway.refusals import OverLimit
from dreamseed_cli.profile.schema import Accounts, Limits

_SLACK = 1e-3


def _limits(requests: int | None = None, tokens: int | None = None, **more: int) -> UserLimits:
    tier = Limits(requests_per_minute=requests, tokens_per_minute=tokens)
    return UserLimits(dict.fromkeys(Tier, tier), **more)


def _most_in_any_window(taken: list[tuple[float, float]], allowance: float) -> float:
    """By how much any window held more than the allowance and what comes back in it."""
    return max(
        (
            sum(amount for _, amount in taken[first : last + 1])
            - allowance
            - (taken[last][0] - taken[first][0]) * allowance / 60
            for first in range(len(taken))
            for last in range(first, len(taken))
        ),
        default=0.0,
    )


@given(st.integers(1, 30), st.lists(st.floats(0, 20), max_size=80))
def test_no_window_holds_more_requests_than_allowed(allowance: int, pauses: list[float]) -> None:
    """Never more than the allowance and t/60 of it in any t seconds."""
    limits, now, taken = _limits(requests=allowance), 1000.0, []
    for pause in pauses:
        now += pause
        try:
            limits.take("u", Tier.FREE, 0, now)
        except OverLimit:
            continue
        taken.append((now, 1.0))
    assert _most_in_any_window(taken, allowance) <= _SLACK


_STEP = st.tuples(st.floats(0, 20), st.integers(1, 100), st.floats(0, 1), st.integers(0, 5))


@given(st.integers(100, 300), st.lists(_STEP, max_size=60))
def test_no_window_holds_more_tokens_than_allowed(
    allowance: int, steps: list[tuple[float, int, float, int]]
) -> None:
    """However much less the requests use than they reserved, and whenever they end."""
    limits, now = _limits(tokens=allowance), 1000.0
    running: list[tuple[int, int]] = []
    used: list[tuple[float, float]] = []

    def end(index: int) -> None:
        reserved, uses = running.pop(index)
        limits.settle("u", Tier.FREE, reserved=reserved, used=uses, now=now)
        used.append((now, uses))

    for pause, tokens, share, ends in steps:
        now += pause
        for _ in range(min(ends, len(running))):
            end(ends % len(running))
        try:
            running.append((limits.take("u", Tier.FREE, tokens, now), int(tokens * share)))
        except OverLimit:
            continue
    while running:
        end(0)
    assert _most_in_any_window(used, allowance) <= _SLACK


@given(st.integers(1, 50), st.integers(1, 50), st.floats(0, 30))
def test_after_the_time_it_names_a_request_is_let_in(allowance: int, refusals: int, pause: float) -> None:
    """`retry_after_s` is neither too short nor more than a minute, however often it was refused."""
    limits, now = _limits(requests=allowance), 1000.0
    for _ in range(allowance):
        limits.take("u", Tier.FREE, 0, now)
    for _ in range(refusals):
        with pytest.raises(OverLimit) as refused:
            limits.take("u", Tier.FREE, 0, now)
    assert 0 < refused.value.retry_after_s <= 60
    limits.take("u", Tier.FREE, 0, now + refused.value.retry_after_s + pause)


def test_what_was_reserved_and_not_used_comes_back() -> None:
    """A short answer costs what it is."""
    limits = _limits(tokens=1000)
    reserved = limits.take("u", Tier.FREE, 1000, 0.0)
    with pytest.raises(OverLimit, match="1000 tokens a minute"):
        limits.take("u", Tier.FREE, 100, 0.0)
    limits.settle("u", Tier.FREE, reserved=reserved, used=10, now=0.0)
    limits.take("u", Tier.FREE, 990, 0.0)


def test_a_request_larger_than_the_allowance_needs_a_full_bucket() -> None:
    """It is let in, alone, and paid off before the next."""
    limits = _limits(tokens=100)
    limits.take("u", Tier.FREE, 1, 0.0)
    with pytest.raises(OverLimit):
        limits.take("u", Tier.FREE, 250, 0.0)
    limits.settle("u", Tier.FREE, reserved=1, used=0, now=0.0)
    reserved = limits.take("u", Tier.FREE, 250, 0.0)
    limits.settle("u", Tier.FREE, reserved=reserved, used=250, now=1.0)
    with pytest.raises(OverLimit) as refused:
        limits.take("u", Tier.FREE, 1, 1.0)
    assert refused.value.retry_after_s == pytest.approx(90.6)


def test_a_refused_request_takes_nothing() -> None:
    """Neither a request nor tokens, whichever of the two is used up."""
    limits = _limits(requests=2, tokens=100)
    reserved = limits.take("u", Tier.FREE, 100, 0.0)
    with pytest.raises(OverLimit, match="tokens"):
        limits.take("u", Tier.FREE, 1, 0.0)
    limits.settle("u", Tier.FREE, reserved=reserved, used=0, now=0.0)
    limits.take("u", Tier.FREE, 50, 0.0)
    with pytest.raises(OverLimit, match="requests"):
        limits.take("u", Tier.FREE, 1, 0.0)


def test_users_do_not_share() -> None:
    """One user's flood costs another nothing."""
    limits = _limits(requests=1)
    limits.take("a", Tier.FREE, 0, 0.0)
    limits.take("b", Tier.FREE, 0, 0.0)


def test_without_limits_nobody_is_remembered() -> None:
    """The default of paid users costs no memory."""
    limits = UserLimits.of(Accounts())
    for number in range(100):
        assert limits.take(str(number), Tier.PAID, 10, 0.0) == 0
        limits.settle(str(number), Tier.PAID, reserved=0, used=5, now=0.0)
    assert len(limits) == 0


def test_users_whose_buckets_are_full_again_are_forgotten() -> None:
    """A million users in a day leave no more behind than were there in the last minute."""
    limits = _limits(requests=60)
    for number in range(5000):
        limits.take(str(number), Tier.FREE, 0, number * 0.1)
    assert len(limits) <= 11


def test_memory_is_bounded_even_if_nobody_is_idle() -> None:
    """The quiet ones are forgotten first; whoever is busy stays limited."""
    limits = _limits(requests=1, entries=100)
    limits.take("busy", Tier.FREE, 0, 0.0)
    for number in range(5000):
        limits.take(str(number), Tier.FREE, 0, 0.0)
        with pytest.raises(OverLimit):
            limits.take("busy", Tier.FREE, 0, 0.0)
    assert len(limits) <= 100


def test_the_estimate_holds_the_prompt_and_the_longest_answer() -> None:
    """A quarter of a token a character, everything that is sent counted."""
    request = GenerationRequest(
        request_id="r",
        prompt="p" * 40,
        max_tokens=200,
        temperature=0.0,
        top_p=1.0,
        system_prompt="s" * 20,
        history=(Turn("user", "h" * 21),),
    )
    assert estimate_tokens(request) == 221


def test_a_new_limit_holds_at_once_and_use_counts_on() -> None:
    """Half of the old allowance was used, so half of the new one is left; a lifted limit holds nobody."""
    limits = _limits(requests=10)
    for _ in range(5):
        limits.take("u", Tier.FREE, 0, 0.0)
    limits.take_rules(Accounts(limits_free=Limits(requests_per_minute=2)))
    limits.take("u", Tier.FREE, 0, 0.0)
    with pytest.raises(OverLimit):
        limits.take("u", Tier.FREE, 0, 0.0)
    limits.take_rules(Accounts(limits_free=Limits()))
    for _ in range(100):
        limits.take("u", Tier.FREE, 0, 0.0)


def test_a_limit_lifted_while_a_request_runs_gives_back_what_it_reserved() -> None:
    """When it is set again, nothing is reserved by requests that ended meanwhile."""
    limits = _limits(tokens=100)
    reserved = limits.take("u", Tier.FREE, 100, 0.0)
    limits.take_rules(Accounts(limits_free=Limits()))
    limits.settle("u", Tier.FREE, reserved=reserved, used=0, now=0.0)
    limits.take_rules(Accounts(limits_free=Limits(tokens_per_minute=100)))
    assert limits.take("u", Tier.FREE, 100, 0.0) == 100
