"""Power limits, capacity, the search for the cheapest box, and the next card."""

from dataclasses import dataclass, replace
from decimal import Decimal
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dreamseed_cli.core.errors import UsageError
from dreamseed_cli.costsim.decisions.capacity import cards_needed, needs, overloaded
from dreamseed_cli.costsim.decisions.growth import schedule
from dreamseed_cli.costsim.decisions.optimise import Candidate, Grid, candidates, optimise
from dreamseed_cli.costsim.decisions.power_limit import clock_share, limited
from dreamseed_cli.costsim.scenario import Scenario
from dreamseed_cli.plan.layouts import roofline_engine
from dreamseed_cli.plan.roofline import decode_point
from dreamseed_cli.plan.tables import cards, models
from dreamseed_cli.profile.schema import VllmEngine

_CARD = cards()["rtx5090"]
_ENGINE = VllmEngine(kind="vllm", device="cuda", model="Qwen/Qwen3-8B")
_MILLION = Scenario(users=1_000_000, concurrent=10_000, ai_share=0.045, answer_cache_hit=0.0)


@dataclass(frozen=True)
class _Says:
    holds: bool


def test_the_documents_million_needs_three_times_its_five_cards() -> None:
    """Contradiction 6: 4.5 % of 1,000 RPS x 200 tokens = 9,000 tok/s; 5 cards give 2,500, so 360 %."""
    found = needs(replace(_MILLION, gpus=5))
    assert found.tok_s == pytest.approx(9000)
    assert found.card_share == pytest.approx(3.6)
    assert cards_needed(_MILLION, busy_share=1.0) == 18
    assert cards_needed(_MILLION) == 23


def test_with_the_answer_cache_it_is_six() -> None:
    """§I1's 70 % leave 2,700 tok/s: 5.4 cards, and 6.75 with air for the queue."""
    cached = replace(_MILLION, answer_cache_hit=0.7)
    assert cards_needed(cached, busy_share=1.0) == 6
    assert cards_needed(cached) == 7


def test_what_cannot_hold_says_why() -> None:
    """Cards, instances, power supply; and nothing where it may."""
    assert "360% of the cards' time" in str(overloaded(replace(_MILLION, gpus=5)))
    ample = replace(_MILLION, gpus=25, max_instances=1, container_concurrency=10)
    assert "instances' places" in str(overloaded(ample))
    small = Scenario(users=1000, concurrent=100)
    assert "2,005 W, more than 80% of the PSU's 2,000 W" in str(overloaded(small, psu_w=2000))
    assert overloaded(small, psu_w=2600) is None
    assert "inf" in str(overloaded(replace(small, gpus=0)))


def test_nobody_needs_no_card() -> None:
    """Zero users."""
    assert cards_needed(Scenario(users=0, concurrent=0)) == 0
    assert overloaded(Scenario(users=0, concurrent=0, gpus=0)) is None


@pytest.mark.parametrize(("watts", "measured"), [(300, 9326 / 9893), (250, 8436 / 9893)])
def test_the_clock_follows_a_published_power_sweep(watts: float, measured: float) -> None:
    """Prompt tokens per second of an RTX 3090 against those at 350 W: within 3 %."""
    assert clock_share(cards()["rtx3090"], watts) == pytest.approx(measured, rel=0.03)


def test_a_power_limit_costs_compute_and_no_bandwidth() -> None:
    """400 W of 575: (227.5 / 402.5)^(1/3) = 82.7 % of the compute; at 8 sequences memory bounds: nothing."""
    low = limited(_CARD, 400)
    assert clock_share(_CARD, 400) == pytest.approx(0.827, abs=0.001)
    assert low.bandwidth_gb_s == _CARD.bandwidth_gb_s
    assert low.tflops_bf16 == pytest.approx(209.5 * 0.827, rel=0.001)
    model = models()["Qwen/Qwen3-8B"]
    speeds = [
        decode_point(roofline_engine(model, card, _ENGINE), batch=8, context=512).expected_tok_s
        for card in (_CARD, low)
    ]
    assert speeds[0] == speeds[1]
    # 1,792 GB/s x 0.6 / (16.4 GB of weights + 8 x 512 x 0.147 MB of keys and values) x 8
    assert speeds[0] == pytest.approx(8 * 1792e9 * 0.6 / (8_190_735_360 * 2 + 8 * 512 * 147_456))


def test_limits_without_a_figure_are_refused_and_high_ones_change_nothing() -> None:
    """The driver takes no less than 400 W; more than the board power is no limit."""
    with pytest.raises(UsageError, match="400 W"):
        limited(_CARD, 399)
    assert clock_share(_CARD, 700) == 1


