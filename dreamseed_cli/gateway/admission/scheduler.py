"""Which request goes to which engine next (§B4). A pure state machine: time is passed in, nothing is awaited.

Strict order PREMIUM, STANDARD, BATCH, but for a class that is due its guaranteed share (`Shares`). A request
waits here until an engine has a place for it, so that no engine's own queue holds one that should be
overtaken. Each event answers with the tickets that left the queue by it: those with a place are SEATED, those
whose time would not suffice any more for an answer are OUT.
"""

from __future__ import annotations

from collections.abc import Iterator

from dreamseed_cli.gateway.admission.class_queue import ClassQueue
from dreamseed_cli.gateway.admission.deadlines import Deadlines
from dreamseed_cli.gateway.admission.drain import DrainRate, Pace
from dreamseed_cli.gateway.admission.shares import Shares
from dreamseed_cli.gateway.admission.ticket import Ticket, TicketState
from dreamseed_cli.gateway.balancer import Balancer
from dreamseed_cli.gateway.call import PriorityClass
from dreamseed_cli.gateway.refusals import DeadlineUnmeetable, QueueFull
from dreamseed_cli.gateway.slot import Outcome, Slot
from dreamseed_cli.profile.schema import Admission

_ORDER = (PriorityClass.PREMIUM, PriorityClass.STANDARD, PriorityClass.BATCH)
_SHARED = (PriorityClass.STANDARD, PriorityClass.BATCH)
_UNMEASURED_RETRY_S = 1.0
_SHORTEST_RETRY_S = 0.1
_LONGEST_RETRY_S = 60.0


