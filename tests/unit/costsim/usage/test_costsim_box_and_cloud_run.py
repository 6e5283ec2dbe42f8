"""Instance-seconds and kilowatt-hours, against figures worked by hand."""

import math
from dataclasses import replace

import pytest

from dreamseed_cli.costsim.scenario import Scenario
from dreamseed_cli.costsim.usage.box import BoxUse, box_use, wall_w
from dreamseed_cli.costsim.usage.cloud_run import CloudRunUse, cloud_run_use
from dreamseed_cli.costsim.usage.traffic import traffic

_STEADY = Scenario(
    1_000_000, 10_000, hours=720, peak_to_average=1, cached_question_share=0, ai_share=0, outage_hours=0
)
"""1,000 requests a second around the clock, none of them for a card."""
_MONTH_S = 720 * 3600


def _cloud_run(scenario: Scenario, ai_request_s: float | None = None) -> CloudRunUse:
    return cloud_run_use(scenario, traffic(scenario), ai_request_s=ai_request_s)


def _box(scenario: Scenario) -> BoxUse:
    return box_use(scenario, traffic(scenario), _cloud_run(scenario))


def test_a_thousand_requests_a_second_keep_two_instances_busy() -> None:
    """Little: 1,000/s x 0.1 s = 100 in flight; / (100 x 0.8) = 1.25, so 2, each with 50: never idle."""
    found = _cloud_run(_STEADY)
    assert found.peak_in_flight == pytest.approx(100)
    assert found.peak_instances == 2
    assert found.busy_s == pytest.approx(2 * _MONTH_S)
    assert found.up_s == pytest.approx(2 * _MONTH_S)
    assert found.requests == pytest.approx(2.592e9)
    assert found.refused_requests == 0


def test_few_requests_are_billed_one_by_one() -> None:
    """1 user x 6/min x 0.1 s = 0.01 in flight: 1 - e^-0.01 of the time; up for 1 - e^-(0.1 x 900)."""
    found = _cloud_run(replace(_STEADY, concurrent=1))
    assert found.busy_s == pytest.approx((1 - math.exp(-0.01)) * _MONTH_S)
    assert found.up_s == pytest.approx(_MONTH_S)


def test_billed_time_is_rounded_up_to_a_tenth_of_a_second() -> None:
    """20 ms are billed as 100, 0.7 s (6.999... tenths as a float) as 0.7, 0.71 s as 0.8."""
    few = replace(_STEADY, concurrent=1)
    for held, billed in ((0.02, 0.01), (0.7, 0.07), (0.71, 0.08)):
        found = _cloud_run(replace(few, plain_request_s=held))
        assert found.busy_s == pytest.approx((1 - math.exp(-billed)) * _MONTH_S)


def test_an_answer_holds_its_place_for_seconds() -> None:
    """3 % x 0.3 of 1,000/s are 9/s x 200 x 8 / 500 = 3.2 s, and 991 x 0.1 s: 127.9 in flight."""
    asking = replace(_STEADY, ai_share=0.03)
    assert asking.ai_request_s == pytest.approx(3.2)
    assert _cloud_run(asking).peak_in_flight == pytest.approx(9 * 3.2 + 991 * 0.1)
    assert _cloud_run(replace(asking, ai_wait_s=2)).peak_in_flight == pytest.approx(9 * 5.2 + 991 * 0.1)
    assert _cloud_run(asking, ai_request_s=20).peak_in_flight == pytest.approx(9 * 20 + 991 * 0.1)


def test_ten_instances_refuse_what_finds_no_place() -> None:
    """2 s each: 2,000 in flight want 25 instances; 10 x 100 have half of that."""
    found = _cloud_run(replace(_STEADY, plain_request_s=2))
    assert found.peak_in_flight == pytest.approx(2000)
    assert found.peak_instances == 10
    assert found.refused_requests == pytest.approx(2.592e9 / 2)
    assert found.requests == pytest.approx(2.592e9 / 2)
    assert found.busy_s == pytest.approx(10 * _MONTH_S)


