"""Ranges, draws and bands: stated as data, seeded, exact in money."""

from decimal import Decimal
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from cost_bills import monthly_bill
from hypothesis import given, settings
from hypothesis import strategies as st

from dreamseed_cli.core.errors import ErrorGroup, UsageError
from dreamseed_cli.costsim.billing.bill import Bill, Line
from dreamseed_cli.costsim.decisions.bands import band, months_band
from dreamseed_cli.costsim.decisions.ranges import Range, Ranges, load_ranges, shipped_ranges
from dreamseed_cli.costsim.decisions.sampling import sample, with_value, worlds
from dreamseed_cli.costsim.decisions.sensitivity import rank_correlation, tornado
from dreamseed_cli.costsim.decisions.uncertainty import DrawnBills, draw_bills, drawn_return, uncertainty
from dreamseed_cli.costsim.money import decimal
from dreamseed_cli.costsim.prices.load import load_book
from dreamseed_cli.costsim.prices.schema import PriceBook
from dreamseed_cli.costsim.scenario import Scenario, draw_of

_SCENARIO = Scenario(users=10_000, concurrent=500)
_BOOK = load_book()
_COST = partial(monthly_bill, explain=False)


def _uniform(low: float, high: float, *, times_base: bool = False) -> Range:
    return Range(
        shape="uniform", low=low, high=high, times_base=times_base, why="a test", source="assumption"
    )


def _decimals(*values: int | None) -> list[Decimal | None]:
    return [None if value is None else Decimal(value) for value in values]


def _linear(scenario: Scenario, book: PriceBook) -> Bill:
    """1 dollar for each token of an answer and 10 for each of a prompt, and a month of a fixed IP."""
    answer, prompt = decimal(scenario.answer_tokens), decimal(scenario.prompt_tokens) * 10
    return Bill(
        (
            Line("answers", "", answer, ""),
            Line("prompts", "", prompt, ""),
            Line("fixed-ip", "", book.usd("fixed-ip", 1), ""),
        )
    )


def test_the_shipped_ranges_fit_every_row_of_the_table() -> None:
    """No draw makes an impossible scenario, and every price is in the book."""
    rows = [(1_000, 100), (1_000_000, 10_000)]
    scenarios = [Scenario(users=users, concurrent=online) for users, online in rows]
    bills = draw_bills(scenarios, _BOOK, sample(shipped_ranges(), count=60, seed=3), _COST)
    for scenario, drawn in zip(scenarios, bills, strict=True):
        assert min(drawn.totals) > 0
        assert set(drawn.lines) == {line.key for line in monthly_bill(scenario, _BOOK).lines}


def test_the_lines_of_each_draw_add_up_to_its_total() -> None:
    """Exactly: money is decimal."""
    (drawn,) = draw_bills([_SCENARIO], _BOOK, sample(shipped_ranges(), count=20), _COST)
    for number, total in enumerate(drawn.totals):
        assert sum(amounts[number] for amounts in drawn.lines.values()) == total


def test_the_same_seed_gives_the_same_draws_and_another_one_others() -> None:
    """Reproducible."""
    one, same, other = (sample(shipped_ranges(), count=50, seed=seed) for seed in (7, 7, 8))
    assert np.array_equal(one.values, same.values)
    assert not np.array_equal(one.values, other.values)


def test_a_further_range_leaves_the_draws_of_the_others() -> None:
    """Each input has its own stream."""
    few = Ranges(scenario={"answer_tokens": _uniform(100, 300)})
    more = Ranges(scenario={"prompt_tokens": _uniform(1, 9), "answer_tokens": _uniform(100, 300)})
    assert np.array_equal(sample(few, count=9).values[:, 0], sample(more, count=9).values[:, 1])


def test_what_a_user_has_set_does_not_vary() -> None:
    """Known inputs drop out; the rest stays."""
    left = shipped_ranges().without({"ai_share", "egress"})
    assert {name for name, _ in shipped_ranges()} - {name for name, _ in left} == {"ai_share", "egress"}


def test_distributions_are_what_they_say() -> None:
    """A lognormal range has its low and high as p5 and p95; a triangular one its mean at (a + c + b) / 3."""
    ranges = Ranges(
        scenario={
            "answer_tokens": Range(shape="lognormal", low=100, high=400, why="x", source="x"),
            "prompt_tokens": Range(shape="triangular", low=0, mode=3, high=9, why="x", source="x"),
        }
    )
    values = sample(ranges, count=20_000, seed=1).values
    assert np.quantile(values[:, 0], [0.05, 0.5, 0.95]) == pytest.approx([100, 200, 400], rel=0.03)
    assert values[:, 1].mean() == pytest.approx(4, rel=0.03)


