"""The document's figures that this run has something to say to, each with its verdict. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from dreamseed_cli.bench.report.words import NOTHING, measure
from dreamseed_cli.bench.result import BenchResult
from dreamseed_cli.estimates.load import load_book
from dreamseed_cli.estimates.outcome import figure
from dreamseed_cli.estimates.results import Found, Results
from dreamseed_cli.estimates.schema import Book
from dreamseed_cli.estimates.verdict import Verdict, Word, judge


@dataclass(frozen=True)
class ScoreRow:
    """One line of the scorecard."""

    verdict: Verdict
    document: str
    found: str
    spread: str
    provenance: str
    word: str


def scorecard(result: BenchResult, book: Book | None = None) -> list[Verdict]:
    """A verdict for every figure that this run measured, in the document's order.

    Judged by this run alone, not by older results; arithmetic's sentence is told with it. A measurement that
    does not count (another unit, another card) leaves its figure NOT_MEASURED and the sentence says why.
    """
    found = _results(result)
    keys = {one.measurement.key for one in found.found}
    book = load_book() if book is None else book
    return [judge(book, estimate, found) for estimate in book if estimate.measured_key in keys]


def score_row(result: BenchResult, verdict: Verdict) -> ScoreRow:
    """A verdict as it is written: the document's figure, this run's, and the word."""
    key = verdict.estimate.measured_key
    one = next((one for one in result.measurements if one.key == key), None)
    interval = one is not None and one.low is not None and one.high is not None
    return ScoreRow(
        verdict=verdict,
        document=figure(verdict.estimate),
        found=f"{measure(one.value)} {one.unit}".strip() if one else NOTHING,
        spread=f"{measure(one.low)}-{measure(one.high)}" if one and interval else "",
        provenance=one.provenance if one else "",
        word="does not count" if verdict.word is Word.NOT_MEASURED else verdict.word.replace("_", " "),
    )


def _results(result: BenchResult) -> Results:
    date = datetime.fromisoformat(result.date)
    date = date if date.tzinfo else date.replace(tzinfo=UTC)
    return Results(
        tuple(Found(one, result.device, date, result.profile, "this run") for one in result.measurements)
    )
