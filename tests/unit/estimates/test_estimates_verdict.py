"""Verdicts: computed from figures and results, and never more than these say."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dreamseed_cli.estimates.load import load_book
from dreamseed_cli.estimates.results import Found, Measurement, Results
from dreamseed_cli.estimates.schema import Book, Estimate
from dreamseed_cli.estimates.verdict import Verdict, Word, compare, judge, judge_all

BOOK = load_book()


def result(key: str, value: float, unit: str, provenance: Any = "measured", **given: Any) -> Found:
    """A result as it is read from a file."""
    device, day = given.pop("device", "NVIDIA GeForce RTX 5090"), given.pop("day", 1)
    measurement = Measurement(key=key, value=value, unit=unit, provenance=provenance, **given)
    return Found(measurement, device, datetime(2026, 11, day, tzinfo=UTC), None, "a.json")


def verdict(estimate_id: str, *results: Found, book: Book = BOOK) -> Verdict:
    """The verdict on one figure, given these results."""
    return judge(book, book.get(estimate_id), Results(results))


def with_value(estimate_id: str, value: float) -> Book:
    """The shipped book with another value of one figure."""
    estimates = (
        one.model_copy(update={"value": value}) if one.id == estimate_id else one for one in BOOK.estimate
    )
    return BOOK.model_copy(update={"estimate": tuple(estimates)})


def test_a_changed_figure_changes_its_verdict() -> None:
    """§C1's $48 is contradicted; $4.80 in the file holds."""
    assert verdict("c1-vcpu-usd").word is Word.CONTRADICTED
    assert verdict("c1-vcpu-usd", book=with_value("c1-vcpu-usd", 4.80)).word is Word.HOLDS


@pytest.mark.parametrize(
    ("value", "word", "said"),
    [
        (4000, Word.FALLS_SHORT, "it falls short of 5,000-10,000 TPS"),
        (7000, Word.HOLDS, "5,000-10,000 TPS holds"),
        (20_000, Word.BETTER, "it is better than 5,000-10,000 TPS"),
    ],
)
def test_a_measurement_is_set_against_the_range(value: float, word: Word, said: str) -> None:
    """Under it, within it, above it; the spread is shown."""
    one = verdict(
        "e1-read-tps", result("postgres-read-tps", value, "TPS", low=value - 9, high=value + 9, n=5)
    )
    assert one.word is word
    assert said in one.sentence
    assert f"({value - 9:,}-{value + 9:,}), n = 5 on NVIDIA GeForce RTX 5090, 2026-11-01" in one.sentence
    assert one.number is not None
    assert (one.number.value, one.number.provenance.value) == (value, "measured")


@pytest.mark.parametrize(
    ("low", "value", "high", "word"),
    [
        (4900, 4950, 4990, Word.FALLS_SHORT),
        (4900, 4950, 5001, Word.CANNOT_BE_TOLD),
        (4999, 5100, 5200, Word.CANNOT_BE_TOLD),
        (5000, 5100, 5200, Word.HOLDS),
        (9000, 11_000, 12_000, Word.BETTER),
        (None, 4950, 5001, Word.CANNOT_BE_TOLD),
        (None, 5100, None, Word.HOLDS),
    ],
)
def test_an_interval_on_both_sides_of_the_bound_tells_nothing(
    low: float | None, value: float, high: float | None, word: Word
) -> None:
    """5,000 to 10,000 TPS: whether it is reached is chance, whichever side the value fell on."""
    one = verdict("e1-read-tps", result("postgres-read-tps", value, "TPS", low=low, high=high))
    assert one.word is word
    assert ("cannot be told" in one.sentence) is (word is Word.CANNOT_BE_TOLD)


def test_less_is_better_has_its_bound_at_the_other_end() -> None:
    """A time that may be longer than the document's cannot be told to hold."""
    told = verdict("e3-rpo-min", result("rpo-min", 10, "min", low=5, high=20))
    assert told.word is Word.CANNOT_BE_TOLD


def test_a_small_model_on_two_cores_does_not_judge_the_batching_of_a_card() -> None:
    """§I2 speaks of the RTX 5090."""
    one = verdict("i2-speedup", result("batch-8-speedup", 5.47, "times", device="a processor, 2 cores"))
    assert one.word is not Word.FALLS_SHORT
    assert "the figure is about RTX 5090" in one.sentence


def test_a_simulated_result_never_counts_as_measured() -> None:
    """Its verdict is `simulated`, and a measured one outranks it however old."""
    simulated = result("postgres-read-tps", 7000, "TPS", "simulated", day=9)
    one = verdict("e1-read-tps", simulated)
    assert one.word is Word.SIMULATED
    assert "does not count as a measurement" in one.sentence
    assert one.number is not None
    assert one.number.provenance.value == "simulated"
    assert verdict("e1-read-tps", simulated, result("postgres-read-tps", 1, "TPS")).word is Word.FALLS_SHORT


def test_arithmetic_outranks_a_simulation_and_a_measurement_both() -> None:
    """A nightly backup cannot keep the RPO; a drill that measured another way of backing up can."""
    simulated, measured = (result("rpo-min", 1, "min", kind) for kind in ("simulated", "measured"))
    against = verdict("e3-rpo-min", simulated)
    assert against.word is Word.CONTRADICTED
    assert "Simulated 1 min" in against.sentence
    drilled = verdict("e3-rpo-min", simulated, measured)
    assert drilled.word is Word.BETTER
    assert "98.96 %" in drilled.sentence


