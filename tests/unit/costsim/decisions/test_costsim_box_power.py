"""What a record of the box's power says, and what it is too short to say."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from dreamseed_cli.costsim.decisions.architectures import (
    Architecture,
    Failure,
    Luck,
    Site,
    availability,
    shipped_failures,
)
from dreamseed_cli.costsim.decisions.box_power import MAINS, box_power, with_record
from dreamseed_cli.ups.records import PowerRecord

_BEGAN = 1_790_000_000.0
_DAY = 86_400.0


def _hours(days: float, kwh: float = 0.6, began: float = _BEGAN) -> list[PowerRecord]:
    return [
        PowerRecord("energy", began + hour * 3600, began + (hour + 1) * 3600, kwh)
        for hour in range(round(days * 24))
    ]


def _outage(day: float, hours: float, *, shut_down: bool = False) -> PowerRecord:
    began = _BEGAN + day * _DAY
    return PowerRecord("outage", began, began + hours * 3600, 0.1, shut_down=shut_down)


def test_the_mean_power_is_the_energy_over_the_time_it_was_told_in() -> None:
    """A gap in the watch is no time without load; an outage's own energy is in its hours already."""
    record = [*_hours(4), _outage(1, 0.5), *_hours(4, kwh=0.2, began=_BEGAN + 100 * _DAY)]
    found = box_power(record, "f")
    assert found.days == pytest.approx(8)
    assert found.mean_w == pytest.approx(400)


@pytest.mark.parametrize(
    ("days", "energy", "outages"), [(6.9, False, False), (7, True, False), (90, True, True)]
)
def test_a_short_record_says_nothing(days: float, energy: bool, outages: bool) -> None:
    """A week for energy, a quarter of a year for outages."""
    found = box_power(_hours(days), "f")
    assert ((found.mean_w is not None), (found.per_year is not None)) == (energy, outages)
    changed = with_record(shipped_failures(), found) != shipped_failures()
    assert changed is outages


def test_no_outage_in_a_time_bounds_the_rate_and_tells_no_length() -> None:
    """In half a year without one, more than a few a year are unlikely; the hours stay assumed."""
    found = box_power(_hours(182.5), "f")
    assert found.per_year is not None
    least, likeliest, most = found.per_year
    assert 0 < least < likeliest < 1 < most < 5
    assert _mains(found.outages_h, 182.5).hours == _mains((), 0).hours


def test_outages_count_by_the_year_with_their_own_lengths() -> None:
    """Ten in half a year are some twenty a year. What is known of many is known well."""
    found = box_power([*_hours(182.5), *(_outage(day, 0.5 + day % 2) for day in range(10))], "f")
    assert found.per_year is not None
    least, likeliest, most = found.per_year
    assert likeliest == pytest.approx(20, abs=1)
    assert 10 < least < likeliest < most < 35
    assert found.hours == pytest.approx((0.5, 1.0, 1.5))


def test_an_outage_with_a_shutdown_lasts_until_the_watcher_is_back() -> None:
    """The record ends with the box: when the mains came back nobody saw. The last of all has no return."""
    back = PowerRecord("energy", _BEGAN + 5 * 3600, _BEGAN + 6 * 3600, 0.5)
    record = [_outage(0, 0.1, shut_down=True), back, _outage(9, 0.2, shut_down=True), _outage(10, 0.3)]
    assert box_power(record, "f").outages_h == pytest.approx((5.0, 24.0, 0.3))
    assert box_power(record[:1], "f").outages_h == pytest.approx((0.1,))


def test_recorded_outages_move_the_availability() -> None:
    """A box whose mains fail every week is down more often; the record names itself as the source."""
    site = Site(cards=3, needed_cards=3, ups_h=0.1, switch_h=1.0)
    weekly = [_outage(7 * week, 2.0) for week in range(26)]
    often = with_record(shipped_failures(), box_power([*_hours(182), *weekly], "power.jsonl"))
    mains = next(one for one in often if one.id == MAINS)
    assert mains.source == "measured: 26 outages in 182 days of power.jsonl"
    was, now = (
        availability(known, Architecture.ON_PREMISES, site, Luck.LIKELIEST).plain
        for known in (shipped_failures(), often)
    )
    assert now < was - 0.005


def _mains(outages_h: Sequence[float], days: float) -> Failure:
    record = [*_hours(days), *(_outage(number, hours) for number, hours in enumerate(outages_h))]
    known = with_record(shipped_failures(), box_power(record, "f"))
    return next(one for one in known if one.id == MAINS)
