"""A load on its whole way: nothing is lost, nothing is invented, the same seed tells the same story."""

from __future__ import annotations

import dataclasses
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dreamseed_cli.core.errors import UsageError
from dreamseed_cli.costsim.queueing.arrivals import CLASS_MIX, Load, load_of
from dreamseed_cli.costsim.queueing.card import CardModel
from dreamseed_cli.costsim.queueing.outcome import Ending, Outcome
from dreamseed_cli.costsim.queueing.simulate import simulate
from dreamseed_cli.costsim.queueing.system import CloudRunSettings, Fallback, System, system_of
from dreamseed_cli.costsim.scenario import Scenario
from dreamseed_cli.gateway.call import PriorityClass
from dreamseed_cli.profile.schema import Admission, EmulatedCard, Targets

CARD = EmulatedCard(
    source="test",
    prefill_tokens_per_s=3550.0,
    decode_step_ms=5.6,
    decode_step_ms_per_seq=0.28,
    decode_step_ms_per_kv_token=0.00011,
    kv_cache_tokens=20_000,
)


def _system(replicas: int = 1, **changes: object) -> System:
    system = System(
        CardModel(CARD, 32),
        replicas=replicas,
        targets=Targets(),
        admission=Admission(max_queued_premium=20, max_queued_standard=20, max_queued_batch=20),
        cloud_run=CloudRunSettings(),
        idle_w=200.0,
        loaded_w=1000.0,
    )
    return dataclasses.replace(system, **changes)  # type: ignore[arg-type]


def _load(ai_per_s: float, **changes: object) -> Load:
    load = Load(rps=10 * ai_per_s, ai_share=0.1, users=50)
    return dataclasses.replace(load, **changes)  # type: ignore[arg-type]


def _adds_up(outcome: Outcome) -> None:
    every = (*outcome.classes.values(), outcome.overall)
    assert all(sum(one.endings.values()) == one.requests for one in every)
    assert sum(one.requests for one in outcome.classes.values()) == outcome.overall.requests
    assert outcome.ai_requests == outcome.overall.requests + outcome.cache_hits
    assert outcome.cloud_run.requests == outcome.api_requests - outcome.cdn_answered
    answered = outcome.overall.endings.get(Ending.ANSWERED, 0)
    assert outcome.overall.good <= answered == outcome.overall.ttft.n == outcome.overall.e2e.n
    assert 0 <= outcome.cards.busy_share <= 1 + 1e-9
    assert outcome.fallback.requests == outcome.overall.fallback <= outcome.overall.refused


@given(
    ai_per_s=st.floats(0.05, 40.0),
    replicas=st.integers(0, 3),
    seed=st.integers(0, 99),
    concurrency=st.integers(1, 100),
    patience_s=st.floats(0.5, 40.0),
    fallback=st.sampled_from((None, Fallback())),
)
@settings(max_examples=25, deadline=None)
def test_every_request_ends_exactly_once(
    ai_per_s: float,
    replicas: int,
    seed: int,
    concurrency: int,
    patience_s: float,
    fallback: Fallback | None,
) -> None:
    """Over and under load, with and without cards, places, fallback: endings add up by class and in all."""
    load = _load(ai_per_s, deadlines_s=dict.fromkeys(PriorityClass, patience_s), cache_hit=0.3, cdn_share=0.4)
    system = _system(replicas, cloud_run=CloudRunSettings(concurrency=concurrency), fallback=fallback)
    _adds_up(simulate(load, system, hours=0.01, seed=seed))


def test_a_seed_tells_the_same_story_and_another_one_another() -> None:
    """Outcomes are equal to the last digit for one seed, and differ for two."""
    load, system = _load(5.0), _system()
    once, again, other = (simulate(load, system, hours=0.05, seed=seed) for seed in (1, 1, 2))
    assert once == again
    assert once.overall.ttft != other.overall.ttft


def test_more_cards_never_lower_goodput() -> None:
    """Of the same seeds' requests, two cards make at least as many good answers as one, three as two."""
    goods = [
        sum(simulate(_load(16.0), _system(cards), hours=0.05, seed=seed).overall.good for seed in range(3))
        for cards in (1, 2, 3)
    ]
    assert goods == sorted(goods)
    assert goods[0] < goods[2]


def _all_answered(outcome: Outcome) -> bool:
    answered = outcome.overall.endings.get(Ending.ANSWERED, 0)
    return not outcome.cloud_run.rejected and answered == outcome.overall.requests