def test_a_drawn_price_multiplies_the_books() -> None:
    """The fixed IP's 10 dollars, halved to doubled."""
    ranges = Ranges(price={"fixed-ip": _uniform(0.5, 2, times_base=True)})
    (drawn,) = draw_bills([_SCENARIO], _BOOK, sample(ranges, count=200), _linear)
    assert all(5 <= amount <= 20 for amount in drawn.lines["fixed-ip"])
    assert len(set(drawn.lines["fixed-ip"])) > 150


def test_draws_stay_within_what_makes_sense() -> None:
    """Half of all requests are cached questions: AI requests can be the other half at most."""
    ranges = Ranges(scenario={"ai_share": _uniform(0.5, 3, times_base=True)})
    base = Scenario(users=100, concurrent=10, ai_share=0.45)
    ((_, (drawn,)),) = worlds([base], _BOOK, sample(ranges, count=50))
    assert np.max(drawn.ai_share) == 0.5
    assert np.min(drawn.ai_share) >= 0.225


def test_whole_fields_stay_whole() -> None:
    """There is no half a card."""
    ranges = Ranges(scenario={"gpus": _uniform(1, 5)})
    ((_, (drawn,)),) = worlds([_SCENARIO], _BOOK, sample(ranges, count=50))
    assert {draw_of(drawn, number).gpus for number in range(50)} == {1, 2, 3, 4, 5}
    assert isinstance(draw_of(drawn, 0).gpus, int)
    assert with_value(_SCENARIO, "gpus", 2.6, times_base=False).gpus == 3


def test_without_ranges_every_draw_is_the_bill_itself() -> None:
    """Nothing varies."""
    (drawn,) = draw_bills([_SCENARIO], _BOOK, sample(Ranges(), count=3), _COST)
    assert set(drawn.totals) == {monthly_bill(_SCENARIO, _BOOK).usd}


def test_a_key_that_stands_twice_in_a_bill_is_one_line() -> None:
    """Of 2 dollars and a dollar for each card."""

    def cost(scenario: Scenario, _: PriceBook) -> Bill:
        return Bill((Line("a", "", Decimal(2), ""), Line("a", "", decimal(scenario.gpus), "")))

    ranges = Ranges(scenario={"gpus": _uniform(1, 6)})
    (drawn,) = draw_bills([_SCENARIO], _BOOK, sample(ranges, count=30), cost)
    assert set(drawn.lines["a"]) == {3, 4, 5, 6, 7, 8}
    assert drawn.totals == drawn.lines["a"]


def test_a_draw_that_makes_an_impossible_scenario_is_refused() -> None:
    """At its field, with that draw's own figures: more instances at least than at most."""
    ranges = Ranges(scenario={"min_instances": _uniform(9, 13)})
    with pytest.raises(UsageError, match=r"1[123] is more than max_instances, 10") as caught:
        draw_bills([_SCENARIO], _BOOK, sample(ranges, count=50), _COST)
    assert caught.value.place == "min_instances"


@settings(max_examples=50)
@given(st.lists(st.decimals(min_value=0, max_value=10**6, places=2), min_size=1, max_size=60))
def test_quantiles_are_ordered_and_are_draws(amounts: list[Decimal]) -> None:
    """p5 <= p50 <= p95, each one of the amounts."""
    found = band(amounts)
    assert found.p5 <= found.p50 <= found.p95
    assert {found.p5, found.p50, found.p95} <= set(amounts)


def test_quantiles_by_hand() -> None:
    """Of 1 to 100: the 5th, the 50th and the 95th."""
    found = band([Decimal(one) for one in range(100, 0, -1)])
    assert [found.p5, found.p50, found.p95] == _decimals(5, 50, 95)


def test_never_is_later_than_any_month() -> None:
    """Of ten draws three never pay back: the median is a month, p95 is never."""
    found = months_band([Decimal(one) for one in range(1, 8)] + [None] * 3)
    assert [found.p5, found.p50, found.p95] == _decimals(1, 5, None)
    assert found.never_share == 0.3


def test_bands_of_the_total_and_of_every_line() -> None:
    """A line that does not vary has no width."""
    ranges = Ranges(scenario={"answer_tokens": _uniform(100, 300)})
    (drawn,) = draw_bills([_SCENARIO], _BOOK, sample(ranges, count=400), _linear)
    found = uncertainty(drawn)
    assert found.draws == 400
    assert found.lines["prompts"].p5 == found.lines["prompts"].p95 == 3000
    assert found.total.p50 == found.lines["answers"].p50 + 3000 + 10
    assert found.total.p5 < 3130 < found.total.p50 < 3290 < found.total.p95


