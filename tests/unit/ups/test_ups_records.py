"""Outages and energy on record, and what is wrong with a UPS."""

from __future__ import annotations

from pathlib import Path

import pytest

from dreamseed_cli.profile.ups import Ups
from dreamseed_cli.ups import nut
from dreamseed_cli.ups.best_effort import BestEffort
from dreamseed_cli.ups.observation import Observation
from dreamseed_cli.ups.records import Meter, read_power
from dreamseed_cli.ups.warnings import warnings

_WELL = Observation(0.0, on_battery=False, load_percent=50.0, rating_w=1000.0, charge_percent=100.0)


def _at(at: float, charge: float = 100.0) -> Observation:
    return Observation(at, on_battery=False, load_percent=50.0, rating_w=1000.0, charge_percent=charge)


def test_an_outage_is_on_record_with_its_energy_and_least_charge(tmp_path: Path) -> None:
    """500 W for 36 s are 5 Wh, computed from the load; silence of more than a minute adds nothing."""
    meter = Meter(tmp_path / "power.jsonl", BestEffort())
    meter.show(_at(0.0), outage=False)
    meter.show(_at(36.0, charge=70.0), outage=True)
    meter.show(_at(72.0, charge=80.0), outage=True)
    meter.show(_at(1000.0), outage=False)
    meter.end_hour()
    outage, energy = read_power(tmp_path / "power.jsonl")
    assert (outage.kind, outage.least_charge_percent, outage.shut_down) == ("outage", 70.0, False)
    assert outage.energy_kwh == pytest.approx(0.010)
    assert energy.kind == "energy"
    assert energy.energy_kwh == pytest.approx(0.010)


def test_an_hour_is_written_when_it_is_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So a watcher that dies loses less than one."""
    now = [1000.0]
    monkeypatch.setattr("dreamseed_cli.ups.records.time.time", lambda: now[0])
    meter = Meter(tmp_path / "power.jsonl", BestEffort())
    for second in range(0, 3700, 50):
        now[0] = 1000.0 + second
        meter.show(_at(float(second)), outage=False)
    (energy,) = read_power(tmp_path / "power.jsonl")
    assert energy.energy_kwh == pytest.approx(0.5)


def test_a_ups_that_tells_no_load_gives_no_energy(tmp_path: Path) -> None:
    """None, not nought."""
    meter = Meter(tmp_path / "power.jsonl", BestEffort())
    meter.show(Observation(0.0, on_battery=True), outage=True)
    meter.end_outage(shut_down=True)
    meter.end_hour()
    (outage,) = read_power(tmp_path / "power.jsonl")
    assert outage.energy_kwh is None
    assert outage.shut_down


def test_a_well_ups_is_not_warned_of() -> None:
    """Also where nobody knows what the box draws."""
    assert warnings(_WELL, 900.0, None, Ups()) == []
    assert warnings(_WELL, None, 1500.0, Ups()) == []


def test_what_is_wrong_is_told_with_its_figures() -> None:
    """§B2's box on §H3's UPS, computed; a battery at its end; a load above the rating."""
    worn = Observation(0.0, on_battery=False, replace_battery=True, overload=True, load_percent=104.0)
    said = warnings(worn, 2253.0, 1500.0, Ups())
    assert len(said) == 3
    assert "must be replaced" in said[0]
    assert "104 %" in said[1]
    assert "2,253 W (computed), 753 W more than the UPS's 1,500 W" in said[2]
    assert (
        "more than its rating"
        in warnings(Observation(0.0, on_battery=False, overload=True), None, None, Ups())[0]
    )


@pytest.mark.parametrize("word", ["NOBATT", "BYPASS", "OFF"])
def test_a_ups_that_would_not_carry_the_box_is_warned_of(word: str) -> None:
    """On mains, where nothing else tells."""
    (said,) = warnings(Observation(0.0, on_battery=False, status=f"OL {word}"), None, None, Ups())
    assert f"({word})" in said


def test_a_ups_that_discharges_on_mains_is_warned_of() -> None:
    """NUT's own driver knows models that say so when the mains have failed. A calibration is well."""
    seen = nut.observation({"ups.status": "OL DISCHRG"}, 0.0)
    (said,) = warnings(seen, None, None, Ups())
    assert "onlinedischarge" in said
    assert warnings(nut.observation({"ups.status": "OL DISCHRG CAL"}, 0.0), None, None, Ups()) == []
    assert warnings(nut.observation({"ups.status": "OB DISCHRG"}, 0.0), None, None, Ups()) == []


def test_a_ups_that_switches_off_before_the_host_is_down_is_warned_of() -> None:
    """Only where a command tells it while the host still runs: the flag file is read at the very end."""
    seen = nut.observation({"ups.status": "OL", "ups.delay.shutdown": "19"}, 0.0)
    (said,) = warnings(seen, None, None, Ups(cycle=("upscmd",)))
    assert "19 s after `ups.cycle` (ups.delay.shutdown), and the host takes 20 s" in said
    assert warnings(seen, None, None, Ups(cycle=("upscmd",), host_down_s=19.0)) == []
    assert warnings(seen, None, None, Ups()) == []
