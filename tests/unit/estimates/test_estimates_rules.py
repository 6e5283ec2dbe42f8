"""Each arithmetic rule with numbers worked by hand; a changed figure changes what it finds."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dreamseed_cli.estimates.load import load_book
from dreamseed_cli.estimates.outcome import Outcome, agrees, say
from dreamseed_cli.estimates.rules import apply_rule
from dreamseed_cli.estimates.schema import Book, NotComputable

BOOK = load_book()


def changed(changes: dict[str, Any]) -> Book:
    """The shipped book with other values; `id/field` changes a field of a row."""
    estimates = []
    for one in BOOK:
        fields = {
            **one.fields,
            **{k.split("/")[1]: v for k, v in changes.items() if k.startswith(f"{one.id}/")},
        }
        value = changes.get(one.id, one.value)
        estimates.append(one.model_copy(update={"value": value, "fields": fields}))
    return BOOK.model_copy(update={"estimate": tuple(estimates)})


def found(rule: str, estimate_id: str, changes: dict[str, Any] | None = None) -> Outcome:
    """What a rule finds for a figure, in the shipped book with changes."""
    book = changed(changes or {})
    return apply_rule(rule, book, book.get(estimate_id))


@pytest.mark.parametrize(
    ("rule", "estimate_id", "consistent", "computed"),
    [
        ("cloud-run-vcpu", "c1-vcpu-usd", False, 4.8),
        ("cloud-run-memory", "c1-memory-usd", False, 1.0),
        ("cloud-run-total", "c1-total-usd", False, 6.2),
        ("storage-cost", "c3-storage-usd", True, 5),
        ("download-cost", "c3-download-usd", True, 1),
        ("storage-total", "c3-total-usd", True, 6),
        ("domain", "f1-domain-usd", True, 2),
        ("monthly-total", "f1-total-usd", True, 280),
        ("monthly-average", "f1-average-usd", True, 280),
        ("cards-price", "f2-cards-usd", True, 6000),
        ("initial-total", "f2-total-usd", True, 12_200),
        ("monthly-saving", "f2-saving-usd", True, 1220),
        ("payback", "f2-payback-months", True, 10),
        ("two-years", "f2-saving-2-years-usd", True, 29_280),
        ("row-total", "f3-1k", False, 120),
        ("row-total", "f3-10k", False, 190),
        ("row-total", "f3-100k", True, 300),
        ("row-total", "f3-500k", True, 480),
        ("row-total", "f3-1m", True, 680),
        ("row-cards", "f3-10k", True, 5),
        ("row-cards", "f3-1m", False, 12.5),
        ("goal-cost", "goal-monthly-usd", False, 710),
        ("agrees", "f3-1m", False, 350),
        ("agrees", "b2-server-usd", False, 12_200),
        ("agrees", "f1-cloud-sql-usd", True, 7.67),
        ("agrees", "j1-on-premises-latency-ms", True, 5),
        ("runway-hybrid", "j2-hybrid-months", False, 7800 / 280),
        ("runway-cloud", "j2-full-cloud-months", True, 20_000 / 1500),
        ("runway-difference", "j2-longer-months", False, 7800 / 280 - 20_000 / 1500),
        ("card-memory", "b1-card-memory-gb", True, 31.84),
        ("single-stream-bound", "i2-single-tok-s", False, 128),
        ("throughput-bound", "b1-7b-tok-s", True, 128),
        ("throughput-bound", "b1-13b-tok-s", True, 1792 / 26),
        ("throughput-bound", "b1-70b-tok-s", False, 35),
        ("throughput-bound", "i2-batch-tok-s", False, 1024),
        ("batch-speedup", "i2-speedup", True, 6),
        ("tensor-parallel", "b3-tensor-parallel", False, 40 / 3),
        ("tensor-parallel", "g-phase1-tensor-parallel", True, 32),
        ("farm-throughput", "b1-farm-tok-s", True, 1500),
        ("farm-answers", "b1-answers-per-s", True, 7.5),
        ("answers-per-minute", "b1-answers-per-min", True, 450),
        ("ai-share", "b1-ai-share-percent", True, 4.5),
        ("little", "b1-concurrent-ai-users", False, 225),
        ("full-load", "b2-full-load-w", False, 2005),
        ("covers-load", "b2-psu-w", False, 2005),
        ("covers-wall", "h3-ups-w", False, 2005 / 0.89),
        ("electricity", "b2-electricity-usd", True, 129.6),
        ("ups-minutes", "h3-ups-min", False, 250 / (2005 / 0.89) * 60),
        ("nightly-backup", "e3-rpo-min", False, 1440),
        ("nightly-backup", "e2-backup-interval-h", False, 24),
    ],
)
def test_the_document_recomputed(rule: str, estimate_id: str, consistent: bool, computed: float) -> None:
    """Every rule on the document's own figures."""
    outcome = found(rule, estimate_id)
    assert outcome.consistent is consistent
    assert outcome.computed == pytest.approx(computed)


