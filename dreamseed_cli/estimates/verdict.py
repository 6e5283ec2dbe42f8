"""The verdict on a figure: a measurement's where there is one, else arithmetic's. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from dreamseed_cli.core.result import Figure, Provenance
from dreamseed_cli.estimates.instruments import instruments_of
from dreamseed_cli.estimates.outcome import ROUNDING, Outcome, figure, say
from dreamseed_cli.estimates.results import Found, Measurement, Results
from dreamseed_cli.estimates.rules import apply_rule
from dreamseed_cli.estimates.schema import Book, Estimate, NotComputable


class Word(StrEnum):
    """What can be said of a figure."""

    HOLDS = "holds"
    FALLS_SHORT = "falls_short"
    CANNOT_BE_TOLD = "cannot_be_told"
    BETTER = "better"
    CONTRADICTED = "contradicted"
    SIMULATED = "simulated"
    NOT_MEASURED = "not_measured"


_RELATION = {
    Word.HOLDS: "{figure} holds",
    Word.FALLS_SHORT: "it falls short of {figure}",
    Word.CANNOT_BE_TOLD: "whether {figure} holds cannot be told, for the interval reaches both sides of it",
    Word.BETTER: "it is better than {figure}",
    Word.CONTRADICTED: "it contradicts {figure}",
}
_RANKS = ("measured", "computed", "simulated")
_NOTHING_TO_MEASURE = {
    "setting": "A setting: nothing to measure.",
    "price": "A price: the cost model's to check.",
}


@dataclass(frozen=True, slots=True)
class Verdict:
    """word and sentence on one figure; `number` is the newest result, or else what was computed."""

    estimate: Estimate
    word: Word
    sentence: str
    number: Figure | None = None
    result: Found | None = None

    def to_data(self) -> dict[str, Any]:
        """The verdict as JSON."""
        one, result = self.estimate, self.result
        return {
            **one.model_dump(mode="json"),
            "verdict": self.word.value,
            "sentence": self.sentence,
            "number": None if self.number is None else self.number.to_data(),
            "result": None if result is None else _result_data(result),
        }


def judge_all(book: Book, results: Results) -> list[Verdict]:
    """A verdict for every figure, in the file's order."""
    return [judge(book, estimate, results) for estimate in book]


def judge(book: Book, estimate: Estimate, results: Results) -> Verdict:
    """A measurement outranks arithmetic, and that a model's computation or a simulation; all are told."""
    outcomes, missing = _outcomes(book, estimate)
    result, elsewhere = _newest(estimate, results)
    against = next((outcome for outcome in outcomes if not outcome.consistent), None)
    words = [*(outcome.sentence for outcome in outcomes), *missing, *elsewhere]
    if result is not None and (against is None or result.measurement.provenance == "measured"):
        return _by_result(estimate, result, words)
    if result is not None:
        words.append(f"{_said(result)}.")
    elif estimate.result_key is not None and not elsewhere:
        words.append(_nothing_yet(estimate, estimate.result_key))
    if against is not None:
        return _by_arithmetic(estimate, Word.CONTRADICTED, words, against)
    if outcomes:
        proven = estimate.measured_key is None and not missing
        return _by_arithmetic(estimate, Word.HOLDS if proven else Word.NOT_MEASURED, words, outcomes[0])
    words = words or [_NOTHING_TO_MEASURE[estimate.check[0]]]
    return Verdict(estimate, Word.NOT_MEASURED, " ".join(words))


def _nothing_yet(estimate: Estimate, key: str) -> str:
    """Why there is no result, and what gives one."""
    if estimate.needs is not None:
        return (
            f"No instrument of this program measures it. It takes {estimate.needs}; a file of results with "
            f"the key '{key}' is judged."
        )
    commands = " or ".join(f"`{one.command}`" for one in instruments_of(key))
    where = f" on {estimate.device}" if estimate.device is not None else ""
    return f"No result for '{key}' yet: {commands}{where} gives one."


