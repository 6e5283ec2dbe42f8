"""A run's files: whole or not there, nobody else's touched, and safe to open."""

from __future__ import annotations

import csv
import io
import json
import resource
from pathlib import Path

import pytest
from bench_results import batching_suite, db_suite, records_of, sweep_result

from dreamseed_cli.bench.records import Ending, Record
from dreamseed_cli.bench.report.files import (
    prepare_out,
    read_result,
    requests_csv,
    result_json,
    write_partial,
    write_report,
)
from dreamseed_cli.bench.result import BenchResult
from dreamseed_cli.core.errors import FailedError

SMALL = sweep_result(db_suite())


def names(folder: Path) -> list[str]:
    """Everything in a folder."""
    return sorted(path.name for path in folder.rglob("*"))


def test_a_run_has_a_folder_of_its_own_with_three_files(tmp_path: Path) -> None:
    """Named by the run's date in UTC, below a folder that need not exist; no draft is left."""
    written = write_report(tmp_path / "out" / "bench", SMALL, {})
    assert written.folder == tmp_path / "out" / "bench" / "20261125T040506Z"
    assert names(written.folder) == ["report.html", "requests.csv", "result.json"]
    assert written.report.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert {path.stat().st_mode & 0o777 for path in written.folder.iterdir()} == {0o644}


def test_the_json_is_the_result_and_its_keys_are_sorted(tmp_path: Path) -> None:
    """Read back it is the same result; two files can be laid side by side."""
    result = sweep_result()
    text = write_report(tmp_path, sweep_result(batching_suite()), {}).result.read_text(encoding="utf-8")
    data = json.loads(text)
    assert list(data) == sorted(data)
    assert text.endswith("}\n")
    assert BenchResult.model_validate_json(result_json(result)) == result


def test_a_date_elsewhere_is_named_in_utc(tmp_path: Path) -> None:
    """The folder's name sorts by time whatever the zone of the date."""
    result = SMALL.model_copy(update={"date": "2026-11-25T13:05:06+09:00"})
    assert write_report(tmp_path, result, {}).folder.name == "20261125T040506Z"


def test_the_same_run_again_replaces_its_own_files(tmp_path: Path) -> None:
    """What was saved when the run was interrupted gives way to the whole."""
    partial = write_report(tmp_path, SMALL.model_copy(update={"partial": True}), {})
    whole = write_report(tmp_path, SMALL, {})
    assert whole.folder == partial.folder
    assert not BenchResult.model_validate_json(whole.result.read_bytes()).partial


def test_a_run_so_far_is_its_result_alone(tmp_path: Path) -> None:
    """Each cell replaces it, and in the end the whole run, in the same folder."""
    so_far = SMALL.model_copy(update={"partial": True})
    for _ in range(2):
        write_partial(tmp_path, so_far)
    assert names(tmp_path) == ["20261125T040506Z", "result.json"]
    assert read_result(tmp_path).partial
    write_report(tmp_path, SMALL, {})
    assert names(tmp_path) == ["20261125T040506Z", "report.html", "requests.csv", "result.json"]
    assert not read_result(tmp_path).partial


def test_another_runs_files_are_not_touched(tmp_path: Path) -> None:
    """Two runs of one second, or a folder that holds something else: the next free name is taken."""
    first = write_report(tmp_path, SMALL, {})
    before = first.result.read_bytes()
    second = write_report(tmp_path, SMALL.model_copy(update={"seed": 8}), {})
    (tmp_path / "20261125T040506Z-3").mkdir()
    (tmp_path / "20261125T040506Z-3" / "result.json").write_text("[]", encoding="utf-8")
    third = write_report(tmp_path, SMALL.model_copy(update={"seed": 9}), {})
    assert [one.folder.name for one in (second, third)] == ["20261125T040506Z-2", "20261125T040506Z-4"]
    assert first.result.read_bytes() == before


def test_the_csv_has_a_line_for_every_request() -> None:
    """Suite, cell, times in seconds, tokens, ending; what is not known is empty."""
    result = sweep_result(batching_suite())
    rows = list(csv.DictReader(io.StringIO(requests_csv(records_of(result)), newline="")))
    assert len(rows) == 5 * 4
    assert rows[1] == {
        "suite": "batching",
        "cell": "streams-1",
        "number": "1",
        "workload": "question",
        "scheduled_s": "0.500000",
        "connect_s": "",
        "sent_s": "0.501000",
        "first_token_s": "0.600000",
        "last_token_s": "0.620000",
        "end_s": "0.621000",
        "prompt_tokens": "120",
        "completion_tokens": "2",
        "wanted_tokens": "2",
        "ending": "complete",
        "detail": "",
        "replica": "r1",
        "cache_hit": "False",
    }
    assert rows[3]["ending"] == "refused"
    assert rows[3]["first_token_s"] == ""
    assert rows[3]["detail"] == '503: "full", come back\nlater'


@pytest.mark.parametrize("words", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1"])
def test_a_servers_words_are_no_formula(words: str) -> None:
    """A spreadsheet that opens the file shows them, and runs nothing."""
    record = Record(
        number=0,
        workload=words,
        scheduled_s=-0.5,
        wanted_tokens=1,
        detail=words,
        replica=words,
        ending=Ending.CUT,
    )
    (row,) = csv.DictReader(io.StringIO(requests_csv({("=s", "=c"): [record]}), newline=""))
    assert [row[name] for name in ("workload", "detail", "replica")] == [f"'{words}"] * 3
    assert (row["suite"], row["cell"], row["scheduled_s"]) == ("'=s", "'=c", "-0.500000")


def test_broken_letters_do_not_lose_a_result(tmp_path: Path) -> None:
    """Half a character, as a broken server sends it, is replaced; the files can be read."""
    record = Record(number=0, workload="w", scheduled_s=0.0, wanted_tokens=1, detail="bad \ud83d end")
    result = SMALL.model_copy(update={"model": "model \ud83d"})
    written = write_report(tmp_path, result, {("engine", "c"): [record]})
    assert BenchResult.model_validate_json(written.result.read_bytes()).model == "model ?"
    assert "bad ? end" in written.requests.read_text(encoding="utf-8")


def test_a_full_disk_is_named_and_keeps_what_was_written(tmp_path: Path) -> None:
    """The kernel refuses the requests' file: the error names it, the result before it is whole."""
    record = Record(number=0, workload="w" * 200, scheduled_s=0.0, wanted_tokens=1)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(FailedError) as caught:
            write_report(tmp_path, SMALL, {("engine", "c"): [record] * 1000})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    folder = tmp_path / "20261125T040506Z"
    assert caught.value.place.startswith(str(folder / "requests.csv"))
    assert "--out" in caught.value.remedy
    assert names(folder) == ["result.json"]
    assert BenchResult.model_validate_json((folder / "result.json").read_bytes()) == SMALL


def test_a_disk_without_room_for_a_report_is_told_before_the_run(tmp_path: Path) -> None:
    """An empty file can be made on it, which says nothing."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(FailedError, match="cannot be written"):
            prepare_out(tmp_path / "out")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert names(tmp_path / "out") == []


def test_a_place_that_cannot_be_written_is_told_before_the_run(tmp_path: Path) -> None:
    """A file where the folder should be: named, before an hour of measuring; a good one stays as it was."""
    (tmp_path / "file").touch()
    with pytest.raises(FailedError) as caught:
        prepare_out(tmp_path / "file" / "out")
    assert str(tmp_path / "file") in caught.value.place
    with pytest.raises(FailedError):
        write_report(tmp_path / "file", SMALL, {})
    prepare_out(tmp_path / "new")
    assert names(tmp_path / "new") == []