def test_a_model_that_cannot_start_is_no_candidate() -> None:
    """Each of the others is asked for its speed once for each power limit, and has it in all its boxes."""
    asked = []

    def speed(model: str, scenario: Scenario) -> Scenario | None:
        asked.append((model, scenario.card_loaded_w))
        return None if model == "large" else replace(scenario, card_tok_s=scenario.card_loaded_w)

    grid = Grid((1, 2), (400.0, 575.0), ("large", "small"), (80, 100), (10,))
    found = candidates(_MILLION, grid, speed)
    assert len(found) == 2 * 2 * 2
    assert {one.model for one in found} == {"small"}
    assert all(one.scenario.card_tok_s == one.scenario.card_loaded_w for one in found)
    assert asked == [("large", 400.0), ("large", 575.0), ("small", 400.0), ("small", 575.0)]


_POOL = st.lists(st.tuples(st.integers(1, 6), st.integers(200, 600), st.integers(1, 50)), max_size=25)


@settings(max_examples=60)
@given(pool=_POOL, needed=st.integers(100, 2500))
def test_the_optimum_holds_and_nothing_cheaper_does(pool: list[tuple[int, int, int]], needed: int) -> None:
    """Whatever the grid: it is compared with simulating all of it; and None only if nothing holds."""
    grid = [
        Candidate("m", Scenario(users=100, concurrent=10, gpus=gpus, card_tok_s=speed, cooling=usd))
        for gpus, speed, usd in pool
    ]

    def holds(one: Candidate) -> _Says:
        return _Says(one.scenario.gpus * one.scenario.card_tok_s >= needed)

    def cost(one: Scenario) -> Decimal:
        return Decimal(one.gpus * one.cooling)

    found = optimise(grid, cost=cost, simulate=holds, screen=lambda one: "few" if one.gpus == 1 else None)
    good = [cost(one.scenario) for one in grid if holds(one).holds and one.scenario.gpus > 1]
    assert (found.best.usd if found.best else None) == min(good, default=None)
    assert all(not tried.verdict.holds for tried in found.failed)
    assert found.screened_out == sum(one.scenario.gpus == 1 for one in grid)
    if found.best is not None:
        assert found.best.verdict.holds
        assert all(tried.usd <= found.best.usd for tried in found.failed)


def test_only_what_is_cheaper_is_simulated() -> None:
    """Of 1 to 9 cards the third holds: three simulations."""
    asked = []

    def simulate(one: Candidate) -> _Says:
        asked.append(one.scenario.gpus)
        return _Says(one.scenario.gpus >= 3)

    grid = [Candidate("m", Scenario(users=9, concurrent=1, gpus=gpus)) for gpus in range(9, 0, -1)]
    found = optimise(grid, cost=lambda one: Decimal(one.gpus), simulate=simulate)
    assert asked == [1, 2, 3]
    assert found.best is not None
    assert found.best.candidate.scenario.gpus == 3


def test_at_the_same_cost_the_smaller_box_wins() -> None:
    """Fewer cards, then fewer watts."""
    same = Scenario(users=9, concurrent=1)
    grid = [Candidate("m", replace(same, gpus=g, card_loaded_w=w)) for g, w in ((3, 575), (2, 575), (2, 400))]
    found = optimise(grid, cost=lambda _: Decimal(1), simulate=lambda _: _Says(holds=True))
    assert found.best is not None
    assert (found.best.candidate.scenario.gpus, found.best.candidate.scenario.card_loaded_w) == (2, 400)


_GROWING = Scenario(users=100_000, concurrent=3000, gpus=3)


def test_when_the_next_card_is_due_by_hand() -> None:
    """300 RPS x 3 % x 30 % x 200 = 540 tok/s; 3 x 400 hold 2.22 times that: 1.1^8 = 2.14, 1.1^9 = 2.36."""
    first = schedule(_GROWING, 0.1, months=24)[0]
    assert (first.month, first.cards) == (9, 4)
    assert first.users == 235_795
    assert schedule(_GROWING, 0.0) == []


def test_the_schedule_names_each_further_card_once() -> None:
    """Months and cards rise."""
    due = schedule(_GROWING, 0.2, months=20)
    assert len(due) > 3
    assert all(a.month < b.month and a.cards < b.cards for a, b in pairwise(due))


@settings(max_examples=40)
@given(slow=st.floats(0.0, 0.5), more=st.floats(0.0, 0.5))
def test_more_growth_never_delays_the_next_card(slow: float, more: float) -> None:
    """By the schedule."""

    def month(growth: float) -> int:
        due = schedule(_GROWING, growth, months=24)
        return due[0].month if due else 25

    assert month(slow + more) <= month(slow)