def test_an_overloaded_box_refuses_and_the_fallback_pays() -> None:
    """More than one card can make: the gateway refuses, PREMIUM suffers least, and what falls back is counted
    in tokens; BATCH does not fall back.
    """
    outcome = simulate(_load(12.0), _system(fallback=Fallback()), hours=0.05, seed=3)
    premium, batch = outcome.classes["premium"], outcome.classes["batch"]
    assert outcome.overall.refused > 0.2 * outcome.overall.requests
    assert premium.attainment > batch.attainment
    assert batch.refused
    assert not batch.fallback
    assert outcome.fallback.requests == outcome.overall.fallback > 0
    assert outcome.fallback.answer_tokens / outcome.fallback.requests == pytest.approx(200, rel=0.1)
    assert not _all_answered(outcome)


def test_a_quiet_box_holds_and_mostly_idles() -> None:
    """One request in ten seconds: everybody is answered, and the box draws little more than idle."""
    patient = dict.fromkeys(PriorityClass, math.inf)
    outcome = simulate(_load(0.1, deadlines_s=patient), _system(), hours=1.0, seed=4)
    assert _all_answered(outcome)
    assert outcome.overall.attainment == 1.0
    assert outcome.cards.busy_share == pytest.approx(0.1 * 200 * 0.0056, rel=0.5)
    watts = 200 + 800 * outcome.cards.busy_share
    assert outcome.energy.mean_w == pytest.approx(watts)
    assert outcome.energy.kwh == pytest.approx(watts * outcome.window_s / 3.6e6)


@pytest.mark.no_cover
def test_tokens_and_prompts_are_what_was_asked() -> None:
    """Tokens a second are arrivals times lengths, the batch follows from Little's law."""
    outcome = simulate(_load(6.0), _system(2), hours=0.5, seed=5)
    rate = outcome.overall.requests / outcome.window_s
    assert outcome.cards.tokens_per_s == pytest.approx(200 * rate, rel=0.03)
    assert outcome.cards.prompt_tokens_per_s == pytest.approx(300 * rate, rel=0.03)
    in_cards = outcome.cards.mean_batch * outcome.cards.busy_share * 2
    served_s = outcome.overall.e2e.mean_s - outcome.overall.wait.mean_s - 0.015
    assert in_cards == pytest.approx(rate * served_s, rel=0.03)


def test_quantiles_need_samples() -> None:
    """A short run tells no p99; a long one does."""
    short = simulate(_load(5.0), _system(), hours=0.01, seed=1).overall.ttft
    assert short.n < 662
    assert "p99" not in short.quantiles_s
    assert "p99" in simulate(_load(5.0), _system(), hours=0.1, seed=1).overall.ttft.quantiles_s


def test_no_users_cost_no_requests() -> None:
    """Nothing comes, nothing happens, the box idles."""
    outcome = simulate(Load(rps=0.0, ai_share=0.1), _system(), hours=1.0, seed=0)
    assert (outcome.api_requests, outcome.overall.requests, outcome.cloud_run.billable_instance_s) == (
        0,
        0,
        0,
    )
    assert outcome.energy.mean_w == 200.0
    assert _all_answered(outcome)


def test_a_time_of_nothing_is_an_error() -> None:
    """0 hours are told at their place."""
    with pytest.raises(UsageError, match="cannot be simulated"):
        simulate(_load(1.0), _system(), hours=0.0, seed=0)


def test_the_load_is_the_scenarios() -> None:
    """§F3's 10,000 at once are 1,000 requests a second, of which 3 % ask for AI and 30 % of those miss."""
    load = load_of(Scenario(users=1_000_000, concurrent=10_000))
    assert load.rps == 1000
    assert load.asked_per_s == pytest.approx(9.0)
    assert load.plain_per_s == pytest.approx(1000 * (1 - 0.45) - 9.0)
    assert load_of(Scenario(users=10, concurrent=10), at_rps=7.0).rps == 7.0


def test_a_mix_that_is_no_whole_is_an_error() -> None:
    """Shares of classes must add up to 1."""
    with pytest.raises(UsageError, match="add up to"):
        Load(rps=1.0, ai_share=0.1, class_mix={**CLASS_MIX, PriorityClass.PREMIUM: 0.5})


def test_the_system_is_the_scenarios() -> None:
    """Cards that are too few for another replica stay out; watts are those of the box."""
    scenario = Scenario(users=1000, concurrent=100, gpus=3, max_instances=4)
    system = system_of(scenario, CardModel(CARD, 32, cards_per_replica=2), Targets(), Admission())
    assert system.replicas == 1
    assert system.cloud_run.max_instances == 4
    assert system.idle_w < system.loaded_w
