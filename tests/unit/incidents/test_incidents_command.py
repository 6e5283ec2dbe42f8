"""`dreamseed incidents`, as people and machines see it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dreamseed_cli.app import main
from dreamseed_cli.incidents.book import IncidentBook


@pytest.fixture(autouse=True)
def _wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "160")


def _run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["incidents", *arguments])
    return int(ended.value.code or 0)


def _keep(tmp_path: Path, *, simulated: bool = False) -> list[str]:
    """Two incidents of the test's own state folder: one that is over, one that was given up."""
    state = tmp_path / "state"
    state.mkdir(exist_ok=True)
    book = IncidentBook(state / "incidents.sqlite", simulated=simulated)
    first = book.began("ejection", "r0", cause="hung", detail="[red]no token[/]", detect_s=10.0, at=1000.0)
    book.acted(first, "killed [bold]it", at=1001.0)
    book.acted(first, "started it again", at=1003.25)
    book.ended(first, "recovered", requests={"moved": 3, "cut": 0}, at=1142.0)
    second = book.began("gpu", "card 1", cause="xid_79", at=2000.0)
    book.ended(second, "failed", at=2100.0)
    assert book.flush(60.0)
    book.close()
    return [first, second]


def test_where_nothing_ran_it_says_so_kindly(capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 3, and how to begin."""
    assert _run() == 3
    said = capsys.readouterr().err
    assert "nothing has gone wrong" in said
    assert "dreamseed serve" in said


def test_where_nothing_went_wrong_it_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Not an empty table."""
    (tmp_path / "state").mkdir()
    IncidentBook(tmp_path / "state" / "incidents.sqlite").close(10.0)
    assert _run() == 0
    assert capsys.readouterr().out == "No incident on record.\n"
    assert _run("--json") == 0
    assert json.loads(capsys.readouterr().out)["data"] == {"incidents": []}


def test_the_table_tells_each_with_everything(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """When, what, cause, action, requests, times and outcome; newest last; how the times came."""
    ids = _keep(tmp_path)
    assert _run() == 0
    shown = capsys.readouterr().out
    for words in (*ids, "1970-01-01 00:16:40", "ejection of r0", "hung", "started it again (after 1 more)"):
        assert words in shown
    for words in ("moved 3", "10.0 s, 152 s", "recovered", "gpu of card 1", "failed", "times: measured"):
        assert words in shown
    assert shown.index(ids[0]) < shown.index(ids[1])
    assert "SIMULATED" not in shown
    assert "cut" not in shown


def test_simulated_ones_are_never_shown_as_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Alone, or among others."""
    _keep(tmp_path, simulated=True)
    assert _run() == 0
    alone = capsys.readouterr().out
    assert "times: simulated" in alone
    assert "measured" not in alone
    _keep(tmp_path)
    assert _run() == 0
    mixed = capsys.readouterr().out
    assert "times: measured, unless marked" in mixed
    assert mixed.count("SIMULATED") == 2


def test_long_words_and_doubled_names_are_spared_in_the_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The gateway is not `gateway of gateway`; of an action its first line, cut."""
    (tmp_path / "state").mkdir()
    book = IncidentBook(tmp_path / "state" / "incidents.sqlite")
    incident = book.began("gateway", "gateway", cause="exited")
    book.acted(incident, "begin " + "x" * 80 + "\nsecond line")
    book.close(10.0)
    assert _run() == 0
    shown = capsys.readouterr().out
    assert "gateway of" not in shown
    assert "begin xxx" in shown
    assert "x" * 60 not in shown
    assert "second line" not in shown


def test_the_filters(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By number, subject and kind."""
    ids = _keep(tmp_path)

    def found(*arguments: str) -> list[str]:
        assert _run(*arguments, "--json") == 0
        return [one["id"] for one in json.loads(capsys.readouterr().out)["data"]["incidents"]]

    assert found() == ids
    assert found("--last", "1") == ids[1:]
    assert found("--subject", "r0") == ids[:1]
    assert found("--kind", "gpu") == ids[1:]
    assert _run("--kind", "nonsense") == 2
    assert "ejection, restart" in capsys.readouterr().err


def test_one_incident_with_its_timeline(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Seconds since it was noticed; the engine's words as they are."""
    ids = _keep(tmp_path)
    assert _run(ids[0]) == 0
    shown = capsys.readouterr().out
    for words in ("ejection of r0", "10.0 s (measured)", "152 s (measured)", "+3.25 s", "started it again"):
        assert words in shown
    for words in ("killed [bold]it", "[red]no token[/]", "+142.00 s", "recovered"):
        assert words in shown


def test_one_incident_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every field, always."""
    ids = _keep(tmp_path)
    assert _run(ids[0], "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert document["command"] == "incidents"
    assert document["data"] == {
        "id": ids[0],
        "kind": "ejection",
        "subject": "r0",
        "began_at": 1000.0,
        "ended_at": 1142.0,
        "cause": "hung",
        "detail": "[red]no token[/]",
        "actions": [{"at": 1001.0, "text": "killed [bold]it"}, {"at": 1003.25, "text": "started it again"}],
        "outcome": "recovered",
        "detect_s": 10.0,
        "recover_s": 152.0,
        "requests": {"moved": 3, "cut": 0},
        "provenance": "measured",
    }
    assert _run("nonsense") == 2


def test_a_damaged_file_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 4, no traceback."""
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "incidents.sqlite").write_bytes(b"damaged" * 1000)
    assert _run("--json") == 4
    assert "set" in json.loads(capsys.readouterr().out)["errors"][0]["remedy"]
