"""Requests, answers and bytes of a month, against figures worked by hand."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dreamseed_cli.core.errors import UsageError
from dreamseed_cli.costsim.scenario import Scenario, grown
from dreamseed_cli.costsim.usage.traffic import traffic
from dreamseed_cli.costsim.usage.week import HOURS, default_week, week_of

_SCENARIO = Scenario(1_000_000, 10_000)


@given(st.floats(1, 100))
@settings(max_examples=50, deadline=None)
def test_a_week_is_just_as_steep_as_wanted(peak_to_average: float) -> None:
    """Its busiest hour is 1, its average 1 / the ratio, and the order of its hours stays."""
    week = default_week()
    curve = week.curve(peak_to_average)
    assert curve.max() == pytest.approx(1)
    assert curve.mean() == pytest.approx(1 / peak_to_average)
    assert (np.diff(curve[np.argsort(week.weights)]) >= -1e-12).all()


def test_the_shipped_week_is_a_pupils() -> None:
    """Evenings over nights, a Saturday's noon over a Monday's, Sunday 21:00 over all."""
    week = default_week().weights
    assert int(week.argmax()) == 6 * 24 + 21
    assert week[20:23].min() > 5 * week[2:6].max()
    assert week[5 * 24 + 12] > week[12]


def test_a_week_must_be_168_weights() -> None:
    """Too few, a negative one, or none above 0."""
    for wrong in ([1.0] * 167, [-1.0, *[1.0] * 167], [0.0] * HOURS, [float("nan"), *[1.0] * 167]):
        with pytest.raises(UsageError, match="at 'week'"):
            week_of(wrong)


def test_a_flat_week_has_no_peak() -> None:
    """Every hour alike is a ratio of 1, and no other."""
    flat = week_of([3.0] * HOURS)
    assert (flat.curve(1) == 1).all()
    with pytest.raises(UsageError, match="at 'peak_to_average'"):
        flat.curve(2)


def test_a_month_at_a_million_users() -> None:
    """10,000 x 6 / 60 = 1,000 RPS; / 4 x 730 h x 3,600 s = 657 million requests, and what follows of them.

    The CDN answers 0.5 x 0.9 = 45 %: 361.35 million reach Cloud Run. 3 % are AI: 19.71 million; the cache
    answers 70 % of these: 5.913 million are generated, 200 tokens each, from 300 of a prompt. Static files:
    5 x 657 million, 5 % of them from their origin at 50 kB: 8,212.5 GB. Egress: 361.35 million x 10 kB =
    3,613.5 GB, and the prompts' 5.913 million x 300 x 4 bytes = 7.0956 GB.
    """
    found = traffic(_SCENARIO)
    assert found.busiest_rps == 1000
    assert found.rps.max() == pytest.approx(1000)
    assert found.average_rps == pytest.approx(250)
    assert found.api_requests == pytest.approx(657e6)
    assert found.cloud_run_requests == pytest.approx(361.35e6)
    assert found.ai_requests == pytest.approx(19.71e6)
    assert found.answers == pytest.approx(5.913e6)
    assert found.answer_tokens == pytest.approx(1182.6e6)
    assert found.prompt_tokens == pytest.approx(1773.9e6)
    assert found.static_origin_requests == pytest.approx(164.25e6)
    assert found.static_origin_gb == pytest.approx(8212.5)
    assert found.egress_gb == pytest.approx(3613.5 + 7.0956)
    assert found.busiest_answers_s == pytest.approx(9)


def test_exam_season_is_so_much_busier_for_so_many_days() -> None:
    """7.3 of 30.4167 days at thrice the rate: 657 million x (1 + 2 x 0.24) = 972.36 million."""
    found = traffic(replace(_SCENARIO, surge=3, surge_days=7.3))
    assert found.busiest_rps == 3000
    assert found.api_requests == pytest.approx(972.36e6)
    assert found.hours.sum() == pytest.approx(730)
    assert found.rps[:HOURS].max() == pytest.approx(1000)
    assert found.busiest_day_rps.max() == pytest.approx(3000)


def test_a_surge_of_no_days_is_none() -> None:
    """The busiest second is the normal week's."""
    assert traffic(replace(_SCENARIO, surge=3)).busiest_rps == 1000


def test_growth_compounds() -> None:
    """10 % a month: 1.1^12 = 3.138; users and concurrent alike."""
    later = grown(replace(_SCENARIO, monthly_growth=0.1), 12)
    assert (later.users, later.concurrent) == (3_138_428, 31_384)
    assert grown(_SCENARIO, 12) == _SCENARIO


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("ai_share", 1.01),
        ("ai_share", 0.6),
        ("cdn_hit", -0.1),
        ("peak_to_average", 0.5),
        ("peak_to_average", 101),
        ("scaling_target", 0),
        ("psu_efficiency", 1.1),
        ("hours", 0),
        ("min_instances", 11),
        ("surge_days", 31),
        ("outage_hours", 731),
        ("card_idle_w", 576),
        ("rest_idle_w", 281),
        ("concurrent", 1_000_001),
        ("users", -1),
        ("users", float("nan")),
        ("card_tok_s", 0),
    ],
)
def test_a_scenario_that_cannot_be_is_refused_at_its_field(field: str, value: float) -> None:
    """Shares over 100 %, negative numbers, and what does not go with another field."""
    with pytest.raises(UsageError) as caught:
        replace(_SCENARIO, **{field: value})  # type: ignore[arg-type]
    assert caught.value.place == field
    assert caught.value.remedy