def test_other_devices_and_other_units_do_not_judge() -> None:
    """A figure about the RTX 5090 is not reached by an H100; nor is one in tok/s by requests/s."""
    elsewhere = result("throughput-mix-tok-s", 3000, "tok/s", device="NVIDIA H100")
    one = verdict("b1-card-tok-s", elsewhere)
    assert one.word is Word.NOT_MEASURED
    assert "on NVIDIA H100, 2026-11-01 does not count: the figure is about RTX 5090" in one.sentence
    other = verdict("b1-card-tok-s", result("throughput-mix-tok-s", 3000, "requests/s"))
    assert other.word is Word.NOT_MEASURED
    assert "the figure is in 'tok/s'" in other.sentence


def test_a_computed_result_does_not_judge() -> None:
    """What a benchmark derived is no measurement, though it may stand in the same file."""
    one = verdict("e1-read-tps", result("postgres-read-tps", 7000, "TPS", "computed"))
    assert one.word is Word.NOT_MEASURED
    assert "Computed 7,000 TPS" in one.sentence
    assert "does not count: it was not measured" in one.sentence


@pytest.mark.parametrize(
    ("usd", "word", "said"),
    [
        (150, Word.BETTER, "it is better than 200-500 USD/month"),
        (400, Word.HOLDS, "200-500 USD/month holds"),
        (900, Word.CONTRADICTED, "it contradicts 200-500 USD/month"),
    ],
)
def test_a_models_computation_judges_what_nobody_can_measure(usd: float, word: Word, said: str) -> None:
    """A month's bill; the verdict is computed, and says of what and when."""
    one = verdict(
        "a-hybrid-usd", result("hybrid-month-usd", usd, "USD/month", "computed", device="cost model")
    )
    assert one.word is word
    assert f"Computed {usd} USD/month on cost model, 2026-11-01: {said}." in one.sentence
    assert one.number is not None
    assert one.number.provenance.value == "computed"
    assert verdict("a-hybrid-usd").word is Word.NOT_MEASURED


def test_arithmetic_outranks_a_models_computation_and_a_measured_bill_both() -> None:
    """§F3's own row is over the goal, whatever a model says; an invoice is not argued with."""
    computed = result("goal-month-usd", 300, "USD/month", "computed", day=9)
    against = verdict("goal-monthly-usd", computed)
    assert against.word is Word.CONTRADICTED
    assert "Computed 300 USD/month" in against.sentence
    assert (
        verdict("goal-monthly-usd", computed, result("goal-month-usd", 450, "USD/month")).word is Word.HOLDS
    )


def test_settings_prices_and_keys_without_result_are_not_measured() -> None:
    """And the sentence says which of them it is."""
    for estimate_id, said in (
        ("d1-port", "A setting: nothing to measure."),
        ("c2-pro-usd", "A price: the cost model's to check."),
        ("e1-read-tps", "No result for 'postgres-read-tps' yet: `dreamseed bench --suite db` gives one."),
    ):
        one = verdict(estimate_id)
        assert (one.word, one.sentence, one.number) == (Word.NOT_MEASURED, said, None)


def test_what_agrees_by_arithmetic_holds_unless_it_is_to_be_measured() -> None:
    """A product of two estimates does not prove the throughput it is made of."""
    assert verdict("b1-answers-per-min").word is Word.HOLDS
    assert verdict("b1-farm-tok-s").word is Word.NOT_MEASURED
    assert verdict("b1-7b-tok-s").word is Word.NOT_MEASURED


def test_a_rule_without_its_figures_says_what_it_lacks() -> None:
    """It neither holds nor is contradicted."""
    book = with_value("f2-saving-usd", 0)
    one = verdict("f2-payback-months", book=book)
    assert one.word is Word.NOT_MEASURED
    assert one.sentence == "It cannot be computed: rule 'payback' divides by a figure that is zero."


def test_every_figure_gets_a_verdict_with_a_sentence() -> None:
    """In the file's order."""
    verdicts = judge_all(BOOK, Results())
    assert [one.estimate.id for one in verdicts] == [one.id for one in BOOK]
    assert all(one.sentence.endswith(".") for one in verdicts)


def _estimate(better: str, low: float, high: float) -> Estimate:
    given = {"id": "x", "section": "A", "quantity": "q", "unit": "", "check": "setting"}
    return Estimate.model_validate({**given, "value": (low, high), "better": better})


@pytest.mark.parametrize(
    ("better", "value", "word"),
    [
        ("higher", 9, Word.FALLS_SHORT),
        ("higher", 10, Word.HOLDS),
        ("higher", 21, Word.HOLDS),
        ("higher", 22, Word.BETTER),
        ("lower", 9, Word.BETTER),
        ("lower", 9.6, Word.HOLDS),
        ("lower", 20, Word.HOLDS),
        ("lower", 20.1, Word.FALLS_SHORT),
        ("equal", 9.6, Word.HOLDS),
        ("equal", 9, Word.FALLS_SHORT),
        ("equal", 22, Word.FALLS_SHORT),
    ],
)
def test_a_limit_is_strict_and_better_takes_five_percent(better: str, value: float, word: Word) -> None:
    """A limit missed by a little is missed."""
    assert compare(_estimate(better, 10, 20), value) is word


@given(st.floats(0.1, 1e6), st.floats(0.1, 1e6), st.floats(0.01, 100))
def test_a_comparison_does_not_depend_on_the_unit(limit: float, value: float, factor: float) -> None:
    """Scaling figure and result alike leaves the verdict, away from the very edges."""
    if min(abs(value / limit - edge) for edge in (1, 1.05, 0.95)) < 1e-6:
        return
    for better in ("higher", "lower", "equal"):
        first = compare(_estimate(better, limit, limit), value)
        assert compare(_estimate(better, limit * factor, limit * factor), value * factor) is first
