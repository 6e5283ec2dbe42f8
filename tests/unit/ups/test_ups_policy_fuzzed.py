"""A thousand made-up outages: never a shutdown on mains, never a missed one on a dying battery."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from hypothesis import given, settings
from hypothesis import strategies as st

from dreamseed_cli.profile.ups import Ups
from dreamseed_cli.ups.observation import Observation
from dreamseed_cli.ups.policy import Power, Stage, see

NEED_S = 60.0
RULES = Ups(source="apcupsd", max_on_battery_s=None)
LEAST_S = NEED_S + RULES.margin_s - RULES.hold_s
"""What a battery must have left when it is decided on: the shutdown's time, and the margin less the hold."""


@dataclass(frozen=True)
class Stretch:
    """Some seconds of one kind."""

    seconds: int
    mains: bool
    silent: bool = False
    calibrating: bool = False
    self_testing: bool = False
    low_battery: bool = False
    tells_charge: bool = True
    tells_runtime: bool = True
    tells_line: bool = True


@dataclass
class Battery:
    """A UPS that carries its load for `lasts_s` from full, and recharges in an hour."""

    lasts_s: float
    charge: float

    def step(self, *, draining: bool) -> None:
        change = -1.0 / self.lasts_s if draining else 1.0 / 3600
        self.charge = min(1.0, max(0.0, self.charge + change))

    @property
    def left_s(self) -> float:
        return self.charge * self.lasts_s


def moments(
    battery: Battery, stretches: list[Stretch]
) -> Iterator[tuple[float, Stretch, Observation | None]]:
    """Every second of it: the time, what is true, what the UPS tells."""
    now = 0.0
    for stretch in stretches:
        for _ in range(stretch.seconds):
            now += 1.0
            on_battery = not stretch.mains or stretch.calibrating or stretch.self_testing
            battery.step(draining=on_battery)
            seen = Observation(
                now,
                on_battery=on_battery,
                calibrating=stretch.calibrating,
                self_testing=stretch.self_testing,
                low_battery=stretch.low_battery,
                line_v=(230.0 if stretch.mains else 0.0) if stretch.tells_line else None,
                charge_percent=battery.charge * 100 if stretch.tells_charge else None,
                runtime_s=battery.left_s if stretch.tells_runtime else None,
            )
            yield now, stretch, None if stretch.silent else seen


def stretches(
    *, mains: st.SearchStrategy[bool], tells_line: st.SearchStrategy[bool]
) -> st.SearchStrategy[list[Stretch]]:
    """Up to six of them."""
    seconds = st.one_of(st.integers(1, 8), st.integers(1, 200))
    often, seldom = st.booleans(), st.integers(0, 5).map(lambda drawn: drawn == 5)
    one = st.builds(Stretch, seconds, mains, often, often, often, seldom, often, often, tells_line)
    return st.lists(one, max_size=6)


def told_of_an_outage(seen: Observation, rested_at: float) -> bool:
    """On battery, and not for a test of the UPS's own whose line is not known to be dead. A self-test that
    goes on for more than a minute since the battery was last seen at rest, or first seen at all, is none; a
    calibration without word of the line, once less is left than any leaves.
    """
    if seen.line_v is not None and seen.line_v < 40.0:
        return seen.on_battery
    gone_on_s = seen.at - rested_at
    left = seen.charge_percent is None or seen.charge_percent >= 10.0
    if seen.charge_percent is None:
        left = gone_on_s <= 600.0 if seen.runtime_s is None else seen.runtime_s >= 120.0
    calibrating = seen.calibrating and (seen.line_v is not None or left)
    return seen.on_battery and not (calibrating or (seen.self_testing and gone_on_s <= 60.0))


fuzzed = settings(max_examples=500, deadline=None)