def test_a_kv_cache_of_13b_in_float16_is_less_than_one_sequence() -> None:
    """26 GB of weights leave room for some three thousand tokens of 0.82 MB; half the length fits."""
    outcome = found("one-sequence", "b3-max-model-len")
    assert not outcome.consistent
    assert 2000 < outcome.computed < 4096
    assert "0.82 MB" in outcome.sentence
    assert found("one-sequence", "b3-max-model-len", {"b3-max-model-len": 2048}).consistent
    assert found("one-sequence", "b3-max-model-len", {"b3-tensor-parallel": 2}).consistent


@pytest.mark.parametrize(
    ("rule", "estimate_id", "changes"),
    [
        ("cloud-run-vcpu", "c1-vcpu-usd", {"c1-vcpu-usd": 4.80}),
        ("cloud-run-vcpu", "c1-vcpu-usd", {"c1-request-ms": 1000}),
        ("cloud-run-memory", "c1-memory-usd", {"c1-memory-usd": 1}),
        ("cloud-run-total", "c1-total-usd", {"c1-total-usd": 6.2}),
        ("goal-cost", "goal-monthly-usd", {"f3-1m": 500}),
        ("agrees", "f3-1m", {"f3-1m": 500}),
        ("agrees", "b2-server-usd", {"b2-server-usd": 12_200}),
        ("row-cards", "f3-1m", {"f3-1m/cards": 18}),
        ("runway-hybrid", "j2-hybrid-months", {"j2-hybrid-months": 27.9}),
        ("single-stream-bound", "i2-single-tok-s", {"i2-single-tok-s/bits": 8}),
        ("throughput-bound", "b1-70b-tok-s", {"b1-70b-tok-s/parameters_billion": 32}),
        ("throughput-bound", "i2-batch-tok-s", {"i2-batch-tok-s": 1000}),
        ("tensor-parallel", "b3-tensor-parallel", {"b3-tensor-parallel": 2}),
        ("little", "b1-concurrent-ai-users", {"b1-concurrent-ai-users": 225}),
        ("full-load", "b2-full-load-w", {"b2-full-load-w": 2005}),
        ("full-load", "b2-full-load-w", {"b1-cards": 2}),
        ("covers-load", "b2-psu-w", {"b2-psu-w": 2500}),
        ("covers-wall", "h3-ups-w", {"h3-ups-w": 2300}),
        ("ups-minutes", "h3-ups-min", {"h3-ups-w": 2300}),
        ("nightly-backup", "e3-rpo-min", {"e2-backup-interval-h": 0.25}),
        ("nightly-backup", "e3-rpo-min", {"e3-rpo-min": 1440}),
    ],
)
def test_a_changed_figure_is_no_longer_contradicted(
    rule: str, estimate_id: str, changes: dict[str, Any]
) -> None:
    """Contradicted as the document stands, not after the change."""
    assert not found(rule, estimate_id).consistent
    assert found(rule, estimate_id, changes).consistent


def test_a_verdict_about_money_does_not_hang_on_a_float() -> None:
    """5 % over agrees to the last digit: 0.5775 for 6.6 / 12 = 0.55, which floats find too much."""
    domain = {"f1-domain-usd/usd_per_year": 6.6}
    assert 0.5775 > 6.6 / 12 * 1.05
    assert found("domain", "f1-domain-usd", {**domain, "f1-domain-usd": 0.5775}).consistent
    assert not found("domain", "f1-domain-usd", {**domain, "f1-domain-usd": 0.57751}).consistent