def _by_result(estimate: Estimate, result: Found, words: list[str]) -> Verdict:
    """A result against the figure's range.

    A simulated one never counts as measured; what a computation does not reach is contradicted, not missed.
    """
    one = result.measurement
    word = judged(estimate, one)
    if one.provenance == "computed" and word is Word.FALLS_SHORT:
        word = Word.CONTRADICTED
    said = f"{_said(result)}: {_RELATION[word].format(figure=figure(estimate))}."
    if one.provenance == "simulated":
        word, said = Word.SIMULATED, f"{said} A simulation does not count as a measurement."
    number = Figure(one.value, one.unit, Provenance(one.provenance))
    return Verdict(estimate, word, " ".join([said, *words]), number, result)


def _by_arithmetic(estimate: Estimate, word: Word, words: list[str], outcome: Outcome) -> Verdict:
    number = Figure(outcome.computed, outcome.unit, Provenance.COMPUTED)
    return Verdict(estimate, word, " ".join(words), number)


def _outcomes(book: Book, estimate: Estimate) -> tuple[list[Outcome], list[str]]:
    """What the figure's rules find, and a sentence for each that lacks something."""
    outcomes, missing = [], []
    for name in estimate.rules:
        try:
            outcomes.append(apply_rule(name, book, estimate))
        except NotComputable as error:
            missing.append(f"It cannot be computed: {error}.")
    return outcomes, missing


def _newest(estimate: Estimate, results: Results) -> tuple[Found | None, list[str]]:
    """The result that judges: measured, then computed, then simulated, the newest of each; and what does not,
    and why.
    """
    if estimate.result_key is None:
        return None, []
    fitting, elsewhere = [], []
    for one in results.of(estimate.result_key):
        why = _unfit(estimate, one)
        if why:
            elsewhere.append(f"{_said(one)} does not count: {why}.")
        else:
            fitting.append(one)
    fitting.sort(key=lambda one: _RANKS.index(one.measurement.provenance))
    return (fitting[0] if fitting else None), elsewhere


def _unfit(estimate: Estimate, found: Found) -> str:
    if found.measurement.provenance == "computed" and estimate.computed_key is None:
        return "it was not measured"
    if found.measurement.unit != estimate.unit:
        return f"the figure is in '{estimate.unit}'"
    if estimate.device is not None and estimate.device.lower() not in found.device.lower():
        return f"the figure is about {estimate.device}"
    return ""


def judged(estimate: Estimate, one: Measurement) -> Word:
    """As `compare`, but CANNOT_BE_TOLD where the interval reaches from what holds to what falls short."""
    word = compare(estimate, one.value)
    ends = {compare(estimate, end) for end in (one.low, one.high) if end is not None}
    split = len({end is Word.FALLS_SHORT for end in (word, *ends)}) == 2
    return Word.CANNOT_BE_TOLD if split else word


def compare(estimate: Estimate, value: float) -> Word:
    """Past the worse end of the range it falls short; more than 5 % past the better end it is better."""
    low, high, margin = estimate.low, estimate.high, ROUNDING
    if estimate.better == "equal":
        near = low - margin * abs(low) <= value <= high + margin * abs(high)
        return Word.HOLDS if near else Word.FALLS_SHORT
    if estimate.better == "lower":
        low, high, value = -high, -low, -value
    if value < low:
        return Word.FALLS_SHORT
    return Word.BETTER if value > high + margin * abs(high) else Word.HOLDS


def _said(found: Found) -> str:
    one = found.measurement
    spread = f" ({say(one.low)}-{say(one.high)})" if one.low is not None and one.high is not None else ""
    runs = f", n = {one.n}" if one.n is not None else ""
    unit = f" {one.unit}" if one.unit else ""
    number = f"{one.provenance.capitalize()} {say(one.value)}{unit}{spread}{runs}"
    return f"{number} on {found.device}, {found.date:%Y-%m-%d}"


def _result_data(found: Found) -> dict[str, Any]:
    return {
        **found.measurement.model_dump(mode="json"),
        "device": found.device,
        "date": found.date.isoformat(),
        "profile": found.profile,
        "file": found.file,
    }
