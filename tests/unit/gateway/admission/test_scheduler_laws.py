"""The scheduler's laws under any sequence of arrivals, ends, failures and changes of the table."""

from __future__ import annotations

from unittest.mock import patch

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from dreamseed_cli.gateway.admission import shares
from dreamseed_cli.gateway.admission.scheduler import Scheduler
from dreamseed_cli.gateway.admission.ticket import Ticket, TicketState
from dreamseed_cli.gateway.balancer import Balancer
from dreamseed_cli.gateway.call import PriorityClass
from dreamseed_cli.gateway.refusals import DeadlineUnmeetable, QueueFull
from dreamseed_cli.gateway.slot import Outcome, Slot
from dreamseed_cli.profile.schema import Admission

_CLASSES = st.sampled_from(PriorityClass)
_NAMES = ("r0", "r1", "r2")
_MOST_COST = 120
_SHARES = {PriorityClass.STANDARD: 0.3, PriorityClass.BATCH: 0.2}


class _Watched(Scheduler):
    """Tells the machine of every grant before it happens."""

    def __init__(self, rules: Admission, balancer: Balancer, machine: _Laws) -> None:
        super().__init__(rules, balancer)
        self._machine = machine

    def _next(self, now: float) -> tuple[Ticket, Slot] | None:
        found = super()._next(now)
        if found is not None:
            self._machine.about_to_grant(*found)
        return found


