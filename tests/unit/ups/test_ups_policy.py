"""When a box on battery has to stop, over every kind of word from the UPS."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from dreamseed_cli.profile.ups import Ups
from dreamseed_cli.ups.observation import Observation
from dreamseed_cli.ups.policy import Power, Reason, Stage, commit, outlook, see

RULES = Ups(source="apcupsd")
NEED_S = 60.0
ON = Observation(0.0, on_battery=True, charge_percent=80.0, runtime_s=900.0)
MAINS = Observation(0.0, on_battery=False, charge_percent=80.0, runtime_s=900.0)


class Box:
    """A box whose UPS is looked at every second."""

    def __init__(self, rules: Ups = RULES) -> None:
        self.rules = rules
        self.power = Power()
        self.now = 1000.0

    def sees(self, observation: Observation | None, seconds: int = 1) -> Stage:
        for _ in range(seconds):
            seen = None if observation is None else replace(observation, at=self.now)
            self.power = see(self.power, seen, self.now, self.rules, NEED_S)
            self.now += 1.0
        return self.power.stage


@pytest.fixture
def box() -> Box:
    """One by the shipped rules."""
    return Box()


def test_nothing_is_done_before_the_ups_has_told_anything(box: Box) -> None:
    """An hour of silence from the start is no reason."""
    assert box.sees(None, 3600) is Stage.UNKNOWN


def test_a_box_that_recharges_below_20_percent_goes_on(box: Box) -> None:
    """What the document's script gets wrong (§H3): it would stop this one in a loop."""
    assert box.sees(replace(MAINS, charge_percent=3.0, runtime_s=10.0, low_battery=True), 600) is Stage.MAINS


def test_20_percent_is_enough_and_19_is_not_once_it_has_held(box: Box) -> None:
    """§H3's 20 %, held for 5 s."""
    assert box.sees(replace(ON, charge_percent=20.0), 60) is Stage.BATTERY
    assert box.sees(replace(ON, charge_percent=19.0), 5) is Stage.HOLDING
    assert box.sees(replace(ON, charge_percent=19.0)) is Stage.STOPPING
    assert box.power.reason is Reason.LOW_CHARGE


def test_the_time_left_must_cover_the_shutdown_and_its_margin(box: Box) -> None:
    """To the second."""
    assert box.sees(replace(ON, runtime_s=NEED_S + RULES.margin_s), 60) is Stage.BATTERY
    assert box.sees(replace(ON, runtime_s=NEED_S + RULES.margin_s - 1), 6) is Stage.STOPPING
    assert box.power.reason is Reason.TIME_LEFT


def test_the_ups_own_word_for_a_low_battery_is_a_reason(box: Box) -> None:
    """Whatever charge and time it tells."""
    assert box.sees(replace(ON, low_battery=True), 6) is Stage.STOPPING
    assert box.power.reason is Reason.LOW_BATTERY


@pytest.mark.parametrize("seen", [ON, MAINS])
def test_an_order_to_stop_is_followed_at_once_on_mains_too(box: Box, seen: Observation) -> None:
    """The primary has the UPS switched off in a moment. Mains without the order cancel."""
    assert box.sees(replace(seen, told_to_stop=True)) is Stage.STOPPING
    assert box.power.reason is Reason.TOLD_TO_STOP
    assert box.sees(replace(MAINS, told_to_stop=True), 10) is Stage.STOPPING
    assert box.sees(MAINS) is Stage.MAINS


def test_an_order_to_stop_ends_the_hold(box: Box) -> None:
    """It says why the box stops, too."""
    assert box.sees(replace(ON, charge_percent=19.0)) is Stage.HOLDING
    assert box.sees(replace(ON, charge_percent=19.0, told_to_stop=True)) is Stage.STOPPING
    assert box.power.reason is Reason.TOLD_TO_STOP


def test_the_longest_time_on_battery_counts_from_the_ups_own_clock() -> None:
    """A watcher that was started late counts right."""
    box = Box(Ups(source="apcupsd", max_on_battery_s=100.0))
    assert box.sees(replace(ON, on_battery_s=95.0), 1) is Stage.BATTERY
    assert box.sees(ON, 10) is Stage.STOPPING
    assert box.power.reason is Reason.TOO_LONG


