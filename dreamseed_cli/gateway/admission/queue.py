"""The scheduler in an event loop: calls wait for a place by a future each, deadlines by one timer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable

from dreamseed_cli.engine.types import EngineTimeout
from dreamseed_cli.gateway.admission.scheduler import Scheduler
from dreamseed_cli.gateway.admission.ticket import Ticket, TicketState
from dreamseed_cli.gateway.call import PriorityClass
from dreamseed_cli.gateway.slot import Outcome
from dreamseed_cli.profile.schema import Admission


class AdmissionQueue:
    """Make it inside a running event loop. Whoever enters a ticket leaves with it, whatever happens."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._loop = asyncio.get_running_loop()
        self._waiting: dict[Ticket, asyncio.Future[None]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = float("inf")

    def length(self, priority: PriorityClass) -> int:
        return self._scheduler.length(priority)

    def take_rules(self, rules: Admission) -> None:
        """Go by these rules from now on; whoever waits goes on waiting."""
        self._wake(self._scheduler.take_rules(rules, time.monotonic()))

    async def enter(self, ticket: Ticket) -> None:
        """Wait until the ticket has a replica. Raises QueueFull, DeadlineUnmeetable, or EngineTimeout."""
        self._wake(self._scheduler.submit(ticket, time.monotonic()))
        if ticket.state is TicketState.WAITING:
            await self._wait(ticket)

    async def enter_again(self, ticket: Ticket) -> None:
        """The same for a ticket that a replica failed: it goes before those of its class that wait."""
        self._wake(self._scheduler.put_back(ticket, time.monotonic()))
        if ticket.state is TicketState.WAITING:
            await self._wait(ticket)

    def progress(self, ticket: Ticket, tokens: int) -> None:
        """`tokens` of its answer have come in all."""
        self._wake(self._scheduler.progress(ticket, tokens, time.monotonic()))

    def vacate(self, ticket: Ticket) -> None:
        """Its answer has arrived, though nobody may have read it to the end: the place is free."""
        self._wake(self._scheduler.vacate(ticket, time.monotonic()))

    def leave(self, ticket: Ticket, outcome: Outcome, tokens: int = 0) -> None:
        """Give up whatever the ticket has: a wait, a replica, or nothing any more."""
        if ticket.state is TicketState.WAITING:
            self._scheduler.cancel(ticket)
        elif ticket.state is TicketState.SEATED:
            self._wake(self._scheduler.release(ticket, outcome, tokens, time.monotonic()))
            if outcome is not Outcome.FINISHED:
                self._set_timer()  # its replica may pause now

    def table_changed(self) -> None:
        """Replicas came, went, or became ready or not."""
        self._wake(self._scheduler.table_changed(time.monotonic()))
        self._set_timer()

    def hasten(self, ticket: Ticket, priority: PriorityClass, deadline: float) -> None:
        """Raise a ticket to a class, if it waits in a lower one, and give it until `deadline` at least."""
        self._scheduler.extend(ticket, deadline)
        self._wake(self._scheduler.raise_class(ticket, priority, time.monotonic()))

    async def _wait(self, ticket: Ticket) -> None:
        future = self._loop.create_future()
        self._waiting[ticket] = future
        self._set_timer()
        try:
            await future
        except BaseException:
            # A cancel can come after the grant and before this task runs: then the place goes on.
            self.leave(ticket, Outcome.CANCELLED)
            raise
        finally:
            del self._waiting[ticket]
        if ticket.state is not TicketState.SEATED:
            raise EngineTimeout("no engine had a place in time for an answer")

    def _wake(self, tickets: Iterable[Ticket]) -> None:
        for ticket in tickets:
            future = self._waiting.get(ticket)
            if future is not None and not future.done():
                future.set_result(None)

    def _set_timer(self) -> None:
        now = time.monotonic()
        due = self._scheduler.next_event(now)
        if due is None or due >= self._timer_at:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = due
        self._timer = self._loop.call_later(max(0.0, due - now), self._tick)

    def _tick(self) -> None:
        self._timer, self._timer_at = None, float("inf")
        expired, granted = self._scheduler.tick(time.monotonic())
        self._wake(expired)
        self._wake(granted)
        self._set_timer()
