"""The queue in an event loop: whoever waits is woken once, and a cancel at any moment leaks nothing."""

from __future__ import annotations

import asyncio
import random
import time
from unittest.mock import patch

import pytest

from dreamseed_cli.engine.types import EngineTimeout
from dreamseed_cli.gateway.admission.queue import AdmissionQueue
from dreamseed_cli.gateway.admission.scheduler import Scheduler
from dreamseed_cli.gateway.admission.ticket import Ticket, TicketState
from dreamseed_cli.gateway.balancer import Balancer
from dreamseed_cli.gateway.call import PriorityClass
from dreamseed_cli.gateway.refusals import DeadlineUnmeetable
from dreamseed_cli.gateway.slot import Outcome, Slot
from dreamseed_cli.profile.schema import Admission


class _Place:
    """A queue before one replica."""

    def __init__(self, places: int) -> None:
        rules = Admission(reserved_for_premium=0)
        self.slot = Slot("r0", ready=True, places=places)
        self.balancer = Balancer(rules)
        self.balancer.replace([self.slot])
        self.scheduler = Scheduler(rules, self.balancer)
        self.queue = AdmissionQueue(self.scheduler)

    def idle(self) -> bool:
        """Whether nothing is left of any ticket."""
        return (
            (self.slot.taken, self.slot.outstanding, self.slot.outstanding_tokens) == (0, 0, 0)
            and self.scheduler.waiting == 0
            and not self.queue._waiting
        )


def _ticket(patience_s: float = 30.0, cls: PriorityClass = PriorityClass.STANDARD) -> Ticket:
    return Ticket(cls, 1, 1, time.monotonic() + patience_s)


async def test_a_free_place_is_given_at_once() -> None:
    """Nobody yields to the loop for a place that is free."""
    place = _Place(1)
    ticket = _ticket()
    entering = place.queue.enter(ticket)
    with pytest.raises(StopIteration):
        entering.send(None)
    place.queue.leave(ticket, Outcome.FINISHED, 1)
    assert place.idle()


async def test_a_deadline_passes_while_waiting() -> None:
    """One that waits gets EngineTimeout when its time is up, and its place in the queue is free."""
    place = _Place(1)
    first = _ticket()
    await place.queue.enter(first)
    with pytest.raises(EngineTimeout):
        await asyncio.wait_for(place.queue.enter(_ticket(0.05)), 60)
    assert place.scheduler.waiting == 0
    place.queue.leave(first, Outcome.FINISHED)
    assert place.idle()


async def test_later_waits_do_not_hide_an_earlier_deadline() -> None:
    """The timer follows the earliest deadline, whoever came first."""
    place = _Place(1)
    await place.queue.enter(_ticket())
    long = asyncio.create_task(place.queue.enter(_ticket(30)))
    await asyncio.sleep(0)
    with pytest.raises(EngineTimeout):
        await asyncio.wait_for(place.queue.enter(_ticket(0.05)), 60)
    long.cancel()
    with pytest.raises(asyncio.CancelledError):
        await long


async def test_cancelled_just_after_the_grant_the_place_goes_on() -> None:
    """A task cancelled between its grant and its next step hands its place to the next."""
    place = _Place(1)
    holder, lost, heir = _ticket(), _ticket(), _ticket()
    await place.queue.enter(holder)
    losing = asyncio.create_task(place.queue.enter(lost))
    inheriting = asyncio.create_task(place.queue.enter(heir))
    await asyncio.sleep(0)
    place.queue.leave(holder, Outcome.FINISHED)
    assert lost.state is TicketState.SEATED
    losing.cancel()
    await asyncio.wait_for(inheriting, 60)
    assert losing.cancelled()
    assert (lost.state, heir.state) == (TicketState.OUT, TicketState.SEATED)
    place.queue.leave(heir, Outcome.FINISHED)
    assert place.idle()


async def test_cancelled_just_after_its_deadline() -> None:
    """A cancel that meets an expired wait leaves nothing behind."""
    place = _Place(1)
    holder, late = _ticket(), _ticket(60.0)
    await place.queue.enter(holder)
    task = asyncio.create_task(place.queue.enter(late))
    await asyncio.sleep(0)
    with patch.object(time, "monotonic", return_value=late.deadline):
        place.queue._tick()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    place.queue.leave(holder, Outcome.FINISHED)
    assert place.idle()


async def test_a_pause_after_a_failure_ends_by_itself() -> None:
    """Whoever waits for a replica that failed is served when its pause is over, without any other event."""
    place = _Place(1)
    failed, waiting = _ticket(), _ticket()
    await place.queue.enter(failed)
    task = asyncio.create_task(place.queue.enter(waiting))
    await asyncio.sleep(0)
    place.queue.leave(failed, Outcome.FAILED)
    assert waiting.state is TicketState.WAITING
    await asyncio.wait_for(task, 60)


async def test_hastening_moves_a_waiting_ticket_up() -> None:
    """A PREMIUM follower pulls a queued BATCH leader past STANDARD and keeps it alive."""
    place = _Place(1)
    holder, standard, leader = _ticket(), _ticket(), _ticket(5.0, PriorityClass.BATCH)
    await place.queue.enter(holder)
    behind = asyncio.create_task(place.queue.enter(standard))
    leading = asyncio.create_task(place.queue.enter(leader))
    await asyncio.sleep(0)
    place.queue.hasten(leader, PriorityClass.PREMIUM, time.monotonic() + 30)
    place.queue.leave(holder, Outcome.FINISHED)
    await asyncio.wait_for(leading, 60)
    assert not behind.done()
    place.queue.leave(leader, Outcome.FINISHED)
    await asyncio.wait_for(behind, 60)


@pytest.mark.parametrize("seed", range(8))
async def test_a_storm_of_cancels_leaks_nothing(seed: int) -> None:
    """Callers that come, wait, work and give up at random moments: never too many at a time, none left."""
    rng = random.Random(seed)  # noqa: S311 - moments, not secrets
    place = _Place(3)
    at_work = 0

    async def caller() -> None:
        nonlocal at_work
        ticket = _ticket(rng.choice([0.001, 0.01, 30]), rng.choice(list(PriorityClass)))
        outcome = Outcome.CANCELLED
        try:
            await place.queue.enter(ticket)
            at_work += 1
            try:
                assert at_work <= 3
                for _ in range(rng.randint(0, 3)):
                    await asyncio.sleep(0)
                place.queue.progress(ticket, 1)
                if rng.random() < 0.2:
                    outcome = Outcome.FAILED
                    place.queue.leave(ticket, outcome)
                    at_work -= 1
                    await place.queue.enter_again(ticket)
                    at_work += 1
                outcome = Outcome.FINISHED
            finally:
                at_work -= ticket.state is TicketState.SEATED
        except (EngineTimeout, DeadlineUnmeetable):
            pass
        finally:
            place.queue.leave(ticket, outcome)

    tasks = []
    for _ in range(300):
        tasks.append(asyncio.create_task(caller()))
        for _ in range(rng.randint(0, 2)):
            await asyncio.sleep(0)
        rng.choice(tasks[-10:]).cancel() if rng.random() < 0.5 else None
    found = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 60)
    assert [error for error in found if isinstance(error, Exception)] == []
    assert place.idle()