def test_sentences_show_the_computation() -> None:
    """With its numbers, as a reader would write it down."""
    assert "200,000 vCPU-s; x $0.000024 = 4.8 USD/month; the document says 48 USD/month, 10 times that" in (
        found("cloud-run-vcpu", "c1-vcpu-usd").sentence
    )
    assert "1 - 15 / 1,440 = 98.96 %" in found("nightly-backup", "e3-rpo-min").sentence
    assert "1,500 / 450 = 3.33 tok/s each" in found("little", "b1-concurrent-ai-users").sentence
    assert "Without the initial cost it were 71.43" in found("runway-hybrid", "j2-hybrid-months").sentence
    assert "at least 5 sequences" in found("throughput-bound", "b1-7b-tok-s").sentence
    assert "unless a cache answers 72.22 %" in found("row-cards", "f3-1m").sentence
    assert "lost never" in found("nightly-backup", "e3-rpo-min", {"e3-rpo-min": 1440}).sentence


@pytest.mark.parametrize(
    ("rule", "estimate_id", "changes", "message"),
    [
        ("payback", "f2-payback-months", {"f2-saving-usd": 0}, "zero"),
        ("tensor-parallel", "b3-tensor-parallel", {"b3-model": "unheard/of"}, "no 'unheard/of'"),
        ("tensor-parallel", "b3-tensor-parallel", {"b3-tensor-parallel": 0}, "no number of cards"),
        ("one-sequence", "b3-max-model-len", {"b3-dtype": "float12"}, "dtype"),
        ("agrees", "b2-full-load-w", {}, "names nothing"),
    ],
)
def test_what_cannot_be_computed_says_why(
    rule: str, estimate_id: str, changes: dict[str, Any], message: str
) -> None:
    """A missing or senseless figure is no verdict."""
    with pytest.raises(NotComputable, match=message):
        found(rule, estimate_id, changes)


@settings(max_examples=50)
@given(st.floats(min_value=0.01, max_value=1000))
def test_cloud_run_scales_with_its_requests(factor: float) -> None:
    """Twice the requests cost twice as much; the figure holds if it is scaled with them, and only then."""
    requests = {"c1-requests-per-month": 1e6 * factor}
    outcome = found("cloud-run-vcpu", "c1-vcpu-usd", {**requests, "c1-vcpu-usd": 4.8 * factor})
    assert outcome.consistent
    assert outcome.computed == pytest.approx(4.8 * factor)
    assert not found("cloud-run-vcpu", "c1-vcpu-usd", {**requests, "c1-vcpu-usd": 48 * factor}).consistent


@settings(max_examples=50)
@given(st.integers(min_value=1, max_value=16), st.floats(min_value=1, max_value=5000))
def test_a_supply_covers_the_load_or_does_not(count: int, watts: float) -> None:
    """Of any number of cards of 575 W, and a processor of 280 W."""
    outcome = found("covers-load", "b2-psu-w", {"b1-cards": count, "b2-psu-w": watts})
    assert outcome.consistent is (watts >= count * 575 + 280)


def test_a_ups_carries_what_the_psu_takes_not_what_it_gives() -> None:
    """2,100 W are more than the 2,005 W of the parts, less than the 2,253 W that `plan` has from the wall."""
    assert found("covers-load", "b2-psu-w", {"b2-psu-w": 2100}).consistent
    assert not found("covers-wall", "h3-ups-w", {"h3-ups-w": 2100}).consistent


def test_numbers_are_said_with_the_digits_they_deserve() -> None:
    """Thousands separated, no trailing zeros, prices not lost."""
    given = [12_200, 129.6, 27.857, 4.8, 0, 0.000024, 0.0000025, -20.0, 1_000_000, 100]
    expected = ["12,200", "129.6", "27.86", "4.8", "0", "0.000024", "0.0000025", "-20", "1,000,000", "100"]
    assert [say(value) for value in given] == expected


def test_ranges_agree_where_they_meet_give_or_take_five_percent() -> None:
    """The document rounds its figures."""
    assert agrees(104, 104, 100)
    assert not agrees(106, 106, 100)
    assert agrees(10, 30, 15)
    assert agrees(1, 2, 2, 9)
    assert not agrees(1, 2, 3, 9)


def test_amounts_of_money_are_compared_as_decimals() -> None:
    """Exactly at the margin; the float of 1.13 and its 5 % are less than that of 1.1865."""
    assert not agrees(1.1865, 1.1865, 1.13)
    assert agrees(Decimal("1.1865"), Decimal("1.1865"), Decimal("1.13"))
    assert not agrees(Decimal("1.18650000000000000001"), Decimal(2), Decimal("1.13"))
