"""`dreamseed estimates`, as people and machines see it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dreamseed_cli.app import main
from dreamseed_cli.estimates.load import shipped_dir


@pytest.fixture(autouse=True)
def _wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "160")


def _run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["estimates", *arguments])
    return int(ended.value.code or 0)


def _data(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    assert _run(*arguments, "--json") == 0
    envelope = json.loads(capsys.readouterr().out)
    assert (envelope["command"], envelope["ok"]) == ("estimates", True)
    data: dict[str, Any] = envelope["data"]
    return data


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """A folder with a record of two results, and a file of another shape."""
    folder = tmp_path / "results"
    folder.mkdir()
    measurements = [
        {"key": "postgres-read-tps", "value": 4000, "unit": "TPS", "provenance": "measured", "n": 3},
        {"key": "postgres-write-tps", "value": 700, "unit": "TPS", "provenance": "simulated"},
    ]
    record = {"date": "2026-11-25", "device": "[bold]box", "measurements": measurements}
    (folder / "database.json").write_text(json.dumps(record))
    (folder / "other.json").write_text("{}")
    return folder


def test_all_figures_are_listed_with_their_counts(capsys: pytest.CaptureFixture[str], results: Path) -> None:
    """Falling short is no failure of a report: the exit code is 0."""
    assert _run("--results", str(results)) == 0
    out = capsys.readouterr().out
    for text in ("b1-7b-tok-s §B1", "contradicted", "falls short", "1 simulated", "[bold]box, 2026-11-25"):
        assert text in out
    assert "1 more file answers other questions" in out
    assert "other.json" not in out


def test_a_broken_record_is_named_with_its_reason(capsys: pytest.CaptureFixture[str], results: Path) -> None:
    """It may be a mistake; a report of another benchmark is none."""
    (results / "broken.json").write_text('{"measurements": [], "device": "d"}')
    assert _run("--results", str(results)) == 0
    assert "not counted: broken.json: there is no date" in capsys.readouterr().out


def test_json_has_verdicts_counts_and_skipped_files(
    capsys: pytest.CaptureFixture[str], results: Path
) -> None:
    """Numbers carry their unit and provenance, results their device and date."""
    data = _data(capsys, "--results", str(results))
    assert sum(data["counts"].values()) == len(data["estimates"])
    assert data["counts"]["simulated"] == 1
    assert (data["skipped_files"], data["other_files"]) == ([], ["other.json"])
    (read,) = [one for one in data["estimates"] if one["id"] == "e1-read-tps"]
    assert (read["verdict"], read["value"], read["section"]) == ("falls_short", [5000, 10000], "E1")
    assert read["number"] == {"value": 4000, "unit": "TPS", "provenance": "measured"}
    assert read["result"]["device"] == "[bold]box"
    assert read["result"]["date"] == "2026-11-25T00:00:00+00:00"


def test_a_section_and_a_verdict_choose(capsys: pytest.CaptureFixture[str]) -> None:
    """`B` takes B1 to B4, in either case and with the paragraph sign; both options together take both."""
    whole = {one["section"] for one in _data(capsys, "--section", "§b")["estimates"]}
    assert whole == {"B1", "B2", "B3", "B4"}
    chosen = _data(capsys, "--section", "B3", "--verdict", "contradicted")["estimates"]
    assert {one["id"] for one in chosen} >= {"b3-tensor-parallel", "b3-max-model-len"}
    assert {one["verdict"] for one in chosen} == {"contradicted"}
    assert _data(capsys, "--section", "D2", "--verdict", "falls-short")["estimates"] == []


def test_one_figure_is_shown_with_its_computation(capsys: pytest.CaptureFixture[str]) -> None:
    """Its sentence shows how the verdict came about."""
    assert _run("f3-1m") == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "f3-1m (§F3): contradicted" in out
    assert "5 cards x 2.5 answers/s are 12.5" in out
    assert "api rps 1,000" in out
    assert _data(capsys, "c1-vcpu-usd")["number"] == {
        "value": pytest.approx(4.8),
        "unit": "USD/month",
        "provenance": "computed",
    }


def test_a_file_of_ones_own_is_judged_anew(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """§C1's $48 corrected in a copy of the file holds."""
    shipped = (shipped_dir() / "estimates.toml").read_text(encoding="utf-8")
    mine = tmp_path / "mine.toml"
    mine.write_text(shipped.replace("value = 48\n", "value = 4.80\n"), encoding="utf-8")
    assert _data(capsys, "c1-vcpu-usd", "--file", str(mine))["verdict"] == "holds"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["b1-7b-tok"], "Did you mean b1-7b-tok-s"),
        (["?"], "no figure has this id"),
        (["--section", "Z"], "no figure is of this section"),
        (["--verdict", "wrong"], "there is no verdict 'wrong'"),
        (["--results", "/no/such"], "no such folder"),
        (["--file", "/no/such.toml"], "cannot be read"),
    ],
)
def test_wrong_usage_is_exit_code_2(
    capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    """And the message helps: the nearest id, the known verdicts."""
    assert _run(*arguments) == 2
    assert said in capsys.readouterr().err
