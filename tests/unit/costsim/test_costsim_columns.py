"""Many draws at once give what each gives by itself, to the last digit."""

from collections.abc import Iterator
from decimal import Decimal
from functools import partial

import numpy as np
import pytest
from cost_bills import monthly_bill

from dreamseed_cli.core.errors import UsageError
from dreamseed_cli.costsim.billing.bill import Bill
from dreamseed_cli.costsim.billing.choices import Choices
from dreamseed_cli.costsim.billing.monthly import bill_of
from dreamseed_cli.costsim.decisions.architecture_bills import Database, full_cloud_bill
from dreamseed_cli.costsim.decisions.ranges import Range, Ranges, shipped_ranges
from dreamseed_cli.costsim.decisions.sampling import Costing, Draws, sample, with_value
from dreamseed_cli.costsim.decisions.uncertainty import draw_bills
from dreamseed_cli.costsim.money import decimal
from dreamseed_cli.costsim.prices.load import load_book
from dreamseed_cli.costsim.prices.schema import PriceBook
from dreamseed_cli.costsim.scenario import Scenario, draw_of, in_columns
from dreamseed_cli.costsim.usage.month import month_of
from dreamseed_cli.plan.tables import shipped

_BOOK = load_book()
_USUAL: Costing = partial(monthly_bill, explain=False)
_SMALL, _LARGE = Scenario(1_000, 100, gpus=1), Scenario(1_000_000, 10_000, gpus=5)
_KOREAN = Choices("kr-residential-low", 8, cloudflare="free", store="r2", cloud_run_tier=2)
_ODD = {
    "hours": (600, 730),
    "surge": (0.5, 3),
    "surge_days": (0, 9),
    "peak_to_average": (0.2, 6),
    "plain_request_s": (0, 3),
    "gpus": (0, 3),
    "card_sequences": (1, 64),
    "min_instances": (0, 2),
    "max_instances": (2, 9),
    "instance_vcpus": (1, 4),
    "users": (100_000, 9_000_000),
}
"""Seasons, boxes without a card, refused requests and idle instances, in some draws and not in others."""
_ODD_PRICES = ("kr-residential-low", "krw-per-usd", "r2-class-b", "cloud-run-cpu-tier2", "egress", "cloud-l4")


def _odd_ranges() -> Ranges:
    made = partial(Range, shape="uniform", why="a test", source="assumption")
    return Ranges(
        scenario={name: made(low=low, high=high) for name, (low, high) in _ODD.items()},
        price={name: made(low=0.5, high=1.5, times_base=True) for name in _ODD_PRICES},
    )


def _korean(scenario: Scenario, book: PriceBook) -> Bill:
    return bill_of(month_of(scenario), book, _KOREAN, explain=False)


def _cloud(scenario: Scenario, book: PriceBook) -> Bill:
    hybrid = monthly_bill(scenario, book, explain=False)
    return full_cloud_bill(hybrid, scenario, book, shipped().cards, "rtx5090", Database(16, 32))


def _one_by_one(scenario: Scenario, draws: Draws, ranges: Ranges) -> Iterator[tuple[Scenario, PriceBook]]:
    """Every draw's own scenario and book."""
    for row in draws.values.tolist():
        one, amounts = scenario, {}
        for (name, stated), value in zip(ranges, row, strict=True):
            if name in draws.prices:
                amounts[name] = _BOOK.amount(name) * Decimal(f"{value:.6f}")
            else:
                one = with_value(one, name, value, times_base=stated.times_base)
        yield one, _BOOK.with_amounts(amounts)


@pytest.mark.parametrize(
    ("scenario", "ranges", "cost"),
    [
        (_SMALL, shipped_ranges(), _USUAL),
        (_LARGE, shipped_ranges(), _USUAL),
        (_LARGE, shipped_ranges(), _cloud),
        (_LARGE, _odd_ranges(), _korean),
        (_LARGE, _odd_ranges(), _cloud),
    ],
)
def test_a_drawn_bill_is_the_draws_own(scenario: Scenario, ranges: Ranges, cost: Costing) -> None:
    """Every line and the total, exactly, over more draws than are computed at a time."""
    draws = sample(ranges, count=300, seed=5)
    (drawn,) = draw_bills([scenario], _BOOK, draws, cost)
    for number, (one, book) in enumerate(_one_by_one(scenario, draws, ranges)):
        bill = cost(one, book)
        assert drawn.totals[number] == bill.usd
        assert {key: amounts[number] for key, amounts in drawn.lines.items()} == {
            line.key: line.usd for line in bill.lines
        }


def test_the_odd_draws_are_of_all_kinds() -> None:
    """Else the comparison above would not compare what it should."""
    ranges = _odd_ranges()
    draws = sample(ranges, count=300, seed=5)
    months = [month_of(one) for one, _ in _one_by_one(_LARGE, draws, ranges)]
    for kinds in (
        {len(month.traffic.rps) for month in months},
        {month.box.answers > 0 for month in months},
        {month.cloud_run.refused_requests > 0 for month in months},
        {month.cloud_run.idle_s > 0 for month in months},
    ):
        assert len(kinds) == 2


def test_a_column_of_quantities_becomes_decimals_as_each_is_written() -> None:
    """Large, tiny and whole ones, too; one decimal if all are alike."""
    given = [0.1, 1e22, 1.5e-9, 3.0, 1 / 3, 123456789.123456789]
    assert list(decimal(np.array(given))) == [decimal(one) for one in given]  # type: ignore[call-overload]
    assert decimal(np.full(3, 0.1)) == Decimal("0.1")


@pytest.mark.parametrize("wrong", [-1.0, float("nan"), float("inf")])
def test_a_column_with_one_wrong_quantity_is_refused(wrong: float) -> None:
    """As a single one is."""
    with pytest.raises(UsageError, match="not a quantity") as caught:
        _BOOK.usd("egress", np.array([1.0, wrong, 2.0]))  # type: ignore[arg-type]
    assert caught.value.place == "egress"


def test_a_scenario_in_columns_is_checked_draw_by_draw() -> None:
    """A field out of its bounds, and fields that do not go together, are told with that draw's figures."""
    for name, values, cause in (
        ("ai_share", [0.1, 1.5], "1.5 is not a share"),
        ("ai_share", [0.1, 0.75], "these 75.0%"),
        ("concurrent", [1, 1_500], "1,500 users at once are more than the 1,000"),
    ):
        with pytest.raises(UsageError, match=cause) as caught:
            in_columns(_SMALL, {name: np.array(values)}, 2)
        assert caught.value.place == name


def test_one_draw_of_columns_is_a_scenario() -> None:
    """Of Python's own numbers, the others as they were."""
    columns = in_columns(_SMALL, {"gpus": np.array([1, 2])}, 2)
    assert draw_of(columns, 0) == _SMALL
    assert draw_of(columns, 1).gpus == 2
