"""The answer on the terminal."""

from __future__ import annotations

import io
from dataclasses import replace
from decimal import Decimal

import pytest
from cost_answers import QUICK, TODAY, asked, dollars, whole_answer
from rich.console import Console

from dreamseed_cli.costsim.money import Currency
from dreamseed_cli.costsim.report.terminal import study_view, sweep_view
from dreamseed_cli.costsim.report.words import Money, months, percent, seconds
from dreamseed_cli.costsim.study import study


def _shown(money: Money, width: int = 80) -> str:
    answer = whole_answer()
    assert answer.study is not None
    stream = io.StringIO()
    console = Console(file=stream, width=width)
    for part in (*study_view(answer.study, money), *sweep_view(answer.rows, money)):
        console.print(part)
    return stream.getvalue()


def test_every_part_is_there_and_says_how_it_came() -> None:
    """From the verdict to the contradictions; computed and simulated are told apart."""
    text = " ".join(_shown(dollars()).split())
    for part in (
        "A month costs",
        "The bill (computed)",
        "How each line comes about",
        "What moves the bill most",
        "The busiest hour (simulated",
        "counted after its warm-up:",
        "Does it pay",
        "The three architectures",
        "When the next card is due",
        "Beyond one box",
        "The cheapest that keeps the SLO (simulated)",
        "contradictions",
        "§F3's table beside ours",
    ):
        assert part in text


@pytest.mark.parametrize("currency", list(Currency))
def test_it_fits_80_columns(currency: Currency) -> None:
    """No line is longer, no cell is cut short."""
    text = _shown(Money(currency, Decimal(1473)))
    assert max(len(line) for line in text.splitlines()) <= 80
    assert "…" not in text


def test_without_a_simulation_the_averages_speak() -> None:
    """What cannot hold is told from the closed form, and called computed."""
    quiet = replace(QUICK, hours=0)
    slow = study(asked(1_000_000, "card_tok_s=10"), quiet, today=TODAY)
    fine = study(asked(1000), quiet, today=TODAY)
    stream = io.StringIO()
    for one in (slow, fine):
        for part in study_view(one, dollars()):
            Console(file=stream, width=100).print(part)
    text = " ".join(stream.getvalue().split())
    assert "It cannot hold (computed)" in text
    assert "Nothing was simulated" in text
    assert "(simulated" not in text


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (percent(0.9999), "99.9 %"),
        (percent(1.0), "100 %"),
        (months(None), "never"),
        (seconds({"p50": 0.118}, "p50"), "118 ms"),
        (seconds({"p50": 2.472}, "p50"), "2.47 s"),
        (seconds({}, "p99"), "-"),
        (dollars().whole(Decimal("0.5")), "$1"),
        (dollars().span(50, 150), "$50-150"),
        (Money(Currency.KRW, Decimal(1473)).whole(Decimal("0.5")), "₩737"),
        (Money(Currency.KRW, Decimal(1473))(None), "-"),
    ],
)
def test_words(found: str, words: str) -> None:
    """Amounts, shares and times as people write them."""
    assert found == words
