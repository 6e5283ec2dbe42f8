"""When a box on battery has to stop: a state machine over what the UPS tells, with time passed in (§H3).

The document's script goes by the charge alone and stops a box that recharges after an outage, again and
again. Here nothing is a reason to stop but on battery, and none that has not held for a while; or that the
UPS is about to be switched off.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

from dreamseed_cli.profile.ups import Ups
from dreamseed_cli.ups.observation import Observation

_SELF_TEST_S = 60.0
"""A self-test takes seconds. One that goes on is taken for an outage: its flag may have been left behind."""

_CALIBRATED_PERCENT, _CALIBRATED_S = 10.0, 120.0
"""No calibration goes below. The UPS ends one at about 25 %, and apctest at these if it does not (its own
words). Time bounds none: at a low load one takes hours, and neither apcupsd nor upsmon counts them.
"""


class Stage(StrEnum):
    """Where the box stands."""

    UNKNOWN = "unknown"
    """The UPS has told nothing yet: nothing is done on a guess."""
    MAINS = "mains"
    BATTERY = "battery"
    """The mains have failed, and what is left is enough."""
    HOLDING = "holding"
    """There is a reason to stop, for less than `hold_s`."""
    STOPPING = "stopping"
    """The shutdown has begun. The mains' return cancels it."""
    COMMITTED = "committed"
    """The shutdown is past the point of no return."""


class Reason(StrEnum):
    """Why the box has to stop."""

    LOW_CHARGE = "low_charge"
    TIME_LEFT = "time_left"
    """The shutdown and its margin take as long as the battery lasts."""
    LOW_BATTERY = "low_battery"
    """The UPS itself says so."""
    TOO_LONG = "too_long"
    TOLD_TO_STOP = "told_to_stop"
    """NUT's FSD, apcupsd's SHUTTING DOWN: the UPS is switched off in a moment, be it on mains."""


@dataclass(frozen=True, slots=True)
class Outlook:
    """What a battery has left, by its last word and the time since. None where nothing tells."""

    time_left_s: float
    charge_percent: float | None
    on_battery_s: float
    blind: bool
    """Counted down from the last word: the UPS is silent."""


@dataclass(frozen=True, slots=True)
class Power:
    """The box's power. Times are monotonic seconds."""

    stage: Stage = Stage.UNKNOWN
    since: float = 0.0
    seen: Observation | None = None
    """The last word of the UPS."""
    blind_since: float | None = None
    """Since when it has been silent."""
    battery_since: float | None = None
    rested_at: float | None = None
    """When the battery was last seen to carry nothing: all time since then may have drained it. One that
    carried the load at the first look did so since then, or for as long as the UPS says.
    """
    left: tuple[float, float] | None = None
    """When the UPS last told how much it has, and how many seconds that was."""
    reason: Reason | None = None
    reason_since: float = 0.0

    @property
    def on_battery(self) -> bool:
        """Whether the mains have failed, as far as anybody knows."""
        return self.battery_since is not None


def see(power: Power, seen: Observation | None, now: float, rules: Ups, need_s: float) -> Power:
    """The power after a look at the UPS. seen: None if it did not answer. need_s: what the shutdown takes."""
    looked = _looked(power, seen, now, rules)
    if power.stage is Stage.COMMITTED or looked.seen is None:
        return looked
    if not looked.on_battery and not looked.seen.told_to_stop:
        return _enter(replace(looked, reason=None), Stage.MAINS, now)
    if power.stage is Stage.STOPPING:
        return looked
    return _judged(looked, now, rules, need_s)


def commit(power: Power, now: float) -> Power:
    """The shutdown is at the point of no return. Unchanged unless it is under way."""
    return _enter(power, Stage.COMMITTED, now) if power.stage is Stage.STOPPING else power


def outlook(power: Power, now: float, rules: Ups) -> Outlook | None:
    """What is left on battery; None on mains."""
    seen, since = power.seen, power.battery_since
    if seen is None or since is None:
        return None
    rested_at = min(since, _rested_at(power, seen))
    # One that never told is taken to have been full, and to carry its whole rating.
    told_at, told_s = power.left or (rested_at, rules.runtime_at_rating_s)
    then_s = max(0.0, told_s - (seen.at - max(told_at, rested_at)))
    blind = power.blind_since is not None
    left_s = max(0.0, then_s - (now - seen.at) * (rules.blind_pace if blind else 1.0))
    charge = seen.charge_percent
    if blind and charge is not None:
        charge *= left_s / then_s if then_s else 0.0
    return Outlook(left_s, charge, now - since, blind)


