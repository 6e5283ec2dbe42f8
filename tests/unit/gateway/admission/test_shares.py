"""Aging by shares: nobody waits longer than the bound says, whoever else arrives."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dreamseed_cli.gateway.admission.scheduler import Scheduler
from dreamseed_cli.gateway.admission.ticket import Ticket
from dreamseed_cli.gateway.balancer import Balancer
from dreamseed_cli.gateway.call import PriorityClass
from dreamseed_cli.gateway.slot import Outcome, Slot
from dreamseed_cli.profile.schema import Admission

_PREMIUM, _STANDARD, _BATCH = PriorityClass.PREMIUM, PriorityClass.STANDARD, PriorityClass.BATCH
_QUEUE = 3


def _overload(
    costs: dict[PriorityClass, int], *, standard: float, batch: float, grants: int, places: int = 2
) -> list[PriorityClass]:
    """Endless load in the classes that `costs` names, before one engine; who got a place, in order."""
    rules = Admission(share_standard=standard, share_batch=batch, reserved_for_premium=0)
    balancer = Balancer(rules)
    balancer.replace([Slot("r0", ready=True, places=places)])
    scheduler = Scheduler(rules, balancer)
    order: list[PriorityClass] = []
    running: list[Ticket] = []
    now = 0.0
    for _ in range(_QUEUE):
        for cls, cost in costs.items():
            running += scheduler.submit(Ticket(cls, 1, cost - 1, 1e9), now)
    while len(order) < grants:
        now += 1.0
        ended = running.pop(0)
        for ticket in scheduler.release(ended, Outcome.FINISHED, 1, now):
            order.append(ticket.priority)
            running.append(ticket)
            scheduler.submit(Ticket(ticket.priority, 1, costs[ticket.priority] - 1, 1e9), now)
    return order


@settings(max_examples=60, deadline=None)
@given(
    premium=st.integers(1, 400),
    standard=st.integers(1, 400),
    batch=st.integers(1, 400),
    shares=st.tuples(st.floats(0.02, 0.45), st.floats(0.02, 0.45)),
)
def test_a_class_waits_at_most_as_long_as_its_share_says(
    premium: int, standard: int, batch: int, shares: tuple[float, float]
) -> None:
    """Between two turns of a class of share s, others get less than its cost / s and one request of work;
    before a turn of BATCH also what STANDARD's own share entitles it to.
    """
    costs = {_PREMIUM: premium, _STANDARD: standard, _BATCH: batch}
    order = _overload(costs, standard=shares[0], batch=shares[1], grants=400)
    biggest = max(costs.values())
    for cls, share in ((_STANDARD, shares[0]), (_BATCH, shares[1])):
        passed = 0
        for granted in order:
            passed = 0 if granted is cls else passed + costs[granted]
            bound = costs[cls] / share + biggest
            if cls is _BATCH:
                bound += (costs[_STANDARD] + shares[0] * biggest) / (1 - shares[0])
            assert passed < bound + 1e-6


@pytest.mark.parametrize(("standard", "batch"), [(0.1, 0.05), (0.3, 0.2), (0.45, 0.45)])
def test_each_class_gets_its_share_of_the_work(standard: float, batch: float) -> None:
    """Under endless load of all classes the work divides as the profile says, the rest being PREMIUM's."""
    costs = {_PREMIUM: 300, _STANDARD: 220, _BATCH: 900}
    counts = Counter(_overload(costs, standard=standard, batch=batch, grants=6000))
    work = {cls: counts[cls] * cost for cls, cost in costs.items()}
    total = sum(work.values())
    assert work[_STANDARD] / total == pytest.approx(standard, abs=0.01)
    assert work[_BATCH] / total == pytest.approx(batch, abs=0.01)


def test_without_a_share_order_is_strict() -> None:
    """A share of 0 gives nothing as long as anybody waits above."""
    counts = Counter(_overload({_PREMIUM: 10, _STANDARD: 10, _BATCH: 10}, standard=0, batch=0, grants=200))
    assert set(counts) == {_PREMIUM}


def test_batch_progresses_under_standard_alone() -> None:
    """BATCH gets its share from STANDARD as from PREMIUM."""
    counts = Counter(_overload({_STANDARD: 100, _BATCH: 100}, standard=0.1, batch=0.05, grants=2000))
    assert counts[_BATCH] / 2000 == pytest.approx(0.05, abs=0.005)


def test_a_class_that_nobody_waits_in_saves_nothing_up() -> None:
    """Credit is for those who wait: a class that comes back after a pause starts from nothing."""
    rules = Admission(share_standard=0.45, share_batch=0.45, reserved_for_premium=0)
    balancer = Balancer(rules)
    balancer.replace([Slot("r0", ready=True, places=1)])
    scheduler = Scheduler(rules, balancer)
    running = scheduler.submit(Ticket(_PREMIUM, 1, 999, 1e9), 0.0)
    batch = Ticket(_BATCH, 1, 9, 1e9)
    for step in range(1, 40):
        scheduler.submit(Ticket(_PREMIUM, 1, 999, 1e9), float(step))
        if step == 10:
            scheduler.submit(batch, float(step))
            scheduler.cancel(batch)
        running += scheduler.release(running.pop(0), Outcome.FINISHED, 1, float(step))
    late = Ticket(_BATCH, 1, 9, 1e9)
    scheduler.submit(late, 41.0)
    scheduler.submit(Ticket(_PREMIUM, 1, 999, 1e9), 41.0)
    assert scheduler.release(running.pop(0), Outcome.FINISHED, 1, 42.0)[0].premium
