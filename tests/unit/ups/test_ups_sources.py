"""What the words of apcupsd and NUT mean."""

from __future__ import annotations

import pytest

from dreamseed_cli.core.errors import UsageError
from dreamseed_cli.profile.ups import Ups
from dreamseed_cli.ups import nis, nut
from dreamseed_cli.ups.chosen import source_of
from dreamseed_cli.ups.source import NoWord, number, seconds

_APC = {
    "STATUS": "ONBATT LOWBATT",
    "STATFLAG": "0x05000050",
    "BCHARGE": "12.0 Percent",
    "TIMELEFT": "1.5 Minutes",
    "TONBATT": "40 Seconds",
    "LOADPCT": "50.0 Percent",
    "NOMPOWER": "1500 Watts",
    "LINEV": "0.0 Volts",
    "LASTXFER": "Low line voltage",
    "MODEL": "Smart-UPS 1500",
}


def test_apcupsd_tells_an_outage_with_its_figures() -> None:
    """Minutes become seconds, and the load in percent becomes watts."""
    seen = nis.observation(_APC, 7.0)
    assert (seen.on_battery, seen.low_battery, seen.line_dead, seen.self_testing) == (True, True, True, False)
    assert (seen.charge_percent, seen.runtime_s, seen.on_battery_s, seen.load_w) == (12.0, 90.0, 40.0, 750.0)
    assert (seen.at, seen.model) == (7.0, "Smart-UPS 1500")


@pytest.mark.parametrize(
    ("status", "flag", "attribute"),
    [
        ("CAL ONBATT", "0x05000011", "calibrating"),
        ("ONLINE OVERLOAD", "0x05000028", "overload"),
        ("ONLINE REPLACEBATT", "0x05000088", "replace_battery"),
    ],
)
def test_apcupsd_says_it_in_bits_or_in_words(status: str, flag: str, attribute: str) -> None:
    """Either is enough: drivers differ in which they set."""
    assert getattr(nis.observation({"STATUS": status}, 0.0), attribute)
    assert getattr(nis.observation({"STATUS": "ONLINE", "STATFLAG": f"{flag} Status Flag"}, 0.0), attribute)
    assert not getattr(nis.observation({"STATUS": "ONLINE", "STATFLAG": "garbage"}, 0.0), attribute)


def test_apcupsd_tells_a_self_test_by_its_last_transfer() -> None:
    """There is no bit for it."""
    tested = {"STATUS": "ONBATT", "LASTXFER": "Automatic or explicit self test", "STATFLAG": ""}
    assert nis.observation(tested, 0.0).self_testing


def test_nut_tells_an_outage_with_its_figures() -> None:
    """Its names are other ones, its meaning is the same."""
    told = {
        "ups.status": "OB LB RB OVER",
        "battery.charge": "19",
        "battery.runtime": "80",
        "ups.load": "40",
        "ups.realpower.nominal": "1000",
        "input.voltage": "0.0",
        "device.model": "Eaton",
    }
    seen = nut.observation(told, 1.0)
    assert (seen.on_battery, seen.low_battery, seen.replace_battery, seen.overload) == (True,) * 4
    assert (seen.charge_percent, seen.runtime_s, seen.load_w, seen.model) == (19.0, 80.0, 400.0, "Eaton")


def test_nut_tells_calibration_and_self_test() -> None:
    """By a word of the status, or by the test's result."""
    assert nut.observation({"ups.status": "OL CAL"}, 0.0).calibrating
    assert nut.observation({"ups.status": "OB", "ups.test.result": "In progress"}, 0.0).self_testing
    assert not nut.observation({"ups.status": "OB", "ups.test.result": "Done and passed"}, 0.0).self_testing