def test_a_battery_without_a_longest_time_lasts_as_long_as_it_does() -> None:
    """An hour, and nothing is stopped."""
    assert Box(Ups(source="apcupsd", max_on_battery_s=None)).sees(ON, 3600) is Stage.BATTERY


def test_a_reason_that_comes_and_goes_never_holds(box: Box) -> None:
    """Flapping mains begin the five seconds anew each time."""
    for _ in range(50):
        assert box.sees(replace(ON, charge_percent=19.0), 4) is Stage.HOLDING
        assert box.sees(MAINS) is Stage.MAINS


@pytest.mark.parametrize("charge", [80.0, 10.0])
def test_a_calibration_is_no_outage(box: Box, charge: float) -> None:
    """It drains the battery on purpose, as far as the UPS likes."""
    calibrating = replace(ON, calibrating=True, charge_percent=charge, low_battery=True)
    assert box.sees(calibrating, 600) is Stage.MAINS


def test_a_calibration_at_a_low_load_takes_hours_and_is_no_outage(box: Box) -> None:
    """apcupsd's manual has a Smart-UPS 1000 that lasts 167 minutes at 6 % of its load: its line is well."""
    calibrating = replace(ON, calibrating=True, line_v=230.0, charge_percent=26.0, runtime_s=3000.0)
    assert box.sees(replace(calibrating, on_battery_s=7200.0), 600) is Stage.MAINS
    assert box.sees(replace(calibrating, on_battery_s=7200.0, line_v=None), 600) is Stage.MAINS


@pytest.mark.parametrize(
    ("ends", "past"),
    [
        ({"charge_percent": 10.0, "runtime_s": 60.0}, {"charge_percent": 9.9}),
        ({"charge_percent": None, "runtime_s": 120.0}, {"charge_percent": None, "runtime_s": 119.0}),
    ],
)
def test_a_battery_below_what_a_calibration_leaves_is_in_an_outage(
    box: Box, ends: dict[str, Any], past: dict[str, Any]
) -> None:
    """A flag that was left behind, from a UPS that tells no line voltage; with one the mains are there."""
    calibrating = replace(ON, calibrating=True)
    assert box.sees(replace(calibrating, **ends), 600) is Stage.MAINS
    assert box.sees(replace(calibrating, **past, line_v=230.0), 600) is Stage.MAINS
    assert box.sees(replace(calibrating, **past), 6) is Stage.STOPPING


def test_a_calibration_that_tells_nothing_is_believed_for_as_long_as_the_battery_lasts(box: Box) -> None:
    """At its rating, from the last moment at rest."""
    mute = Observation(0.0, on_battery=True, calibrating=True)
    box.sees(replace(mute, on_battery=False))
    assert box.sees(mute, int(RULES.runtime_at_rating_s)) is Stage.MAINS
    assert box.sees(mute, 7) is Stage.STOPPING


def test_a_self_test_is_no_outage_unless_it_never_ends(box: Box) -> None:
    """One takes seconds: a flag that stays is not believed for more than a minute."""
    box.sees(MAINS)
    testing = replace(ON, self_testing=True, charge_percent=10.0)
    assert box.sees(testing, 60) is Stage.MAINS
    assert box.sees(testing, 7) is Stage.STOPPING


def test_a_self_test_that_was_there_before_the_first_look_is_believed_no_longer(box: Box) -> None:
    """A watch that starts in the middle of one, with a UPS that tells no line voltage."""
    testing = replace(ON, self_testing=True, charge_percent=10.0)
    assert box.sees(testing, 61) is Stage.MAINS
    assert box.sees(testing, 6) is Stage.STOPPING


def test_a_self_test_that_the_ups_says_has_gone_on_for_long_is_an_outage(box: Box) -> None:
    """By its own clock, at the first look."""
    testing = replace(ON, self_testing=True, charge_percent=10.0, on_battery_s=61.0)
    assert box.sees(testing) is Stage.HOLDING
    assert box.sees(testing, 5) is Stage.STOPPING


