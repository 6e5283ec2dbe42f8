"""The gateway and its cards in virtual time: the gateway's own scheduler and balancer before jump cards.

The scheduler is told of first tokens and ends as it is in service. Tokens in between only lower what its
balancer thinks is left to do on a replica (`outstanding_tokens`): they are taken off in one sum whenever it
is about to compare replicas, instead of one at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from heapq import heappop, heappush

from dreamseed_cli.costsim.queueing.batching import NEVER, CardTotals, Job, JumpCard
from dreamseed_cli.costsim.queueing.card import CardModel
from dreamseed_cli.costsim.queueing.outcome import Ending
from dreamseed_cli.gateway.admission.scheduler import Scheduler
from dreamseed_cli.gateway.admission.ticket import Ticket, TicketState
from dreamseed_cli.gateway.balancer import Balancer
from dreamseed_cli.gateway.refusals import QueueFull, TryLater
from dreamseed_cli.gateway.slot import Outcome, Slot
from dreamseed_cli.profile.schema import Admission


class Request(Job):
    """A job that goes through the gateway's queue. Times are seconds of the simulation."""

    __slots__ = ("first_at", "index", "replica", "ticket")

    def __init__(self, index: int, wanted: int, ticket: Ticket) -> None:
        super().__init__(ticket.prompt_tokens, wanted)
        self.index = index
        self.ticket = ticket
        self.replica = -1
        self.first_at = NEVER


class Farm:
    """Replicas behind one gateway. Call `advance` at `next_at`, `submit` at any time before it."""

    def __init__(
        self,
        cards: CardModel,
        replicas: int,
        rules: Admission,
        *,
        ended: Callable[[Request, Ending, float], None],
    ) -> None:
        steps_ms = cards.steps_ms().tolist()
        self._cards = [JumpCard(cards.card, cards.max_num_seqs, steps_ms) for _ in range(replicas)]
        self._slots = [Slot(f"r{number}", True, cards.max_num_seqs) for number in range(replicas)]
        self._numbers = {slot.name: number for number, slot in enumerate(self._slots)}
        self._balancer = Balancer(rules)
        self._balancer.replace(self._slots)
        self._scheduler = Scheduler(rules, self._balancer)
        self._nexts = [NEVER] * replicas
        self._give_ups: list[tuple[float, int, Request]] = []
        self._requests: dict[Ticket, Request] = {}
        self._tell = ended
        self._now = 0.0

    @property
    def next_at(self) -> float:
        """When `advance` has something to do, if nothing is submitted before; infinite: never."""
        due = min(self._nexts, default=NEVER)
        give_ups = self._give_ups
        while give_ups and give_ups[0][2].ticket.state is not TicketState.SEATED:
            heappop(give_ups)
        if give_ups and give_ups[0][0] < due:
            due = give_ups[0][0]
        if self._scheduler.waiting:
            told = self._scheduler.next_event(self._now)
            if told is not None and told < due:
                return max(told, self._now)
        return due

    def submit(self, request: Request, now: float) -> None:
        """A request comes to the gateway."""
        self._now = now
        self._requests[request.ticket] = request
        if not self._cards:
            self._ended(request, Ending.NO_REPLICA, now)
            return
        if len(self._cards) > 1:
            self._note_tokens(now)
        try:
            moved = self._scheduler.submit(request.ticket, now)
        except TryLater as refusal:
            full = isinstance(refusal, QueueFull)
            self._ended(request, Ending.QUEUE_FULL if full else Ending.DEADLINE, now)
            return
        self._place(moved, now)

    def advance(self, now: float) -> None:
        """What is due now: ends of jumps, deadlines of those that wait and of those that are answered."""
        self._now = now
        for number, due in enumerate(self._nexts):
            if due <= now:
                self._card_event(number, now)
        while self._give_ups and self._give_ups[0][0] <= now:
            request = heappop(self._give_ups)[2]
            if request.ticket.state is TicketState.SEATED:
                self._cut(request, now)
        due_now = self._scheduler.next_event(now)
        if due_now is not None and due_now <= now:
            expired, moved = self._scheduler.tick(now)
            self._place(moved, now)
            self._place(expired, now)

    def totals(self, now: float) -> list[CardTotals]:
        """What each card has done by now."""
        return [card.totals(now) for card in self._cards]

    def _card_event(self, number: int, now: float) -> None:
        card, slot = self._cards[number], self._slots[number]
        firsts, finished = card.event()
        self._nexts[number] = card.next_at
        if self._scheduler.waiting and len(self._cards) > 1:
            self._note_tokens(now)
        else:
            self._take_off(slot, card.note_tokens(now))
        for job in firsts:
            request = _request(job)
            request.first_at = now
            if request.ticket.state is TicketState.SEATED:
                self._place(self._scheduler.progress(request.ticket, 1, now), now)
        for job in finished:
            request = _request(job)
            ticket = request.ticket
            if ticket.state is TicketState.SEATED:
                ticket.remaining = ticket.answer_tokens - request.emitted
                moved = self._scheduler.release(ticket, Outcome.FINISHED, request.emitted, now)
                self._place(moved, now)
                self._ended(request, Ending.ANSWERED, now)

    def _cut(self, request: Request, now: float) -> None:
        card, slot = self._cards[request.replica], self._slots[request.replica]
        emitted = card.cancel(request, now)
        self._nexts[request.replica] = card.next_at
        self._take_off(slot, card.note_tokens(now))
        ticket = request.ticket
        if not ticket.prefilling:
            ticket.remaining = ticket.answer_tokens - emitted
        self._place(self._scheduler.release(ticket, Outcome.CANCELLED, emitted, now), now)
        self._ended(request, Ending.CUT, now)

    def _place(self, moved: Iterable[Ticket], now: float) -> None:
        """Those that left the queue go to their cards, or are told that there is no time left."""
        for ticket in moved:
            request = self._requests[ticket]
            slot = ticket.slot
            if slot is None:
                self._ended(request, Ending.EXPIRED, now)
                continue
            number = request.replica = self._numbers[slot.name]
            request.rank = (ticket.engine_priority, 0)
            self._cards[number].submit(request, now)
            self._nexts[number] = self._cards[number].next_at
            if ticket.deadline < NEVER:
                heappush(self._give_ups, (ticket.deadline, request.index, request))

    def _ended(self, request: Request, ending: Ending, now: float) -> None:
        del self._requests[request.ticket]
        self._tell(request, ending, now)

    def _note_tokens(self, now: float) -> None:
        for card, slot in zip(self._cards, self._slots, strict=True):
            self._take_off(slot, card.note_tokens(now))

    def _take_off(self, slot: Slot, tokens: int) -> None:
        if tokens:
            slot.outstanding_tokens -= tokens
            self._balancer.totals.outstanding_tokens -= tokens


def _request(job: Job) -> Request:
    if not isinstance(job, Request):
        raise TypeError("a farm's cards hold its own requests only")
    return job
