"""The UPS for Prometheus."""

from __future__ import annotations

from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from dreamseed_cli.profile.ups import Ups
from dreamseed_cli.ups.observation import Observation
from dreamseed_cli.ups.policy import Power, see
from dreamseed_cli.ups.textfile import metrics, write_metrics

RULES = Ups(source="apcupsd")


def _told(power: Power, now: float = 0.0) -> dict[str, float]:
    text = metrics(power, now, RULES, 1000.0).decode()
    return {
        f"{sample.name}{''.join(sample.labels.values())}": sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_on_battery_its_charge_and_time_left_are_told() -> None:
    """As ratios, seconds and watts."""
    seen = Observation(
        0.0, on_battery=True, charge_percent=80.0, runtime_s=300.0, load_percent=50.0, rating_w=1500.0
    )
    found = _told(see(Power(), seen, 0.0, RULES, 10.0))
    assert found["dreamseed_ups_on_battery"] == 1
    assert found["dreamseed_ups_charge_ratio"] == 0.8
    assert found["dreamseed_ups_time_left_seconds"] == 300
    assert found["dreamseed_ups_load_watts"] == 750
    assert found["dreamseed_ups_stagebattery"] == 1
    assert found["dreamseed_ups_looked_timestamp_seconds"] == 1000


def test_a_silent_ups_is_told_as_silent() -> None:
    """What it said last stays, and nothing is made up."""
    on_mains = see(Power(), Observation(0.0, on_battery=False), 0.0, RULES, 10.0)
    found = _told(see(on_mains, None, 5.0, RULES, 10.0), 5.0)
    assert (found["dreamseed_ups_communication"], found["dreamseed_ups_on_battery"]) == (0, 0)
    assert "dreamseed_ups_charge_ratio" not in found
    assert "dreamseed_ups_on_battery" in _told(Power())


def test_the_file_is_written_whole_in_a_folder_that_is_made(tmp_path: Path) -> None:
    """So that a scrape never reads half of it."""
    path = tmp_path / "ups" / "ups.prom"
    write_metrics(path, Power(), 0.0, RULES)
    assert path.read_bytes().endswith(b"\n")
