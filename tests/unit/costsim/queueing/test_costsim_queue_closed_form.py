"""The closed forms against tables and limits that are known from elsewhere."""

from __future__ import annotations

import math

import pytest

from benchmarks._closed_form import erlang_b, erlang_c, md1_wait_s, mmc_wait_s
from dreamseed_cli.core.errors import UsageError


def test_erlang_b_agrees_with_the_definition() -> None:
    """B is the last state's share of the truncated Poisson distribution."""
    terms = [7.0**k / math.factorial(k) for k in range(11)]
    assert erlang_b(10, 7.0) == pytest.approx(terms[-1] / sum(terms))


def test_one_server_lets_wait_as_often_as_it_is_busy() -> None:
    """M/M/1: the probability of waiting is the load, the mean wait rho s / (1 - rho)."""
    wait = mmc_wait_s(1, 0.8, 1.0)
    assert erlang_c(1, 0.8) == pytest.approx(0.8)
    assert wait.mean_s == pytest.approx(4.0)


def test_erlang_c_agrees_with_its_sum() -> None:
    """C by its textbook sum for 5 servers and 4 erlangs: 0.554."""
    waiting = 4.0**5 / math.factorial(5) * 5 / (5 - 4)
    assert erlang_c(5, 4.0) == pytest.approx(
        waiting / (sum(4.0**k / math.factorial(k) for k in range(5)) + waiting)
    )
    assert erlang_c(5, 5.0) == 1.0


def test_quantiles_of_the_wait_invert_its_distribution() -> None:
    """P(W > t) = C exp(-(c mu - lambda) t); who finds a free place does not wait."""
    wait = mmc_wait_s(4, 3.0, 1.0)
    at = wait.quantile_s(0.95)
    assert wait.probability * math.exp(-1.0 * at) == pytest.approx(0.05)
    assert wait.quantile_s(0.2) == 0.0


def test_md1_waits_half_as_long_as_mm1() -> None:
    """Constant service halves the mean wait."""
    assert md1_wait_s(0.9, 1.0) == pytest.approx(mmc_wait_s(1, 0.9, 1.0).mean_s / 2)


@pytest.mark.parametrize(("servers", "arrivals"), [(2, 2.0), (1, 3.0)])
def test_an_overloaded_queue_has_no_mean(servers: int, arrivals: float) -> None:
    """At a load of 1 or more the answer is an error at its place, not a number."""
    with pytest.raises(UsageError, match="grows for ever"):
        mmc_wait_s(servers, arrivals, 1.0)


def test_no_servers_are_an_error() -> None:
    """0 servers and negative loads are told, not divided by."""
    with pytest.raises(UsageError, match="serve nobody"):
        erlang_b(0, 1.0)
    with pytest.raises(UsageError, match="erlangs"):
        erlang_b(1, -1.0)
