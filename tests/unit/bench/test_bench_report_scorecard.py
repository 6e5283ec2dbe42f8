"""The scorecard: this run against the document, and nothing else."""

from __future__ import annotations

from bench_results import db_suite, engine_suite, sweep_result

from dreamseed_cli.bench.report.scorecard import score_row, scorecard
from dreamseed_cli.estimates.load import load_book
from dreamseed_cli.estimates.results import Measurement
from dreamseed_cli.estimates.verdict import Word


def test_only_figures_that_the_run_measured_are_judged_in_the_documents_order() -> None:
    """Neither older results nor settings stand in a run's scorecard."""
    ids = [one.estimate.id for one in scorecard(sweep_result())]
    assert ids == ["b1-farm-tok-s", "b1-answers-per-s", "e1-read-tps", "e1-write-tps", "i2-speedup"]


def test_a_simulated_result_is_no_verdict_and_tells_the_arithmetic() -> None:
    """It stays `simulated`, whatever its value; the computation is told beside it."""
    verdicts = scorecard(sweep_result(engine_suite()))
    assert {one.word for one in verdicts} == {Word.SIMULATED}
    assert "3 cards x 500 tok/s = 1,500 tok/s" in verdicts[0].sentence


def test_a_measured_result_is_judged_with_its_device_and_date() -> None:
    """The word, the interval, the machine and the day."""
    read, write = scorecard(sweep_result(db_suite()))
    assert (read.word, write.word) == (Word.HOLDS, Word.FALLS_SHORT)
    assert "on 3 x emulated RTX 5090 on 2 cores, 2026-11-25" in write.sentence


def test_changing_the_documents_figure_changes_the_verdict() -> None:
    """Nothing is hard-coded: the book decides."""
    book = load_book()
    easier = tuple(
        one.model_copy(update={"value": 100.0}) if one.id == "e1-write-tps" else one for one in book
    )
    verdicts = scorecard(sweep_result(db_suite()), book.model_copy(update={"estimate": easier}))
    assert verdicts[1].word is Word.BETTER


def test_a_measurement_that_does_not_count_is_shown_and_said_why() -> None:
    """The document's card is another one: the figure stands there, the verdict does not."""
    one = Measurement(key="throughput-7b-tok-s", value=31.5, unit="tok/s", provenance="measured")
    result = sweep_result(db_suite()).model_copy(update={"measurements": (one,), "device": "2-core CPU"})
    (verdict,) = scorecard(result)
    row = score_row(result, verdict)
    assert verdict.word is Word.NOT_MEASURED
    assert (row.word, row.found, row.provenance) == ("does not count", "31.5 tok/s", "measured")
    assert "the figure is about RTX 5090" in verdict.sentence


def test_a_date_without_a_zone_is_utc() -> None:
    """As everywhere in results."""
    result = sweep_result(db_suite()).model_copy(update={"date": "2026-11-25T04:05:06"})
    assert "2026-11-25" in scorecard(result)[0].sentence