@fuzzed
@given(stretches(mains=st.booleans(), tells_line=st.booleans()), st.floats(1, 7200), st.floats(0, 1))
def test_nothing_is_stopped_while_the_last_word_was_mains(
    trace: list[Stretch], lasts_s: float, charge: float
) -> None:
    """Whatever the charge, in silence, tests and flapping: a decision falls in an outage alone that was told,
    and that has gone on for as long as a reason must hold.
    """
    power = Power()
    outage_since: float | None = None
    rested_at: float | None = None
    for now, _, seen in moments(Battery(lasts_s, charge), trace):
        if seen is not None:
            rested_at = now if rested_at is None else rested_at
            outage = told_of_an_outage(seen, rested_at)
            outage_since = (now if outage_since is None else outage_since) if outage else None
            rested_at = rested_at if seen.on_battery else now
        power = see(power, seen, now, RULES, NEED_S)
        if power.stage is Stage.STOPPING:
            assert outage_since is not None
            assert now - outage_since >= RULES.hold_s


@fuzzed
@given(
    stretches(mains=st.booleans(), tells_line=st.booleans()),
    stretches(mains=st.just(False), tells_line=st.just(True)),
    st.booleans(),
    st.floats(RULES.runtime_at_rating_s, 1200),
    st.floats(0, 1),
)
def test_no_dying_battery_is_missed(
    before: list[Stretch], dying: list[Stretch], silent: bool, lasts_s: float, charge: float
) -> None:
    """Whatever came before, and was decided on and cancelled: once the UPS has told what it has in the last
    outage, the box is stopped while the shutdown and what is left of its margin still fit, or as soon as the
    reason has held, where there was too little.
    """
    to_the_end = Stretch(1200, mains=False, silent=silent)
    trace = [*before, Stretch(1, mains=False), *dying, to_the_end]
    told_at = sum(stretch.seconds for stretch in trace[: len(before) + 1])
    battery = Battery(lasts_s, charge)
    power, enough = Power(), True
    for now, _, seen in moments(battery, trace):
        power = see(power, seen, now, RULES, NEED_S)
        if now == told_at:
            enough = battery.left_s >= NEED_S + RULES.margin_s
        if now >= told_at and power.stage is Stage.STOPPING:
            in_time = battery.left_s >= LEAST_S - 1.0
            assert in_time if enough else now - told_at <= RULES.hold_s + 1.0
            return
    raise AssertionError("the battery died and nothing was decided")


@fuzzed
@given(stretches(mains=st.booleans(), tells_line=st.booleans()), st.floats(0, 19.9), st.booleans())
def test_no_self_test_hides_an_outage_for_more_than_a_minute(
    before: list[Stretch], charge: float, silent_first: bool
) -> None:
    """One whose flag stays, from a UPS that tells no line voltage: also where the watch began in the middle
    of it, and whatever came before.
    """
    stuck = Observation(0.0, on_battery=True, self_testing=True, charge_percent=charge)
    power, now = Power(), 0.0
    for now, _, seen in moments(Battery(600.0, 0.1), before):
        power = see(power, seen, now, RULES, NEED_S)
    for second in range(1, 64 + int(RULES.hold_s)):
        seen = None if silent_first and second == 1 else replace(stuck, at=now + second)
        power = see(power, seen, now + second, RULES, NEED_S)
    assert power.stage is Stage.STOPPING


@settings(max_examples=50, deadline=None)
@given(stretches(mains=st.booleans(), tells_line=st.booleans()), st.floats(600, 1800), st.booleans())
def test_no_calibration_hides_a_dying_battery(before: list[Stretch], lasts_s: float, charge: bool) -> None:
    """One whose flag stays, from a UPS that tells no line voltage: the box is stopped before it goes off."""
    stuck = Stretch(1900, mains=False, calibrating=True, tells_line=False)
    stuck = replace(stuck, tells_charge=charge, tells_runtime=not charge)
    battery, power = Battery(lasts_s, 1.0), Power()
    for now, stretch, seen in moments(battery, [*before, Stretch(1, mains=True), stuck]):
        power = see(power, seen, now, RULES, NEED_S)
        if stretch is stuck and power.stage is Stage.STOPPING:
            assert battery.charge > 0.0
            return
    raise AssertionError("the battery died and nothing was decided")
