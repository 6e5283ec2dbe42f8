"""What help costs, by calendar month."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dreamseed_cli.supervisor.failover.money import (
    Budget,
    Ledger,
    counted,
    month_of,
    spent_in_month,
    started,
    stopped,
)

PRICE = Decimal("1.5")
JULY = dt.datetime(2026, 7, 10, tzinfo=dt.UTC).timestamp()
AUGUST = dt.datetime(2026, 8, 1, tzinfo=dt.UTC).timestamp()


def _started(at: float = JULY, price: Decimal = PRICE) -> Ledger:
    return started(Ledger(), at, usd_per_hour=price, stop=("stop", "it"))


def test_an_hour_costs_the_price_of_an_hour() -> None:
    """From the start hook's beginning to the stop hook's success, and nothing after it."""
    ledger = stopped(_started(), JULY + 3600)
    assert spent_in_month(counted(ledger, JULY + 9999), JULY) == PRICE
    assert ledger.running is None


def test_each_month_pays_its_own_part() -> None:
    """Calendar months in UTC; a new one begins at nothing."""
    ledger = counted(_started(AUGUST - 7200), AUGUST + 3600)
    assert dict(ledger.months) == {"2026-07": 2 * PRICE, "2026-08": PRICE}
    assert spent_in_month(ledger, AUGUST + 40 * 86_400) == 0


def test_help_that_was_left_alone_for_months_is_counted_for_all_of_them() -> None:
    """Nobody stopped it: it is taken to have cost."""
    ledger = counted(_started(), AUGUST + 70 * 86_400)
    assert list(ledger.months) == ["2026-07", "2026-08", "2026-09", "2026-10"]
    assert ledger.months["2026-08"] == PRICE * 24 * 31


def test_a_second_start_goes_on_counting_at_the_new_price() -> None:
    """Since when it runs stays known."""
    ledger = counted(started(_started(), JULY + 3600, usd_per_hour=Decimal(3), stop=()), JULY + 7200)
    assert spent_in_month(ledger, JULY) == Decimal("4.5")
    assert ledger.running
    assert ledger.running.since == JULY


def test_a_clock_that_was_set_back_costs_nothing_and_saves_nothing() -> None:
    """Counting goes on from where the clock is."""
    ledger = counted(counted(_started(), JULY + 3600), JULY)
    assert spent_in_month(ledger, JULY) == PRICE
    assert spent_in_month(counted(ledger, JULY + 3600), JULY) == 2 * PRICE


@given(st.lists(st.floats(0.001, 5000), min_size=1, max_size=40), st.decimals(0, 50, places=3))
def test_however_often_it_is_counted_the_sum_is_price_times_time(steps: list[float], price: Decimal) -> None:
    """Rounded up, by less than a billionth of a dollar a count, and never down."""
    moments = [JULY]
    for step in steps:
        moments.append(moments[-1] + step)
    ledger = _started(price=price)
    for before, after in pairwise(moments):
        spent = spent_in_month(ledger, before)
        ledger = counted(ledger, after)
        assert spent_in_month(ledger, after) >= spent
    exact = Decimal(repr(moments[-1])) - Decimal(repr(JULY))
    over = spent_in_month(ledger, JULY) - exact * price / 3600
    assert Decimal("-1e-20") <= over <= len(steps) * Decimal("1e-9")


@pytest.mark.parametrize(
    ("hours", "price", "cap", "allowed"),
    [
        (0, "1.5", "100", True),
        (66, "1.5", "100", True),
        (67, "1.5", "100", False),
        (66.6, "1.5", "100", False),  # what is left does not pay for stopping it
        (0, "1.5", "0", False),
        (1000, "0", "0", True),
    ],
)
def test_the_cap_leaves_enough_to_stop_it(hours: float, price: str, cap: str, allowed: bool) -> None:
    """It is reached before the last dollar; help that costs nothing has none."""
    ledger = stopped(_started(price=Decimal(price)), JULY + hours * 3600)
    obstacle = Budget(Decimal(price), Decimal(cap), reserve_s=300).obstacle(ledger, JULY)
    assert (obstacle == "") is allowed
    assert allowed or f"of ${cap}.00 are spent in 2026-07" in obstacle


def test_a_month_of_unknown_cost_is_spent() -> None:
    """Only that month."""
    budget = Budget(PRICE, Decimal(100))
    assert "not known" in budget.obstacle(Ledger(unknown="2026-07"), JULY)
    assert budget.obstacle(Ledger(unknown="2026-07"), AUGUST) == ""


def test_months_are_utc() -> None:
    """Wherever the machine stands."""
    assert (month_of(AUGUST - 1), month_of(AUGUST)) == ("2026-07", "2026-08")