def test_mains_that_fail_during_a_calibration_are_an_outage(box: Box) -> None:
    """The dead line tells."""
    assert box.sees(replace(ON, calibrating=True, line_v=0.0, charge_percent=10.0), 6) is Stage.STOPPING


def test_silence_on_mains_stops_nothing(box: Box) -> None:
    """It is only told."""
    box.sees(MAINS)
    assert box.sees(None, 7200) is Stage.MAINS
    assert box.power.blind_since == 1001.0


def test_silence_on_battery_counts_down_twice_as_fast(box: Box) -> None:
    """From the last word, and in the end it stops the box."""
    box.sees(ON)
    box.sees(None, 100)
    left = outlook(box.power, box.now, RULES)
    assert left is not None
    assert left.blind
    assert left.time_left_s == 900.0 - 2 * 101
    assert left.charge_percent == pytest.approx(80.0 * (900 - 202) / 900)
    assert box.sees(None, 300) is Stage.STOPPING


def test_a_word_from_the_ups_ends_the_countdown(box: Box) -> None:
    """What it tells counts, not what was feared."""
    box.sees(ON)
    box.sees(None, 100)
    assert box.sees(ON) is Stage.BATTERY
    left = outlook(box.power, box.now - 1, RULES)
    assert left is not None
    assert left.time_left_s == 900.0


def test_a_ups_that_tells_only_its_charge_is_taken_at_its_rating(box: Box) -> None:
    """Half a charge is half of §H3's ten minutes."""
    half = replace(ON, runtime_s=None, charge_percent=50.0)
    assert box.sees(half) is Stage.BATTERY
    left = outlook(box.power, 1000.0, RULES)
    assert left is not None
    assert left.time_left_s == RULES.runtime_at_rating_s / 2


def test_a_ups_that_tells_nothing_is_stopped_by_the_clock(box: Box) -> None:
    """§H3's ten minutes less the shutdown and its margin."""
    mute = Observation(0.0, on_battery=True)
    assert box.sees(mute, 479) is Stage.BATTERY
    assert box.sees(mute, 9) is Stage.STOPPING


def test_an_empty_battery_that_falls_silent_has_no_charge(box: Box) -> None:
    """There is nothing to scale by."""
    box.sees(replace(ON, runtime_s=0.0))
    box.sees(None)
    left = outlook(box.power, box.now, RULES)
    assert left is not None
    assert (left.time_left_s, left.charge_percent) == (0.0, 0.0)


def test_mains_that_return_before_the_point_of_no_return_cancel(box: Box) -> None:
    """At once."""
    box.sees(replace(ON, charge_percent=10.0), 10)
    assert box.power.stage is Stage.STOPPING
    assert box.sees(MAINS) is Stage.MAINS
    assert box.power.reason is None


def test_more_charge_on_battery_cancels_nothing(box: Box) -> None:
    """A gauge that jumps is no mains."""
    box.sees(replace(ON, charge_percent=19.0), 10)
    assert box.sees(replace(ON, charge_percent=30.0), 10) is Stage.STOPPING


def test_past_the_point_of_no_return_nothing_cancels(box: Box) -> None:
    """It is known, and the shutdown goes on."""
    box.sees(replace(ON, charge_percent=10.0), 10)
    box.power = commit(box.power, box.now)
    assert box.sees(MAINS, 10) is Stage.COMMITTED
    assert not box.power.on_battery


def test_nothing_is_committed_that_has_not_begun(box: Box) -> None:
    """A step that comes late changes nothing."""
    box.sees(ON)
    assert commit(box.power, box.now) is box.power


def test_there_is_no_outlook_on_mains(box: Box) -> None:
    """Nothing runs down."""
    box.sees(MAINS)
    assert outlook(box.power, box.now, RULES) is None


def test_a_margin_that_is_gone_before_the_first_step_is_refused() -> None:
    """The hold and a slow answer come out of it."""
    with pytest.raises(ValueError, match="margin_s is less"):
        Ups(margin_s=5.0)