def test_the_return_of_every_draw() -> None:
    """1,000 to save 100, 50 or nothing: 10 months, 20 or never; 2,000 of funds last 5, 4 and 3.3 months."""
    bills = DrawnBills(tuple(map(Decimal, (200, 250, 300))), {})
    cloud = DrawnBills((Decimal(300),) * 3, {})
    found = drawn_return(bills, cloud, [Decimal(1000)] * 3, funds=Decimal(2000))
    assert [found.payback.p5, found.payback.p50, found.payback.p95] == _decimals(10, 20, None)
    assert [found.runway.p50, found.runway.p95] == _decimals(4, 5)
    assert found.runway_alternative.p5 == found.runway_alternative.p95 == Decimal(2000) / 300


def test_the_tornado_is_worked_by_hand() -> None:
    """A prompt's token costs ten times an answer's: 299 to 301 of them swing 20, 190 to 209 of these 19."""
    ranges = Ranges(
        scenario={"answer_tokens": _uniform(190, 209), "prompt_tokens": _uniform(299, 301)},
        price={"fixed-ip": _uniform(0.9, 1.5, times_base=True)},
    )
    bars = tornado(_SCENARIO, _BOOK, ranges, _linear)
    assert [bar.name for bar in bars] == ["prompt_tokens", "answer_tokens", "fixed-ip"]
    assert [bar.swing for bar in bars] == _decimals(20, 19, 6)
    assert [bars[0].usd_low, bars[0].usd_high] == _decimals(3200, 3220)


def test_rank_correlation_orders_the_inputs_and_knows_their_sign() -> None:
    """What alone moves the bill correlates fully, what lowers it negatively, what does not move it hardly."""

    def cost(scenario: Scenario, _: PriceBook) -> Bill:
        return Bill((Line("x", "", decimal(scenario.prompt_tokens**-3), ""),))

    ranges = Ranges(scenario={"answer_tokens": _uniform(1, 2), "prompt_tokens": _uniform(1, 9)})
    draws = sample(ranges, count=500)
    (bills,) = draw_bills([_SCENARIO], _BOOK, draws, cost)
    found = rank_correlation(draws, bills)
    assert list(found) == ["prompt_tokens", "answer_tokens"]
    assert found["prompt_tokens"] == pytest.approx(-1)
    assert abs(found["answer_tokens"]) < 0.15


def test_a_bill_that_does_not_move_correlates_with_nothing() -> None:
    """0, not a division by zero."""
    draws = sample(Ranges(scenario={"answer_tokens": _uniform(1, 2)}), count=5)
    bills = DrawnBills((Decimal(1),) * 5, {})
    assert rank_correlation(draws, bills) == {"answer_tokens": 0.0}


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ('[scenario.cards]\nshape = "uniform"\nlow = 1\nhigh = 2', "no cards"),
        ('[scenario.ai_share]\nshape = "lognormal"\nlow = 0.1\nhigh = 0.2', "bound"),
        ('[scenario.gpus]\nshape = "uniform"\nlow = 2\nhigh = 1', "low must be below high"),
        ('[scenario.gpus]\nshape = "triangular"\nlow = 1\nhigh = 2', "mode"),
        ('[scenario.gpus]\nshape = "triangular"\nlow = 1\nmode = 3\nhigh = 2', "outside"),
        ('[scenario.answer_tokens]\nshape = "lognormal"\nlow = 0\nhigh = 2', "above 0"),
        ('[price.domain]\nshape = "uniform"\nlow = 1\nhigh = 2', "times_base"),
    ],
)
def test_a_file_of_ranges_that_makes_no_sense_is_refused(tmp_path: Path, text: str, cause: str) -> None:
    """With the file's path and the cause."""
    path = tmp_path / "ranges.toml"
    path.write_text(f'{text}\nwhy = "x"\nsource = "y"\n', encoding="utf-8")
    with pytest.raises(ErrorGroup) as error:
        load_ranges(path)
    assert cause in str(error.value)
    assert "ranges.toml" in str(error.value)


def test_an_unknown_price_is_an_error() -> None:
    """At its name."""
    ranges = Ranges(price={"gold": _uniform(1, 2, times_base=True)})
    with pytest.raises(UsageError, match="gold"):
        draw_bills([_SCENARIO], _BOOK, sample(ranges, count=1), _COST)


def test_break_even_is_at_the_end_of_a_whole_month() -> None:
    """Paid back after 4.2 months one is even at the end of the fifth; after five just then; or never."""
    found = months_band([Decimal("4.2"), Decimal(5), None]).whole
    assert (found.p5, found.p50) == (Decimal(5), Decimal(5))
    assert found.p95 is None
    assert found.never_share == pytest.approx(1 / 3)
