"""Watts, against figures worked by hand."""

from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dreamseed_cli.plan.power import PSU_EFFICIENCY, Power, box_power
from dreamseed_cli.plan.tables import cards
from dreamseed_cli.profile.load import load_profile
from dreamseed_cli.profile.schema import Box

_DOCUMENT = Power(gpus=3, card_w=575, cpu_w=280, other_w=0, psu_w=2000, ups_w=1500, min_card_w=400)


def test_the_documents_box_draws_more_than_its_ups_and_its_psu_give() -> None:
    """Contradiction 8: 3 x 575 + 280 = 2,005 W; 2,005 / 0.89 = 2,252.8 W from a UPS of 1,500."""
    assert _DOCUMENT.draw_w == 2005
    assert _DOCUMENT.psu_margin_w == -5
    assert _DOCUMENT.psu_continuous_margin_w == -405
    assert _DOCUMENT.wall_w == pytest.approx(2252.81, abs=0.01)
    assert _DOCUMENT.ups_margin_w == pytest.approx(-752.81, abs=0.01)
    psu, ups = _DOCUMENT.problems()
    assert "5 W more than the PSU's 2,000 W" in psu
    assert "753 W more than the UPS's 1,500 W" in ups


def test_the_limits_that_keep_within() -> None:
    """(0.8 x 2,000 - 280) / 3 = 440 W for the PSU; (1,500 x 0.89 - 280) / 3 = 351 W for the UPS."""
    assert _DOCUMENT.limit_for_psu_w == 440
    assert _DOCUMENT.limit_for_ups_w == 351


def test_a_limit_below_what_the_card_takes_is_no_remedy() -> None:
    """The UPS wants 351 W a card, the driver no less than 400: (1,335 - 280) / 400 = 2.6, two cards."""
    assert _DOCUMENT.cards_at_lowest_for_ups == 2
    assert replace(_DOCUMENT, ups_w=3000).cards_at_lowest_for_ups is None
    assert replace(_DOCUMENT, min_card_w=None).cards_at_lowest_for_ups is None
    assert replace(_DOCUMENT, ups_w=200).cards_at_lowest_for_ups == 0


def test_energy_at_the_documents_price() -> None:
    """2.2528 kW x 720 h x 0.12 = 194.64 USD; its own 1,500 W would be 129.60 (§B2: 130)."""
    assert round(_DOCUMENT.usd_per_month(), 2) == Decimal("194.64")
    at_1500_w = Power(gpus=1, card_w=1500 * PSU_EFFICIENCY, cpu_w=0, other_w=0, psu_w=None, ups_w=None)
    assert at_1500_w.usd_per_month() == Decimal("129.6")
    assert at_1500_w.usd_per_month(hours=1, usd_per_kwh=Decimal("0.1")) == Decimal("0.15")


def test_a_box_that_says_nothing_gets_no_margins() -> None:
    """Only what is known."""
    power = box_power(Box(gpus=2, gpu_model="l4"), cards()["l4"])
    assert power.draw_w == 144
    assert (power.psu_margin_w, power.ups_margin_w, power.limit_for_ups_w) == (None, None, None)
    assert power.problems() == []


def test_the_profiles_say_what_the_document_has() -> None:
    """§B2, §F2, §H3."""
    for name in ("rtx5090x3-document", "rtx5090x3"):
        assert box_power(load_profile(name).box, cards()["rtx5090"]) == _DOCUMENT


def test_over_80_percent_is_said_where_the_rating_holds() -> None:
    """3 x 450 + 280 = 1,630 W of 2,000: within it, 30 W over the rule."""
    limited = box_power(
        Box(gpus=3, gpu_model="rtx5090", gpu_power_limit_w=450.0, cpu_power_w=280.0, psu_w=2000.0),
        cards()["rtx5090"],
    )
    (said,) = limited.problems()
    assert "30 W over 80 %" in said


@given(
    gpus=st.integers(1, 16),
    cpu=st.floats(0, 500),
    psu=st.floats(100, 5000),
    ups=st.floats(100, 5000),
)
def test_the_lower_limit_leaves_no_problem(gpus: int, cpu: float, psu: float, ups: float) -> None:
    """Wherever any limit above zero does."""
    power = Power(gpus=gpus, card_w=575, cpu_w=cpu, other_w=0, psu_w=psu, ups_w=ups)
    limit = min(power.limit_for_psu_w or 0, power.limit_for_ups_w or 0)
    if limit > 0:
        limited = Power(gpus=gpus, card_w=limit, cpu_w=cpu, other_w=0, psu_w=psu, ups_w=ups)
        assert limited.problems() == []
