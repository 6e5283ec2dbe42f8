"""How the pieces come together: one speed for bill and simulation, one set of prices, verdicts from both."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from pathlib import Path

import pytest
from bench_results import sweep_result
from cost_answers import QUICK, TODAY, asked, whole_answer
from hypothesis import given, settings
from hypothesis import strategies as st

from dreamseed_cli.costsim.answer import answer, steps
from dreamseed_cli.costsim.decisions.capacity import needs
from dreamseed_cli.costsim.holding import held, settled, usual_rps
from dreamseed_cli.costsim.question import Asked, question
from dreamseed_cli.costsim.replica import card_of_statement, stated
from dreamseed_cli.costsim.scenario import Scenario
from dreamseed_cli.costsim.study import GROWTHS, study, swept


def test_a_stated_card_is_simulated_as_stated() -> None:
    """§B1's 500 tok/s shared by eight: the bill's speed and the simulation's are the same."""
    one = Scenario(users=10, concurrent=1)
    card = card_of_statement(one)
    back = stated(one, card, tpot_ms=100)
    assert back.card_tok_s == pytest.approx(one.card_tok_s, rel=1e-3)
    assert card.max_num_seqs == one.card_sequences


def test_a_cards_speed_counts_its_prefills() -> None:
    """Longer prompts leave less time for answers; a slower promise allows larger batches."""
    one = asked()
    tok_s = [
        stated(replace(one.scenario, prompt_tokens=prompt), one.cards, tpot_ms=100).card_tok_s
        for prompt in (0.0, 300.0, 1000.0)
    ]
    assert tok_s == sorted(tok_s, reverse=True)
    strict, lax = (stated(one.scenario, one.cards, tpot_ms=limit).card_tok_s for limit in (15, 100))
    assert strict < lax


@pytest.mark.no_cover
def test_the_simulation_saturates_where_the_bill_says() -> None:
    """Below the closed form's most the simulated cards keep up, above it they do not."""
    one = asked()
    share = needs(one.scenario).card_share
    for times, holds in ((0.8, True), (1.6, False)):
        rps = one.scenario.concurrent * one.scenario.requests_per_user_min / 60 * times / share
        roomy = replace(one.scenario, max_instances=1000)
        found = held(roomy, one.cards, one.profile, hours=0.15, seed=1, at_rps=rps)
        assert found.holds is holds


def test_the_wait_of_the_usual_hour_goes_into_the_bill() -> None:
    """It is longer than an answer that has a card to itself; the usual hour is not the busiest one."""
    one = asked(1_000_000)
    assert settled(one.scenario, one.cards, one.profile, seed=1).ai_wait_s > 0
    assert 0 < usual_rps(one.scenario) < one.scenario.concurrent * one.scenario.requests_per_user_min / 60


@pytest.mark.no_cover
def test_a_bench_result_says_how_fast_a_card_is(tmp_path: Path) -> None:
    """Its speed is the scenario's and does not vary; a simulated result does not become a measured one."""
    (tmp_path / "result.json").write_text(sweep_result().model_dump_json(), encoding="utf-8")
    one = question(Asked(users=1000, bench=tmp_path))
    assert one.cards.card.source.startswith("bench of ")
    assert one.cards.provenance == "simulated"
    assert one.scenario.card_tok_s != asked(1000).scenario.card_tok_s
    assert "card_tok_s" in asked(1000).ranges.scenario
    assert "card_tok_s" not in one.ranges.scenario


def test_a_wait_that_is_set_stays() -> None:
    """What is stated is not simulated away."""
    found = study(asked(1000, "ai_wait_s=2.5"), QUICK, today=TODAY)
    assert found.scenario.ai_wait_s == 2.5


def test_the_same_seed_gives_the_same_answer() -> None:
    """Draws and simulation alike."""
    first, second = (study(asked(20_000), QUICK, today=TODAY) for _ in range(2))
    assert first.bands == second.bands
    assert first.held is not None
    assert second.held is not None
    assert first.held.outcome == second.held.outcome


def test_growth_is_the_stated_one_or_three_examples() -> None:
    """A stated growth of users alone; without one, what several would mean."""
    found = whole_answer().study
    assert found is not None
    assert tuple(one.monthly for one in found.growths) == GROWTHS
    stated_growth = study(asked(1000, "monthly_growth=0.3"), QUICK, today=TODAY)
    assert [one.monthly for one in stated_growth.growths] == [0.3]
    assert stated_growth.growths[0].due


def test_prices_become_stale_by_their_date() -> None:
    """All of them ten years later."""
    one = asked(1000)
    dates = [price.date for price in one.book.prices.values()]
    dates += [tariff.date for tariff in one.book.tariffs.values()]
    assert len(one.book.stale(dt.date(2036, 1, 1))) == len(dates)
    assert None not in dates
    assert study(one, QUICK, today=dt.date(2036, 1, 1)).stale
    patient = replace(QUICK, max_price_age_days=36_500)
    assert not study(one, patient, today=dt.date(2036, 1, 1)).stale


def test_a_sweep_has_the_cards_of_the_documents_rows_unless_they_are_set() -> None:
    """§F3's 1 and 2; with a number of cards given, the same in every row."""
    rows = swept(asked(0), "users=1e3..1e4", QUICK)
    assert [row.scenario.gpus for row in rows] == [1, 2]
    fixed = swept(question(Asked(users=0, gpus=3)), "users=1e3..1e4", QUICK)
    assert [row.scenario.gpus for row in fixed] == [3, 3]


def test_the_cheapest_box_holds_and_no_cheaper_one_was_passed_over() -> None:
    """Every failed candidate is cheaper than the best, and was simulated."""
    found = whole_answer().study
    assert found is not None
    assert found.optimum is not None
    assert found.optimum.best is not None
    best = found.optimum.best
    assert best.verdict.holds
    assert all(one.usd <= best.usd and not one.verdict.holds for one in found.optimum.failed)


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 500_000), st.integers(0, 500_000))
def test_more_users_never_cost_less(one: int, other: int) -> None:
    """With the hardware, its speed and the waits fixed."""
    low, high = (
        study(
            question(Asked(users=users, settings=("ai_wait_s=0",))),
            replace(QUICK, draws=1, hours=0),
            today=TODAY,
        )
        for users in sorted((one, other))
    )
    assert low.bill.usd <= high.bill.usd


def test_as_many_steps_are_told_as_the_bar_has() -> None:
    """It ends full, with every option and with none."""
    for effort, sweep in ((QUICK, None), (replace(QUICK, optimise=True, whole_day=True), "users=10..10")):
        told: list[str] = []
        answer(asked(1000), effort, sweep=sweep, with_study=True, budget=None, today=TODAY, tell=told.append)
        assert len(told) == steps(asked(1000), effort, sweep=sweep, with_study=True)
