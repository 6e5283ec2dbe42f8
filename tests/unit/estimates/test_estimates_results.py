"""Reading results: the newest of each counts, files of another shape do not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dreamseed_cli.core.errors import UsageError
from dreamseed_cli.estimates.results import read_results


def write(folder: Path, name: str, **given: Any) -> None:
    """A record with one measurement; `key`, `value` and the like go into it, the rest beside it."""
    one = {"key": "tps", "value": 1.0, "unit": "TPS", "provenance": "measured"}
    inner = {name: given.pop(name) for name in list(given) if name in {*one, "low", "high", "n"}}
    record = {"date": "2026-11-01", "device": "box", "measurements": [one | inner]} | given
    (folder / name).write_text(
        json.dumps({name: value for name, value in record.items() if value is not None})
    )


def test_the_newest_wins_for_each_key_and_device(tmp_path: Path) -> None:
    """Whatever the files are called; a date without a zone is UTC."""
    write(tmp_path, "a.json", value=3, date="2026-11-03T00:30:00+00:00")
    write(tmp_path, "b.json", value=2, date="2026-11-03T01:00:00+01:00")
    write(tmp_path, "c.json", value=1, date="2026-11-02")
    write(tmp_path, "d.json", value=9, date="2026-11-04", device="other")
    write(tmp_path, "e.json", value=7, key="else")
    values = [(one.device, one.measurement.value) for one in read_results(tmp_path).of("tps")]
    assert values == [("other", 9), ("box", 3)]


def test_the_runs_of_a_bench_below_the_folder_count(tmp_path: Path) -> None:
    """`bench --out DIR` makes a folder for each; what else lies in one is none of ours."""
    for run, value in (("20261101T000000Z", 5), ("20261102T000000Z", 6)):
        (tmp_path / run).mkdir()
        write(tmp_path / run, "result.json", value=value, date=f"{run[:4]}-{run[4:6]}-{run[6:8]}")
        write(tmp_path / run, "notes.json", value=99, date="2026-12-01")
    results = read_results(tmp_path)
    assert [(one.file, one.measurement.value) for one in results.found] == [
        ("20261102T000000Z/result.json", 6)
    ]
    assert results.skipped == ()


def test_a_later_simulation_does_not_hide_a_measurement(tmp_path: Path) -> None:
    """Both are kept."""
    write(tmp_path, "a.json", value=3)
    write(tmp_path, "b.json", value=9, date="2026-11-09", provenance="simulated")
    assert {one.measurement.provenance for one in read_results(tmp_path).of("tps")} == {
        "measured",
        "simulated",
    }


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"date": None}, "there is no date"),
        ({"date": "yesterday"}, "isoformat"),
        ({"provenance": "document"}, "measurements.0.provenance"),
        ({"value": "many"}, "measurements.0.value"),
    ],
)
def test_files_of_another_shape_are_skipped_and_named(
    tmp_path: Path, given: dict[str, Any], reason: str
) -> None:
    """With the reason, and the others are read."""
    write(tmp_path, "good.json")
    write(tmp_path, "other.json", **given)
    results = read_results(tmp_path)
    assert [one.file for one in results.found] == ["good.json"]
    ((name, why),) = results.skipped
    assert name == "other.json"
    assert reason in why
    assert results.reports == ()


def test_a_report_of_another_benchmark_is_no_broken_record(tmp_path: Path) -> None:
    """It has no `measurements` at all; with a broken record beside it, each is where it belongs."""
    write(tmp_path, "good.json")
    write(tmp_path, "report.json", measurements=None, date=None)
    write(tmp_path, "broken.json", date=None)
    results = read_results(tmp_path)
    assert results.reports == ("report.json",)
    assert [name for name, _ in results.skipped] == ["broken.json"]


def test_what_is_no_json_or_cannot_be_read_is_skipped(tmp_path: Path) -> None:
    """Half a file or a folder of that name ends nothing."""
    (tmp_path / "a.json").write_text("{")
    (tmp_path / "b.json").mkdir()
    assert [name for name, _ in read_results(tmp_path).skipped] == ["a.json", "b.json"]


def test_the_stamp_of_benchmarks_is_a_device(tmp_path: Path) -> None:
    """Its date counts where none stands above it, and a GPU names the machine before its processor does."""
    stamp = {"cpu": "AMD EPYC", "cores": 2, "kernel": "6.18", "date": "2026-11-23T05:42:07+00:00"}
    write(tmp_path, "a.json", date=None, device=stamp, benchmark="x", profile="laptop")
    write(tmp_path, "b.json", device={**stamp, "gpu": "NVIDIA GeForce RTX 5090"})
    older, newer = sorted(read_results(tmp_path).found, key=lambda one: one.date)
    assert (newer.device, newer.date.day, newer.profile) == ("AMD EPYC, 2 cores", 23, "laptop")
    assert (older.device, older.date.day) == ("NVIDIA GeForce RTX 5090", 1)


def test_a_folder_that_is_not_there_is_a_usage_error(tmp_path: Path) -> None:
    """It was named by the user."""
    with pytest.raises(UsageError, match="no such folder"):
        read_results(tmp_path / "missing")