class Scheduler:
    """Tickets in bounded queues before the balancer's replicas. `now` is monotonic seconds, never falling."""

    def __init__(self, rules: Admission, balancer: Balancer) -> None:
        self._balancer = balancer
        self._limits = _limits(rules)
        self._shares = Shares(_shares(rules))
        self._queues = {cls: ClassQueue() for cls in _ORDER}
        self._drains = {cls: DrainRate() for cls in _ORDER}
        self._pace = Pace()
        self._deadlines = Deadlines()
        self.waiting = 0
        """How many wait, in all classes."""

    def length(self, priority: PriorityClass) -> int:
        """How many wait in this class."""
        return len(self._queues[priority])

    def take_rules(self, rules: Admission, now: float) -> list[Ticket]:
        """Go by these rules from now on, the balancer too. A queue longer than its new bound keeps what it
        has: only new requests are refused.
        """
        self._limits = _limits(rules)
        self._shares.take(_shares(rules))
        self._balancer.take_rules(rules)
        return self._dispatch(now)

    def submit(self, ticket: Ticket, now: float) -> list[Ticket]:
        """Take a new request in: it has a place (`ticket.slot`), or it waits.

        Raises QueueFull, or DeadlineUnmeetable if its deadline has passed, or if by the measured drain rate
        its turn would come too late for an answer of its length: what is cut at its deadline is work for
        nothing. A free place is always tried: how long answers take was learnt under another load, and a box
        that refused by it would never learn that it has become faster.
        """
        ticket.waited_s = 0.0
        if ticket.deadline <= now:
            raise DeadlineUnmeetable("the caller's deadline has passed already", retry_after_s=_retry(0.0))
        if not self.waiting and (slot := self._balancer.choose(ticket, now)) is not None:
            ticket.queued_at = now
            self._seat(ticket, slot, now)
            return [ticket]
        self._check(ticket, now)
        self._enqueue(ticket, now)
        self._queues[ticket.priority].append(ticket)
        return self._settle(ticket, now)

    def put_back(self, ticket: Ticket, now: float) -> list[Ticket]:
        """A ticket whose replica failed it goes before all of its class that had none; no bound applies."""
        self._enqueue(ticket, now)
        self._queues[ticket.priority].put_back(ticket)
        return self._settle(ticket, now)

    def cancel(self, ticket: Ticket) -> None:
        """Its caller left: if it waits, its place in the queue is free at once."""
        if ticket.state is TicketState.WAITING:
            self._dequeue(ticket, served=False)

    def release(self, ticket: Ticket, outcome: Outcome, tokens: int, now: float) -> list[Ticket]:
        """It left its replica. tokens: generated for it there, as far as known."""
        ticket.state = TicketState.OUT
        if outcome is Outcome.FINISHED:
            self._pace.finished(now - ticket.seated_at, ticket.answer_tokens)
        elif outcome is Outcome.CANCELLED:
            self._pace.cut(now - ticket.seated_at, tokens, ticket.answer_tokens)
        self._balancer.finish(ticket, outcome, tokens, now)
        return self._dispatch(now)

    def vacate(self, ticket: Ticket, now: float) -> list[Ticket]:
        """The engine is done with it, though its answer has not been read to the end: its place is free."""
        if ticket.state is not TicketState.SEATED or not ticket.holds_place:
            return []
        self._balancer.vacate(ticket)
        return self._dispatch(now)

    def progress(self, ticket: Ticket, tokens: int, now: float) -> list[Ticket]:
        """`tokens` of its answer have come in all."""
        first = self._balancer.progress(ticket, tokens, now)
        return self._dispatch(now) if first else []

    def table_changed(self, now: float) -> list[Ticket]:
        """Replicas came, went, or became ready or not."""
        ready = self._balancer.ready_names()
        for queue in self._queues.values():
            queue.forgive(ready)
        return self._dispatch(now)

    def tick(self, now: float) -> tuple[list[Ticket], list[Ticket]]:
        """At `next_event`: those whose deadline passed while they waited, and those that left otherwise."""
        expired = []
        while (ticket := self._deadlines.pop_expired(now)) is not None:
            self._dequeue(ticket, served=False)
            expired.append(ticket)
        return expired, self._dispatch(now)

    def next_event(self, now: float) -> float | None:
        """When `tick` has something to do next, if nothing happens before; None: never."""
        if not self.waiting:
            return None
        times = (self._deadlines.next(), self._balancer.next_resume(now))
        return min((time for time in times if time is not None), default=None)

    def raise_class(self, ticket: Ticket, priority: PriorityClass, now: float) -> list[Ticket]:
        """Let a waiting ticket wait in a higher class: at its end, or, if a replica failed it, before
        those that none did. Does nothing for any other ticket, or if that class is full.
        """
        full = len(self._queues[priority]) >= self._limits[priority]
        if ticket.state is not TicketState.WAITING or priority <= ticket.priority or full:
            return []
        queued_at = ticket.queued_at
        self._dequeue(ticket, served=False)
        ticket.priority = priority
        self._enqueue(ticket, now)
        ticket.queued_at = queued_at
        queue = self._queues[priority]
        (queue.put_back if ticket.excluded or ticket.weights else queue.append)(ticket)
        return self._settle(ticket, now)

    def extend(self, ticket: Ticket, deadline: float) -> None:
        """Give a ticket more time."""
        if deadline > ticket.deadline:
            ticket.deadline = deadline
            if ticket.state is TicketState.WAITING:
                self._deadlines.add(ticket, self.waiting)

    def _check(self, ticket: Ticket, now: float) -> None:
        priority = ticket.priority
        queue, drain = self._queues[priority], self._drains[priority]
        if len(queue) >= self._limits[priority]:
            wait_s = drain.wait_s(len(queue), now)
            raise QueueFull(
                f"{len(queue)} {priority.label} requests wait already", retry_after_s=_retry(wait_s)
            )
        if len(queue) or self._balancer.choose(ticket, now) is None:
            wait_s = drain.wait_s(queue.ahead_of(ticket.user_id), now, backlog=bool(queue))
            self._check_time(ticket, wait_s or 0.0, ticket.deadline - now)

    def _check_time(self, ticket: Ticket, wait_s: float, left_s: float) -> None:
        answer_s = self._pace.answer_s(ticket.answer_tokens)
        if wait_s + answer_s > left_s:
            raise DeadlineUnmeetable(
                f"about {wait_s:.1f} s of waiting and {answer_s:.1f} s of answering lie ahead, and the "
                f"caller gives up in {left_s:.1f} s",
                retry_after_s=_retry(wait_s + answer_s - left_s),
            )

    def _enqueue(self, ticket: Ticket, now: float) -> None:
        if not self._queues[ticket.priority]:
            self._drains[ticket.priority].backlog_began(now)
        ticket.state = TicketState.WAITING
        ticket.queued_at = now
        self.waiting += 1

    def _settle(self, ticket: Ticket, now: float) -> list[Ticket]:
        granted = self._dispatch(now)
        if ticket.state is TicketState.WAITING:
            self._deadlines.add(ticket, self.waiting)
        return granted

    def _dequeue(self, ticket: Ticket, *, served: bool) -> None:
        queue = self._queues[ticket.priority]
        queue.remove(ticket, served=served)
        ticket.state = TicketState.OUT
        self.waiting -= 1
        if not self.waiting:
            self._deadlines.clear()
        if not queue:
            self._shares.emptied(ticket.priority)

    def _dispatch(self, now: float) -> list[Ticket]:
        moved = []
        while self.waiting and self._balancer.any_free(now) and (found := self._next(now)) is not None:
            ticket, slot = found
            self._dequeue(ticket, served=True)
            ticket.waited_s += now - ticket.queued_at
            if not self._hopeless(ticket, now):
                if now > ticket.queued_at:
                    self._drains[ticket.priority].dispatched(now)
                self._seat(ticket, slot, now)
            moved.append(ticket)
        return moved

    def _hopeless(self, ticket: Ticket, now: float) -> bool:
        """Whether it waited so long that its answer would be cut; one that is half delivered goes on."""
        waited, whole = now > ticket.queued_at, ticket.weights is None
        return waited and whole and ticket.deadline - now < self._pace.answer_s(ticket.answer_tokens)

    def _next(self, now: float) -> tuple[Ticket, Slot] | None:
        for ticket, due in self._candidates():
            overdue = self._shares.overdue(ticket.priority, ticket.cost)
            slot = self._balancer.choose(ticket, now, hold_back=not overdue, reserve=not due)
            if slot is not None:
                ticket.aged = due
                return ticket, slot
        return None

    def _candidates(self) -> Iterator[tuple[Ticket, bool]]:
        """Who could go next, best first: those that their class is due (True), then all in class order."""
        for priority in _SHARED:
            for ticket in self._queues[priority].heads():
                if self._shares.due(priority, ticket.cost):
                    yield ticket, True
        for priority in _ORDER:
            for ticket in self._queues[priority].heads():
                yield ticket, False

    def _seat(self, ticket: Ticket, slot: Slot, now: float) -> None:
        ticket.state = TicketState.SEATED
        ticket.seated_at = now
        if self.waiting:
            heads = {cls: next(queue.heads()).cost for cls, queue in self._queues.items() if queue}
            self._shares.dispatched(ticket.priority, ticket.cost, heads)
        self._balancer.seat(ticket, slot)


def _limits(rules: Admission) -> dict[PriorityClass, int]:
    return {
        PriorityClass.PREMIUM: rules.max_queued_premium,
        PriorityClass.STANDARD: rules.max_queued_standard,
        PriorityClass.BATCH: rules.max_queued_batch,
    }


def _shares(rules: Admission) -> dict[PriorityClass, float]:
    return {PriorityClass.STANDARD: rules.share_standard, PriorityClass.BATCH: rules.share_batch}


def _retry(wait_s: float | None) -> float:
    wait_s = _UNMEASURED_RETRY_S if wait_s is None else wait_s
    return min(max(wait_s, _SHORTEST_RETRY_S), _LONGEST_RETRY_S)
