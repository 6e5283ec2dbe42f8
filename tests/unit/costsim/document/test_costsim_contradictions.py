"""Contradictions 1, 5, 6, 8 and 9 come out of the figures and the prices, and change with them."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import pytest

from dreamseed_cli.core.errors import UsageError
from dreamseed_cli.costsim.document.contradictions import Verdict, contradictions
from dreamseed_cli.costsim.prices.load import load_book as load_prices
from dreamseed_cli.estimates.load import load_book as load_figures
from dreamseed_cli.estimates.schema import Book

_FIGURES = load_figures()
_PRICES = load_prices("document")


def _with(changes: Mapping[str, Mapping[str, Any]]) -> Book:
    """The shipped figures with some changed: by id, the parts to replace; fields are added."""
    changed = []
    for one in _FIGURES:
        update = dict(changes.get(one.id, {}))
        if "fields" in update:
            update["fields"] = {**one.fields, **update["fields"]}
        changed.append(one.model_copy(update=update))
    return Book(estimate=tuple(changed))


def _verdicts(figures: Book = _FIGURES, **prices: str) -> dict[int, Verdict]:
    amounts = {name.replace("_", "-"): Decimal(amount) for name, amount in prices.items()}
    return {one.number: one for one in contradictions(figures, _PRICES.with_amounts(amounts))}


def test_none_of_the_five_holds() -> None:
    """As the document stands."""
    found = _verdicts()
    assert list(found) == [1, 5, 6, 8, 9]
    assert not any(one.holds for one in found.values())
    assert found[9].to_data()["figures"]["paid"]["provenance"] == "computed"


def test_1_cloud_run() -> None:
    """bills/f3.md: $6.20, not $58; 2,592 million requests are $16,070 unshared, $1,487.81 by request."""
    found = _verdicts()[1]
    assert found.figures["c1-month"].value == pytest.approx(6.20)
    assert found.figures["requests"].value == 2_592_000_000
    assert found.figures["unshared-month"].value == pytest.approx(16070.40)
    assert found.figures["request-based-month"].value == pytest.approx(1487.808)
    assert "239.5 at a time" in found.sentence
    assert "on 3 of 10 instances are $1,487.81" in found.sentence
    right = _with({"c1-total-usd": {"value": 6.2}, "f3-1m": {"fields": {"cloud_run_usd": 337}}})
    assert _verdicts(right)[1].holds
    assert not _verdicts(right, cloud_run_cpu="0.00005")[1].holds


def test_1_tells_of_requests_that_find_no_place() -> None:
    """Two instances of 100 have no place for 239.5 at a time: 16.5 % are refused."""
    few = _verdicts(_with({"c1-instances": {"value": 2.0}}))[1]
    assert few.figures["refused"].value == pytest.approx(2_592_000_000 * (1 - 200 / 239.5))
    assert "requests refused" in few.sentence


def test_5_concurrency() -> None:
    """450 at a time take 60 s each; three cards with batches of 8 answer 24 at a time within 3.2 s."""
    found = _verdicts()[5]
    assert found.figures["answer-if-all-at-once"].value == pytest.approx(60)
    assert found.figures["speed-if-all-at-once"].value == pytest.approx(10 / 3)
    assert found.figures["at-a-time"].value == 24
    assert found.figures["answer"].value == pytest.approx(3.2)
    assert _verdicts(_with({"b1-concurrent-ai-users": {"value": 200.0}}))[5].holds


def test_6_goal() -> None:
    """45 generations/s against 12.5: 18 cards, or a cache that answers 72.2 %; and $710 is over $500."""
    found = _verdicts()[6]
    assert found.figures["generations"].value == pytest.approx(45)
    assert found.figures["cards-answer"].value == pytest.approx(12.5)
    assert found.figures["cards-needed"].value == 18
    assert found.figures["cache-hit-needed"].value == pytest.approx(72.22, abs=0.01)
    rich: dict[str, Any] = {
        "goal-monthly-usd": {"value": (200.0, 1000.0)},
        "f3-1m": {"fields": {"cards": 18}},
    }
    assert _verdicts(_with(rich))[6].holds
    # The goal would hold by the document's figures; by the bill of the model it does not.
    assert not _verdicts(_with(rich), egress="1.2")[6].holds


def test_8_power() -> None:
    """2,005 W from the PSU, 2,253 W from the wall: $194.64 of full load, $17.47 of idling (test_power.py)."""
    found = _verdicts()[8]
    assert found.figures["full-load"].value == 2005
    assert found.figures["full-month"].value == pytest.approx(194.64, abs=0.01)
    assert found.figures["idle-month"].value == pytest.approx(17.47, abs=0.01)
    assert 17.47 < found.figures["typical-month"].value < 194.64
    dearer = _verdicts(electricity_flat="0.24")[8]
    assert dearer.figures["full-month"].value == pytest.approx(2 * found.figures["full-month"].value)
    supplies = {name: {"value": 2500.0} for name in ("b2-psu-w", "f2-ups-w", "h3-ups-w")}
    fixed = {**supplies, "b2-full-load-w": {"value": 2005.0}, "b2-server-usd": {"value": 12200.0}}
    assert _verdicts(_with(fixed))[8].holds


def test_9_runway() -> None:
    """(20,000 - 12,200) / 280 = 27.86 months, not 71; dearer cards leave fewer, or none."""
    found = _verdicts()[9]
    assert found.figures["paid"].value == pytest.approx(27.857, abs=0.001)
    assert found.figures["unpaid"].value == pytest.approx(71.43, abs=0.01)
    assert found.figures["full-cloud"].value == pytest.approx(13.33, abs=0.01)
    assert _verdicts(_with({"j2-hybrid-months": {"value": 28.0}}))[9].holds
    assert _verdicts(rtx5090="3500")[9].figures["paid"].value == pytest.approx(3300 / 280)
    assert _verdicts(rtx5090="5000")[9].figures["paid"].value == 0


def test_a_missing_figure_is_told() -> None:
    """The file of estimates is the user's to edit."""
    lost = tuple(one for one in _FIGURES if one.id != "d1-client-timeout-s")
    with pytest.raises(UsageError, match="the file has no 'd1-client-timeout-s'"):
        contradictions(Book.model_construct(estimate=lost), _PRICES)