def is_outage(power: Power, seen: Observation, rules: Ups) -> bool:
    """Whether it is on battery because the mains have failed. A dead line during a test is that, too.

    power: before it was seen.
    """
    if not seen.on_battery or seen.line_dead:
        return seen.on_battery
    gone_on_s = seen.at - _rested_at(power, seen)
    testing = seen.self_testing and gone_on_s <= _SELF_TEST_S
    calibrating = seen.calibrating and (seen.line_v is not None or not _spent(seen, gone_on_s, rules))
    return not (calibrating or testing)


def _spent(seen: Observation, gone_on_s: float, rules: Ups) -> bool:
    """Whether the battery has less than a calibration leaves it: then its flag was left behind. One that
    tells neither charge nor time is believed for as long as it lasts at its rating.
    """
    if seen.charge_percent is not None:
        return seen.charge_percent < _CALIBRATED_PERCENT
    if seen.runtime_s is not None:
        return seen.runtime_s < _CALIBRATED_S
    return gone_on_s > rules.runtime_at_rating_s


def _looked(power: Power, seen: Observation | None, now: float, rules: Ups) -> Power:
    """The same stage with what is known now."""
    if seen is None:
        return power if power.blind_since is not None else replace(power, blind_since=now)
    since = None
    if is_outage(power, seen, rules):
        began = _began(seen)
        since = began if power.battery_since is None else min(began, power.battery_since)
    told_s = _told_s(seen, rules)
    return replace(
        power,
        seen=seen,
        blind_since=None,
        battery_since=since,
        rested_at=_rested_at(power, seen) if seen.on_battery else seen.at,
        left=power.left if told_s is None else (seen.at, told_s),
    )


def _rested_at(power: Power, seen: Observation) -> float:
    """When a battery that carries the load was last at rest, as far as anybody knows."""
    return _began(seen) if power.rested_at is None else power.rested_at


def _began(seen: Observation) -> float:
    """Since when it has been on battery, by the UPS's own clock where it has one."""
    return seen.at - (seen.on_battery_s or 0.0)


def _told_s(seen: Observation, rules: Ups) -> float | None:
    """How long it says that it lasts; where it tells only its charge, as if it carried its whole rating."""
    if seen.runtime_s is not None or seen.charge_percent is None:
        return seen.runtime_s
    return rules.runtime_at_rating_s * seen.charge_percent / 100


def _judged(power: Power, now: float, rules: Ups, need_s: float) -> Power:
    """Whether there is a reason to stop, and whether it has held."""
    reason = _reason(power, now, rules, need_s)
    if reason is None:
        return _enter(replace(power, reason=None), Stage.BATTERY, now)
    if power.reason is None:
        power = replace(power, reason=reason, reason_since=now)
    elif reason is Reason.TOLD_TO_STOP:
        power = replace(power, reason=reason)
    # Whoever is in charge has waited, and does not wait for this box.
    held = reason is Reason.TOLD_TO_STOP or now - power.reason_since >= rules.hold_s
    return _enter(power, Stage.STOPPING if held else Stage.HOLDING, now)


def _reason(power: Power, now: float, rules: Ups, need_s: float) -> Reason | None:
    seen, left = power.seen, outlook(power, now, rules)
    if seen is not None and seen.told_to_stop:
        return Reason.TOLD_TO_STOP
    return None if seen is None or left is None else _of_battery(seen, left, rules, need_s)


def _of_battery(seen: Observation, left: Outlook, rules: Ups, need_s: float) -> Reason | None:
    if seen.low_battery:
        return Reason.LOW_BATTERY
    if left.charge_percent is not None and left.charge_percent < rules.charge_below_percent:
        return Reason.LOW_CHARGE
    if left.time_left_s < need_s + rules.margin_s:
        return Reason.TIME_LEFT
    if rules.max_on_battery_s is not None and left.on_battery_s >= rules.max_on_battery_s:
        return Reason.TOO_LONG
    return None


def _enter(power: Power, stage: Stage, now: float) -> Power:
    return power if power.stage is stage else replace(power, stage=stage, since=now)