@pytest.mark.parametrize("status", ["", "OFF", "ALARM", "BYPASS", "WAIT", "CAL"])
def test_nut_that_tells_neither_line_nor_battery_tells_nothing(status: str) -> None:
    """Taken for mains it would call off a shutdown."""
    with pytest.raises(NoWord, match="neither the line nor the battery"):
        nut.observation({"ups.status": status}, 0.0)


@pytest.mark.parametrize("status", ["", "NETWORK ERROR", "SLAVEDOWN", "CAL"])
def test_apcupsd_that_tells_neither_line_nor_battery_tells_nothing(status: str) -> None:
    """Either a bit or a word does."""
    for fields in ({"STATUS": status}, {"STATUS": status, "STATFLAG": "0x05000000"}):
        with pytest.raises(NoWord, match="neither the line nor the battery"):
            nis.observation(fields, 0.0)
    assert not nis.observation({"STATUS": status, "STATFLAG": "0x05000008"}, 0.0).on_battery
    assert nis.observation({"STATUS": status, "STATFLAG": "0x05000010"}, 0.0).on_battery


def test_an_order_to_stop_is_heard_with_and_without_the_line() -> None:
    """NUT's forced shutdown, and apcupsd's own."""
    for status in ("FSD", "FSD OL", "OB FSD"):
        seen = nut.observation({"ups.status": status}, 0.0)
        assert (seen.told_to_stop, seen.on_battery) == (True, "OB" in status)
    for fields in ({"STATUS": "SHUTTING DOWN"}, {"STATUS": "ONLINE", "STATFLAG": "0x05000208"}):
        assert nis.observation(fields, 0.0).told_to_stop
    assert not nut.observation({"ups.status": "OL"}, 0.0).told_to_stop
    assert not nis.observation({"STATUS": "ONLINE", "STATFLAG": "0x05000008"}, 0.0).told_to_stop


def test_what_is_no_number_is_not_known() -> None:
    """A UPS says N/A, or nothing."""
    assert [number(text) for text in ("12.5 Minutes", "N/A", "", None)] == [12.5, None, None, None]
    assert [number(text) for text in ("inf", "-inf", "nan")] == [None, None, None]
    assert seconds("N/A") is None


@pytest.mark.parametrize(
    ("told", "wanted"),
    [("2.0 Hours", 7200.0), ("1500 Seconds", 1500.0), ("25.0 Minutes", 1500.0), ("25.0", 1500.0)],
)
def test_the_time_left_is_in_the_unit_that_it_names(told: str, wanted: float) -> None:
    """Minutes, where it names none."""
    assert nis.observation({**_APC, "TIMELEFT": told}, 0.0).runtime_s == wanted


@pytest.mark.parametrize(
    ("told", "charge", "wanted"),
    [("-1", "5", None), ("0", "100", None), ("0", "50", None), ("0", "49", 0.0), ("inf", "100", None)],
)
def test_a_time_left_that_can_be_none_is_not_known(told: str, charge: str, wanted: float | None) -> None:
    """A full battery that says that it lasts for nothing would stop the box at every blip."""
    by_nut = {"ups.status": "OB", "battery.charge": charge, "battery.runtime": told}
    assert nut.observation(by_nut, 0.0).runtime_s == wanted
    by_apcupsd = {**_APC, "BCHARGE": f"{charge} Percent", "TIMELEFT": f"{told} Minutes"}
    assert nis.observation(by_apcupsd, 0.0).runtime_s == wanted


def test_no_ups_is_said_plainly() -> None:
    """With what it means, and the setting."""
    with pytest.raises(UsageError, match="nothing stops this box in order"):
        source_of(Ups())


def test_each_server_has_its_own_port() -> None:
    """Unless the profile names another."""
    assert source_of(Ups(source="apcupsd")).place == "apcupsd 127.0.0.1:3551"
    assert source_of(Ups(source="nut", name="big", host="::1")).place == "upsd [::1]:3493 big"
    assert source_of(Ups(source="apcupsd", port=9)).place == "apcupsd 127.0.0.1:9"
