"""A drill as a file of results: what came back, how large it was, and nothing of one that failed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from drill_records import record

from dreamseed_cli.app import main
from dreamseed_cli.core.errors import FailedError, UsageError
from dreamseed_cli.drill.figures import measurements, write_result
from dreamseed_cli.drill.history import Folder
from dreamseed_cli.drill.timeline import BACKUP_BEGAN, Heartbeat, Outcome
from dreamseed_cli.estimates.load import load_book
from dreamseed_cli.estimates.results import read_results
from dreamseed_cli.estimates.verdict import Word, judge


def test_a_drill_judges_rpo_and_rto(tmp_path: Path) -> None:
    """41.5 s and 42.5 s against 15 minutes and an hour, with the size of the database."""
    write_result(tmp_path / "new", record(), "a box")
    found, book = read_results(tmp_path / "new"), load_book()
    rpo, rto = (judge(book, book.get(name), found) for name in ("e3-rpo-min", "e3-rto-min"))
    assert (rpo.word, rto.word) == (Word.BETTER, Word.BETTER)
    assert rto.result is not None
    assert (rto.result.measurement.value, rto.result.measurement.unit) == (0.708, "min")
    assert rto.result.device.startswith("a box, a database of 29.7 MiB")


def test_the_command_writes_a_kept_drill(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of this host's own, with its machine; stdout stays what it was."""
    Folder(tmp_path / "state" / "drills").add(record())
    with pytest.raises(SystemExit) as ended:
        main(["drill", "show", "--state-dir", str(tmp_path / "state"), "--out", str(tmp_path), "--json"])
    assert ended.value.code in (0, None)
    shown = capsys.readouterr()
    assert json.loads(shown.out)["data"]["drills"][0]["rto_s"] == 42.5
    assert f"drill-{record().id}.json" in shown.err
    (written,) = (one.name for one in tmp_path.glob("*.json"))
    assert {one.file for one in read_results(tmp_path).found} == {written}


def test_a_missed_target_is_a_measurement_too(tmp_path: Path) -> None:
    """Two hours are no hour."""
    write_result(tmp_path, record(outcome=Outcome.MISSED, rto_s=7200.0), "a box")
    book = load_book()
    assert judge(book, book.get("e3-rto-min"), read_results(tmp_path)).word is Word.FALLS_SHORT


def test_a_drill_that_failed_measured_nothing(tmp_path: Path) -> None:
    """However fast it was; nor is an RPO made up where no heartbeat came back."""
    with pytest.raises(UsageError, match="measured nothing"):
        write_result(tmp_path, record(outcome=Outcome.FAILED), "a box")
    assert not list(tmp_path.iterdir())
    assert [one.key for one in measurements(record(outcome=Outcome.MISSED, rpo_s=None))] == ["rto-min"]


def test_luck_is_no_rpo() -> None:
    """Without WAL the loss came soon after a backup, or did not."""
    alone = Heartbeat(record().began, BACKUP_BEGAN)
    assert [one.key for one in measurements(record(recovered=alone))] == ["rto-min"]


def test_a_folder_that_is_none_is_named(tmp_path: Path) -> None:
    """With the remedy."""
    (tmp_path / "file").write_text(json.dumps({}))
    with pytest.raises(FailedError, match="cannot be written") as caught:
        write_result(tmp_path / "file", record(), "a box")
    assert "--out" in str(caught.value.remedy)