class _Laws(RuleBasedStateMachine):
    """A second, naive account of who is where, compared with the scheduler's after every step."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.waiting: list[Ticket] = []
        self.seated: list[Ticket] = []
        self.ended: set[Ticket] = set()
        self.returned: set[Ticket] = set()
        self.passed = dict.fromkeys(_SHARES, 0)
        self.taken_ahead = dict.fromkeys(_SHARES, 0.0)
        # So much credit is more work than an example brings: a class that never aged would break no law.
        self.little_credit = patch.object(shares, "MOST_CREDIT", 0.0)
        self.little_credit.start()

    def teardown(self) -> None:
        """The module is everybody's."""
        self.little_credit.stop()

    @initialize(
        reserved=st.integers(0, 3), prefill=st.integers(1, 200), places=st.tuples(*[st.integers(1, 5)] * 3)
    )
    def start(self, reserved: int, prefill: int, places: tuple[int, ...]) -> None:
        self.chosen = Admission(
            max_queued_premium=4,
            max_queued_standard=5,
            max_queued_batch=6,
            share_standard=_SHARES[PriorityClass.STANDARD],
            share_batch=_SHARES[PriorityClass.BATCH],
            reserved_for_premium=reserved,
            prefill_ahead_tokens=prefill,
        )
        self.balancer = Balancer(self.chosen)
        slots = [Slot(name, ready=True, places=count) for name, count in zip(_NAMES, places, strict=True)]
        self.slots = {slot.name: slot for slot in slots}
        self.balancer.replace(slots)
        self.scheduler = _Watched(self.chosen, self.balancer, self)

    def about_to_grant(self, ticket: Ticket, slot: Slot) -> None:
        """Class order and aging: who passes whom, judged before the grant changes anything."""
        could = {
            cls: any(self.could_go(head) for head in self.scheduler._queues[cls].heads())
            for cls in PriorityClass
        }
        passing = any(cls > ticket.priority and could[cls] for cls in PriorityClass)
        if passing:
            assert self.scheduler._shares.due(ticket.priority, ticket.cost), "passed without being due"
        if self.scheduler._hopeless(ticket, self.now):
            return
        for cls, share in _SHARES.items():
            ahead = ticket.cost if passing and cls is ticket.priority else 0
            earned = share * ticket.cost if self.scheduler.length(cls) else 0.0
            self.taken_ahead[cls] = max(0.0, self.taken_ahead[cls] + ahead - earned)
            if cls is ticket.priority:
                self.passed[cls] = 0
            elif could[cls]:
                self.passed[cls] += ticket.cost

    def could_go(self, ticket: Ticket) -> bool:
        """Whether it would get a place, were it its turn: also a kept one, if its class is due."""
        due = self.scheduler._shares.due(ticket.priority, ticket.cost)
        return self.balancer.choose(ticket, self.now, reserve=not due) is not None

    def take(self, granted: list[Ticket], arrived: Ticket | None = None) -> None:
        """Account for grants, each checked against the places there are."""
        assert len(granted) == len(set(granted))
        for ticket in granted:
            if ticket is not arrived:
                self.waiting.remove(ticket)
            if ticket.state is TicketState.OUT:
                assert ticket.deadline - self.now < self.scheduler._pace.answer_s(ticket.answer_tokens)
                assert ticket.waited_s > 0
                self.ended.add(ticket)
                continue
            self.seated.append(ticket)
            slot = ticket.slot
            assert slot is not None
            assert ticket.state is TicketState.SEATED
            assert slot.ready
            assert slot.name not in ticket.excluded
            assert slot.paused_until <= self.now
            assert slot.taken <= slot.room()
            if not ticket.premium and not ticket.aged:
                reserved = min(self.chosen.reserved_for_premium, slot.room() // 2)
                later = granted[granted.index(ticket) + 1 :]
                after = sum(other.slot is slot for other in later)
                assert slot.taken - after <= slot.room() - reserved

    @rule(
        cls=_CLASSES,
        user=st.sampled_from("abc"),
        prompt=st.integers(1, 60),
        answer=st.integers(1, 60),
        patience=st.floats(0.5, 50),
    )
    def arrive(self, cls: PriorityClass, user: str, prompt: int, answer: int, patience: float) -> None:
        ticket = Ticket(cls, prompt, answer, self.now + patience, user, prefixes=(ord(user),))
        limit = {2: 4, 1: 5, 0: 6}[cls]
        length = self.scheduler.length(cls)
        try:
            granted = self.scheduler.submit(ticket, self.now)
        except QueueFull:
            assert length >= limit
            assert ticket.state is TicketState.OUT
            return
        except DeadlineUnmeetable:
            assert ticket.state is TicketState.OUT
            return
        assert length < limit or ticket in granted
        if ticket not in granted:
            self.waiting.append(ticket)
        self.take(granted, arrived=ticket)

    @rule(cls=_CLASSES, count=st.integers(1, 40))
    def a_wave(self, cls: PriorityClass, count: int) -> None:
        """More of one class than the engines can take, for long: one comes as one ends."""
        for _ in range(count):
            self.arrive(cls, "w", 60, 60, 1e4)
            for ticket in [one for one in self.seated if one.prefilling]:
                self.take(self.scheduler.progress(ticket, 1, self.now))
            if self.seated:
                ticket = self.seated.pop(0)
                self.take(self.scheduler.release(ticket, Outcome.FINISHED, 3, self.now))
                self.ended.add(ticket)
            self.nobody_starves_beyond_the_bound()
            self.nobody_goes_ahead_with_more_than_its_share()

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def give_up_waiting(self, data: st.DataObject) -> None:
        ticket = data.draw(st.sampled_from(self.waiting))
        self.scheduler.cancel(ticket)
        self.waiting.remove(ticket)
        self.ended.add(ticket)

    @precondition(lambda self: self.seated)
    @rule(data=st.data(), outcome=st.sampled_from(Outcome), retry=st.booleans())
    def leave_the_engine(self, data: st.DataObject, outcome: Outcome, retry: bool) -> None:
        ticket = data.draw(st.sampled_from(self.seated))
        slot = ticket.slot
        assert slot is not None
        self.seated.remove(ticket)
        self.take(self.scheduler.release(ticket, outcome, 3, self.now))
        if outcome in {Outcome.FAILED, Outcome.BUSY} and retry:
            if outcome is Outcome.FAILED:
                ticket.excluded |= {slot.name}
            self.returned.add(ticket)
            granted = self.scheduler.put_back(ticket, self.now)
            if ticket not in granted:
                self.waiting.append(ticket)
            self.take(granted, arrived=ticket)
        else:
            self.ended.add(ticket)

    @precondition(lambda self: self.seated)
    @rule(data=st.data(), tokens=st.integers(0, 70))
    def get_tokens(self, data: st.DataObject, tokens: int) -> None:
        ticket = data.draw(st.sampled_from(self.seated))
        self.take(self.scheduler.progress(ticket, tokens, self.now))

    @precondition(lambda self: self.seated)
    @rule(data=st.data())
    def answer_arrives_whole(self, data: st.DataObject) -> None:
        ticket = data.draw(st.sampled_from(self.seated))
        self.take(self.scheduler.vacate(ticket, self.now))

    @precondition(lambda self: self.waiting)
    @rule(data=st.data(), cls=_CLASSES, more=st.floats(0, 20))
    def raise_and_extend(self, data: st.DataObject, cls: PriorityClass, more: float) -> None:
        ticket = data.draw(st.sampled_from(self.waiting))
        self.scheduler.extend(ticket, ticket.deadline + more)
        before = ticket.priority
        self.take(self.scheduler.raise_class(ticket, cls, self.now))
        assert ticket.priority >= before

    @rule(ready=st.sets(st.sampled_from(_NAMES)), gone=st.sets(st.sampled_from(_NAMES)))
    def change_the_table(self, ready: set[str], gone: set[str]) -> None:
        for name, slot in self.slots.items():
            slot.ready = name in ready
        self.balancer.replace(slot for name, slot in self.slots.items() if name not in gone)
        self.take(self.scheduler.table_changed(self.now))

    @rule(seconds=st.floats(0, 5))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        expired, granted = self.scheduler.tick(self.now)
        for ticket in expired:
            assert ticket.deadline <= self.now
            self.waiting.remove(ticket)
            self.ended.add(ticket)
        self.take(granted)
        assert all(ticket.deadline > self.now for ticket in self.waiting)

    @invariant()
    def nobody_is_lost_or_in_two_places(self) -> None:
        assert self.scheduler.waiting == len(self.waiting)
        assert not set(self.waiting) & set(self.seated)
        assert all(ticket.state is TicketState.WAITING for ticket in self.waiting)
        assert all(ticket.state is TicketState.OUT for ticket in self.ended)
        for cls in PriorityClass:
            mine = [ticket for ticket in self.waiting if ticket.priority is cls]
            assert self.scheduler.length(cls) == len(mine)

    @invariant()
    def replicas_have_what_was_granted_and_not_ended(self) -> None:
        for slot in self.slots.values():
            mine = [ticket for ticket in self.seated if ticket.slot is slot]
            holding = [ticket for ticket in mine if ticket.holds_place]
            assert slot.outstanding == len(mine)
            assert slot.taken == len(holding)
            assert slot.outstanding_tokens == sum(ticket.remaining for ticket in mine)
            assert slot.prefill_tokens == sum(ticket.prompt_tokens for ticket in mine if ticket.prefilling)
            assert slot.premium_prefills == sum(ticket.premium for ticket in mine if ticket.prefilling)

    @invariant()
    def no_place_is_left_empty_while_somebody_waits_who_could_have_it(self) -> None:
        for ticket in self.waiting:
            assert self.balancer.choose(ticket, self.now) is None
        for queue in self.scheduler._queues.values():
            assert not any(self.could_go(head) for head in queue.heads())

    @invariant()
    def nobody_starves_beyond_the_bound(self) -> None:
        for cls, passed in self.passed.items():
            if not self.scheduler.length(cls):
                self.passed[cls] = 0
                continue
            bound = _MOST_COST / _SHARES[cls] + _MOST_COST
            if (
                cls is PriorityClass.BATCH
            ):  # STANDARD may be due itself: its two requests, and its share of the rest
                standard = _SHARES[PriorityClass.STANDARD]
                bound += (2 * _MOST_COST + standard * bound) / (1 - standard)
            assert passed <= bound

    @invariant()
    def nobody_goes_ahead_with_more_than_its_share(self) -> None:
        for ahead in self.taken_ahead.values():
            assert ahead <= 3 * _MOST_COST

    @invariant()
    def whoever_waits_has_an_event_to_wait_for(self) -> None:
        due = self.scheduler.next_event(self.now)
        assert (due is None) == (not self.waiting)
        if due is not None:
            assert due <= min(ticket.deadline for ticket in self.waiting)


TestSchedulerLaws = _Laws.TestCase


@pytest.mark.parametrize("cls", PriorityClass)
def test_a_full_queue_refuses_the_next(cls: PriorityClass) -> None:
    """Each class has its own bound, and the refusal names a time to come back."""
    scheduler = Scheduler(
        Admission(max_queued_premium=2, max_queued_standard=3, max_queued_batch=4), _engine(places=1)
    )
    scheduler.submit(Ticket(PriorityClass.PREMIUM, 1, 1, 100.0), 0.0)
    for _ in range({2: 2, 1: 3, 0: 4}[cls]):
        scheduler.submit(Ticket(cls, 1, 1, 100.0), 0.0)
    with pytest.raises(QueueFull) as caught:
        scheduler.submit(Ticket(cls, 1, 1, 100.0), 0.0)
    assert caught.value.retry_after_s == 1.0


def _engine(places: int) -> Balancer:
    balancer = Balancer()
    balancer.replace([Slot("r0", ready=True, places=places)])
    return balancer