def test_instances_that_never_go_away_idle_for_the_rest() -> None:
    """Three instances, 0.01 in flight: nearly 3 x 720 h of idling; without users all of it."""
    few = replace(_STEADY, concurrent=1, min_instances=3)
    found = _cloud_run(few)
    assert found.busy_s + found.idle_s == pytest.approx(3 * _MONTH_S)
    assert found.up_s == pytest.approx(3 * _MONTH_S)
    silent = _cloud_run(replace(few, concurrent=0))
    assert silent.idle_s == pytest.approx(3 * _MONTH_S)
    assert (silent.busy_s, silent.peak_instances) == (0, 3)


def test_an_idle_box_draws_what_it_draws_idle() -> None:
    """(3 x 20 + 120) / 0.89 = 202.25 W from the wall; x 730 h = 147.64 kWh, a third more with cooling."""
    idle = Scenario(0, 0)
    assert wall_w(idle, 0) == pytest.approx(202.247, abs=0.001)
    assert _box(idle).kwh == pytest.approx(147.640, abs=0.001)
    assert _box(replace(idle, cooling=1 / 3)).kwh == pytest.approx(147.640 * 4 / 3, abs=0.002)
    assert _box(idle).utilisation == 0


def test_a_full_box_draws_the_documents_parts() -> None:
    """Contradiction 8: (3 x 575 + 280) / 0.89 = 2,252.81 W, x 720 h = 1,622.02 kWh."""
    full = replace(_STEADY, ai_share=0.1, answer_cache_hit=0)
    found = _box(full)
    assert wall_w(full, 1) == pytest.approx(2252.81, abs=0.01)
    assert found.kwh == pytest.approx(1622.02, abs=0.01)
    assert found.kwh == pytest.approx(found.full_kwh)


def test_a_card_is_busy_while_it_generates_anything() -> None:
    """0.75 answers/s of 7.5 are 10 %: of 8 places all are free for 0.9^8 = 43 % of the time.

    So it draws 180 W + 57 % of the further 1,825 W, all / 0.89.
    """
    tenth = replace(_STEADY, ai_share=0.00075, answer_cache_hit=0)
    found = _box(tenth)
    assert found.utilisation == pytest.approx(0.1)
    assert found.average_w == pytest.approx((180 + (1 - 0.9**8) * 1825) / 0.89)
    one_by_one = _box(replace(tenth, card_sequences=1))
    assert one_by_one.average_w == pytest.approx((180 + 0.1 * 1825) / 0.89)


def test_what_is_too_much_for_the_cards_is_left_for_the_fallback() -> None:
    """§F3's last row: 45 generations/s against 5 x 500 / 200 = 12.5: 32.5/s are left, 84.24 million."""
    row = replace(_STEADY, ai_share=0.045, answer_cache_hit=0, gpus=5)
    found = _box(row)
    assert found.peak_utilisation == pytest.approx(45 / 12.5)
    assert found.answers == pytest.approx(12.5 * _MONTH_S)
    assert found.fallback_answers == pytest.approx(32.5 * _MONTH_S)
    # Without a card everything is.
    assert _box(replace(row, gpus=0)).fallback_answers == pytest.approx(45 * _MONTH_S)


def test_an_outage_leaves_all_answers_to_the_fallback() -> None:
    """A tenth of the month: a tenth of 0.75 answers/s."""
    down = replace(_STEADY, ai_share=0.00075, answer_cache_hit=0, outage_hours=72)
    found = _box(down)
    assert found.fallback_answers == pytest.approx(0.075 * _MONTH_S)
    assert found.overflow_answers == 0
    assert found.utilisation == pytest.approx(0.09)


def test_a_refused_request_asks_no_card() -> None:
    """Half of all find no place in Cloud Run: half of the answers are asked for."""
    asking = replace(_STEADY, ai_share=0.00075, answer_cache_hit=0, gpus=0)
    places = _cloud_run(asking, ai_request_s=1).peak_in_flight / 2
    halved = replace(asking, max_instances=1, container_concurrency=round(places))
    found = box_use(halved, traffic(halved), _cloud_run(halved, ai_request_s=1))
    assert found.fallback_answers == pytest.approx(0.375 * _MONTH_S, rel=0.01)
