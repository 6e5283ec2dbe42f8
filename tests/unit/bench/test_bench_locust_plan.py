"""Who asks for what, how often: from the document's figures."""

from __future__ import annotations

import random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dreamseed_cli.bench.locust_users.plan import (
    Errand,
    Kind,
    LoadPlan,
    Step,
    document_mix,
    first_pause,
    next_pause,
    processes_for,
    ramp,
    request_interval_s,
)
from dreamseed_cli.bench.suites.api import api_planner
from dreamseed_cli.bench.suites.load import load_planner
from dreamseed_cli.estimates.load import load_book
from dreamseed_cli.estimates.schema import Book

BOOK = load_book()


def _changed(estimate_id: str, **update: object) -> Book:
    return Book(
        estimate=tuple(one.model_copy(update=update) if one.id == estimate_id else one for one in BOOK)
    )


def test_ten_thousand_users_ask_for_the_documents_rate() -> None:
    """§F3: 1,000 requests/s from 10,000 concurrent users; another figure in the file is another rate."""
    assert request_interval_s(BOOK, 10_000) == 10
    plan = load_planner(BOOK, 10_000, seed=1, hold_s=30)(True, True)
    assert plan.users / plan.pause_s == pytest.approx(1000)
    row = BOOK.get("f3-1m")
    edited = _changed("f3-1m", fields=row.fields | {"api_rps": 500})
    assert request_interval_s(edited, 10_000) == 20


def test_phase_1_is_one_step_of_the_documents_users() -> None:
    """100 users at §F3's rate for as many; nothing goes to the gateway directly."""
    plan = api_planner(BOOK, seed=1, hold_s=300)(True, False)
    assert [(step.users, step.hold_s) for step in plan.steps] == [(100, 300)]
    assert plan.users / plan.pause_s == pytest.approx(10)
    assert Kind.GRPC_STREAM not in plan.mix


@pytest.mark.parametrize("gateway", [True, False])
def test_the_mix_is_the_documents(gateway: bool) -> None:
    """4.5 % AI (half of it through gRPC where there is a gateway), 5 % static that the CDN lets through."""
    mix = document_mix(BOOK, questions=True, gateway=gateway)
    assert sum(mix.values()) == pytest.approx(1)
    assert sum(share for kind, share in mix.items() if kind.generates) == pytest.approx(0.045)
    assert mix.get(Kind.GRPC_STREAM, 0) == pytest.approx(0.0225 if gateway else 0)
    assert mix[Kind.STATIC] == pytest.approx(0.05)
    edited = document_mix(_changed("b1-ai-share-percent", value=3.0), questions=True, gateway=gateway)
    assert sum(share for kind, share in edited.items() if kind.generates) == pytest.approx(0.03)


def test_without_questions_the_models_are_asked_as_often_as_before() -> None:
    """What is left out is not asked for; the users pause for longer instead of asking for more AI."""
    whole = load_planner(BOOK, 1000, seed=1, hold_s=30)(True, True)
    without = load_planner(BOOK, 1000, seed=1, hold_s=30)(False, True)

    def ai_per_s(plan: LoadPlan) -> float:
        ai = sum(share for kind, share in plan.mix.items() if kind.generates)
        return plan.users / plan.pause_s * ai / sum(plan.mix.values())

    assert Kind.QUESTION not in without.mix
    assert ai_per_s(without) == pytest.approx(ai_per_s(whole))


@given(st.integers(1, 20_000), st.floats(1, 1000))
def test_a_ramp_climbs_to_its_users_at_its_rate(users: int, spawn_per_s: float) -> None:
    """Every step has more users than the one before, the last has all, each is reached at the rate."""
    steps = ramp(users, spawn_per_s=spawn_per_s, hold_s=5)
    counts = [step.users for step in steps]
    assert counts == sorted(set(counts))
    assert counts[-1] == users
    assert sum(step.ramp_s for step in steps) == pytest.approx(users / spawn_per_s)


def test_users_ask_evenly_from_the_start() -> None:
    """Users that arrive together make as many requests in every part of their first two pauses."""
    luck = random.Random(3)  # noqa: S311 - load, not secrets
    due: list[float] = []
    for _ in range(20_000):
        at = first_pause(luck)
        while at < 2:
            due.append(at)
            at += next_pause(luck)
    counts = [sum(low <= at < low + 0.25 for at in due) for low in (0.25 * part for part in range(8))]
    assert min(counts) > 0.96 * 5000
    assert max(counts) < 1.04 * 5000


@pytest.mark.parametrize(
    ("users", "cores", "count"), [(100, 8, 1), (10_000, 8, 4), (10_000, 2, 2), (2501, 8, 2), (1, 1, 1)]
)
def test_processes_are_as_many_as_needed_and_there_are_cores(users: int, cores: int, count: int) -> None:
    """2,500 users a process."""
    assert processes_for(users, cores) == count


def test_an_errand_travels_as_json() -> None:
    """What the processes read is what was written, kinds as keys included."""
    plan = LoadPlan(steps=(Step(5, 1, 2),), interval_s=1, mix={Kind.CHAT: 0.5, Kind.STATIC: 0.5}, seed=1)
    errand = Errand(plan=plan, fronts=("http://a",), folder="/f", questions=("q",), api_key_env="KEY")
    assert msgspec.json.decode(msgspec.json.encode(errand), type=Errand) == errand
