"""Payback, saving, runway and resale, against figures worked by hand."""

from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dreamseed_cli.costsim.decisions.hardware import bought, initial_usd, pieces, shipped_losses
from dreamseed_cli.costsim.decisions.investment import (
    Investment,
    Wear,
    breaks_even,
    cash_flow,
    document_investment,
    straight_line,
)
from dreamseed_cli.costsim.prices.load import load_book
from dreamseed_cli.estimates.load import load_book as load_figures

_DOCUMENT = document_investment(load_figures())
_DOLLARS = st.decimals(min_value=1, max_value=100_000, places=2)


def test_the_documents_return_is_its_own_arithmetic() -> None:
    """§F2: 12,200 / (1,500 - 280) = 10 months; 1,220 x 24 = 29,280, of which 17,080 are left after buying."""
    assert _DOCUMENT.saving == 1220
    assert _DOCUMENT.payback_months == 10
    assert _DOCUMENT.saved() == 29280
    assert _DOCUMENT.net() == 17080


def test_the_runway_is_what_is_left_after_buying() -> None:
    """Contradiction 9: (20,000 - 12,200) / 280 = 27.86 months, not 20,000 / 280 = 71.43; cloud 13.33."""
    found = [
        _DOCUMENT.runway_months,
        _DOCUMENT.runway_unpaid_months,
        _DOCUMENT.alternative_runway_months,
    ]
    assert [round(one, 2) for one in found if one is not None] == [
        Decimal("27.86"),
        Decimal("71.43"),
        Decimal("13.33"),
    ]


def test_the_documents_price_book_gives_the_documents_initial_cost() -> None:
    """§F2: 3 x 2,000 + 5,000 + 2 x 200 + 300 + 500 = 12,200."""
    assert initial_usd(load_book("document"), pieces(3)) == 12200 == _DOCUMENT.initial


def test_what_never_saves_never_pays_back() -> None:
    """None, not a negative number of months; and nothing bought is paid back at once."""
    dear = Investment(Decimal(100), Decimal(50), Decimal(50), Decimal(1000))
    assert dear.payback_months is None
    assert replace(dear, initial=Decimal(0)).payback_months == 0


def test_funds_that_do_not_cover_the_purchase_last_no_month() -> None:
    """And a month that costs nothing is paid for ever."""
    poor = Investment(Decimal(500), Decimal(10), Decimal(20), Decimal(400))
    assert poor.runway_months == 0
    assert replace(poor, initial=Decimal(0), monthly=Decimal(0)).runway_months is None


def test_resale_by_hand() -> None:
    """1,000 less 25 % in the first year is 750; less 20 % in the second 600; half a year: 750 x 0.8^0.5."""
    wear = Wear(Decimal(1000), Decimal("0.25"), Decimal("0.2"))
    assert [wear.resale(month) for month in (0, 12, 18, 24)] == [
        Decimal("1000.00"),
        Decimal("750.00"),
        Decimal("670.82"),
        Decimal("600.00"),
    ]


def test_written_off_in_equal_parts() -> None:
    """12,200 over 60 months: half is left after 30, and nothing after the last."""
    left = [straight_line(Decimal(12200), month, life_months=60) for month in (0, 30, 60, 61)]
    assert left == [12200, 6100, 0, 0]


def test_the_cash_flow_meets_the_payback_and_the_runway() -> None:
    """The document's curves cross in month 10; the funds end in month 28 with, in month 14 without."""
    flow = cash_flow(_DOCUMENT, [], months=30, life_months=60)
    assert breaks_even(flow) == 10
    assert next(one.month for one in flow if one.funds < 0) == 28
    assert next(one.month for one in flow if one.funds_alternative < 0) == 14
    assert flow[0].funds == 7800
    assert flow[0].funds_alternative == 20000
    assert flow[0].ahead == -12200


def test_bills_that_grow_by_the_month_move_the_curves() -> None:
    """100 more each month: after three months 280 x 3 + 100 + 200 + 300 have been paid."""
    flow = cash_flow(
        _DOCUMENT, [], months=3, life_months=60, monthly=lambda month: Decimal(280 + 100 * month)
    )
    assert flow[3].funds == 7800 - 840 - 600


def test_hardware_that_is_sold_breaks_even_sooner() -> None:
    """What the parts bring counts; the shipped losses know every piece of §F2's list."""
    parts = bought(load_book("document"), pieces(3), shipped_losses())
    assert sum(one.usd for one in parts) == 12200
    flow = cash_flow(_DOCUMENT, parts, months=24, life_months=60)
    sold = breaks_even(flow, sold=True)
    assert sold is not None
    assert sold < 10


def test_never_even_within_the_flow() -> None:
    """None: nine months are too short."""
    assert breaks_even(cash_flow(_DOCUMENT, [], months=9, life_months=60)) is None


@settings(max_examples=50)
@given(initial=_DOLLARS, monthly=_DOLLARS, saving=_DOLLARS, more=_DOLLARS)
def test_payback_falls_when_the_saving_rises(
    initial: Decimal, monthly: Decimal, saving: Decimal, more: Decimal
) -> None:
    """A dearer alternative makes the purchase pay sooner."""
    one = Investment(initial, monthly, monthly + saving, Decimal(0))
    other = replace(one, alternative=one.alternative + more)
    assert one.payback_months is not None
    assert other.payback_months is not None
    assert other.payback_months < one.payback_months


@settings(max_examples=50)
@given(month=st.integers(0, 120), usd=_DOLLARS)
def test_resale_never_rises(month: int, usd: Decimal) -> None:
    """Month after month it brings no more, and never more than it cost."""
    wear = Wear(usd, Decimal("0.25"), Decimal("0.13"))
    assert wear.resale(month + 1) <= wear.resale(month) <= usd


@pytest.mark.parametrize("life", [1, 36, 60])
def test_the_book_value_ends_at_nothing(life: int) -> None:
    """After its life a thing is written off."""
    assert straight_line(Decimal(999), life, life_months=life) == 0
