"""When the gateway is asked again."""

from __future__ import annotations

import grpc
from hypothesis import given
from hypothesis import strategies as st

from dreamseed_cli.api.errors import Failure
from dreamseed_cli.api.retry import RetryPolicy

_CODE = grpc.StatusCode
_POLICY = RetryPolicy(retries=3, base_s=0.5, longest_s=4.0)
_CHANCES = st.floats(0, 1, exclude_max=True)


def test_waits_double_up_to_a_bound() -> None:
    """§H2's exponential backoff: the longest possible waits, and after three retries none."""
    failure = Failure(_CODE.UNAVAILABLE, "")
    waits = [_POLICY.delay_s(failure, attempt=n, left_s=30, chance=1.0) for n in range(1, 5)]
    assert waits == [0.5, 1.0, 2.0, None]
    many = RetryPolicy(retries=9, base_s=0.5, longest_s=4.0)
    assert many.delay_s(failure, attempt=9, left_s=30, chance=1.0) == 4.0


@given(st.sampled_from(list(_CODE)), st.integers(1, 5), st.floats(0, 60), _CHANCES)
def test_only_passing_failures_are_retried_within_the_time_left(
    code: grpc.StatusCode, attempt: int, left_s: float, chance: float
) -> None:
    """Whatever happens, a wait leaves time for the answer, and a request that is wrong stays wrong."""
    delay_s = _POLICY.delay_s(Failure(code, ""), attempt=attempt, left_s=left_s, chance=chance)
    if delay_s is not None:
        assert code in {_CODE.UNAVAILABLE, _CODE.RESOURCE_EXHAUSTED}
        assert 0 <= delay_s <= left_s / 2
        assert attempt <= 3


@given(st.floats(0.001, 100), st.floats(0, 60), _CHANCES)
def test_a_gateway_that_says_when_is_never_asked_sooner(
    retry_after_s: float, left_s: float, chance: float
) -> None:
    """RetryInfo is a lower bound; if the answer would not fit after it, nobody waits."""
    failure = Failure(_CODE.RESOURCE_EXHAUSTED, "", retry_after_s)
    delay_s = _POLICY.delay_s(failure, attempt=1, left_s=left_s, chance=chance)
    if delay_s is None:
        assert retry_after_s * 1.25 > left_s / 2
    else:
        assert retry_after_s <= delay_s <= left_s / 2


def test_retries_are_spread() -> None:
    """Full jitter: from at once to the bound."""
    failure = Failure(_CODE.UNAVAILABLE, "")
    assert _POLICY.delay_s(failure, attempt=3, left_s=30, chance=0.0) == 0
