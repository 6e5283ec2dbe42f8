"""Emulated cards and the real scheduler in virtual time: minutes of load in seconds, the same every time.

The gateway's own scheduler and the emulated engine's, both pure, are run by one event queue in place of
sockets and clocks. What the gateway takes on its way to an engine and back is `HOP_S`.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from dreamseed_cli.engine.emulated.scheduler import Scheduler as Engine
from dreamseed_cli.engine.emulated.scheduler import Sequence
from dreamseed_cli.gateway.admission.scheduler import Scheduler
from dreamseed_cli.gateway.admission.ticket import Ticket
from dreamseed_cli.gateway.balancer import Balancer
from dreamseed_cli.gateway.call import PriorityClass
from dreamseed_cli.gateway.refusals import TryLater
from dreamseed_cli.gateway.slot import Outcome, Slot
from dreamseed_cli.profile.schema import Admission, EmulatedEngine

HOP_S = 0.001
"""Between gateway and engine, each way: what `gateway_overhead.py` measured, both added."""
MEDIAN_ANSWER, SPREAD = 180, 0.5
"""The emulated engine's answers, in tokens: lognormal."""


@dataclass
class Seen:
    """What happened after `since`. Times are seconds, lengths tokens, keys classes."""

    since: float
    ttft_s: dict[PriorityClass, list[float]] = field(default_factory=lambda: defaultdict(list))
    answers: Counter[PriorityClass] = field(default_factory=Counter)
    work: Counter[PriorityClass] = field(default_factory=Counter)
    generated: int = 0
    delivered: int = 0
    cut: Counter[PriorityClass] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    retry_after_s: list[float] = field(default_factory=list)


class VirtualStand:
    """One gateway before an engine's replicas, all of them virtual."""

    def __init__(
        self,
        engine: EmulatedEngine,
        rules: Admission,
        *,
        prompts: dict[PriorityClass, int],
        answer: int,
        patience_s: dict[PriorityClass, float],
        since: float,
    ) -> None:
        balancer = Balancer(rules)
        slots = [Slot(f"r{index}", True, engine.max_num_seqs) for index in range(engine.replicas)]
        balancer.replace(slots)
        self.seen = Seen(since)
        self._scheduler = Scheduler(rules, balancer)
        self._engines = {slot: Engine(engine.card, engine.max_num_seqs) for slot in slots}
        self._busy: set[Slot] = set()
        self._prompts, self._answer, self._patience_s = prompts, answer, patience_s
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self._now = 0.0
        self._owners: dict[Sequence, Ticket] = {}
        self._arrivals: dict[Ticket, tuple[float, int]] = {}

    def load(self, cls: PriorityClass, rate: float, until: float, users: int = 40) -> None:
        """Requests of a class as a Poisson process, the same ones for the same class and rate."""
        rng = random.Random(int(cls))  # noqa: S311 - times and lengths, not secrets
        at = 0.0
        while (at := at + rng.expovariate(rate)) < until:
            length = max(1, min(int(rng.lognormvariate(0, SPREAD) * MEDIAN_ANSWER), self._answer))
            user = f"u{rng.randrange(users)}"
            self._at(at, lambda length=length, user=user: self._arrive(cls, length, user))  # type: ignore[misc]

    def run(self, until: float) -> Seen:
        """Let time pass."""
        while self._events and self._events[0][0] <= until:
            self._now, _, event = heapq.heappop(self._events)
            event()
            due = self._scheduler.next_event(self._now)
            if due is not None and due <= self._now:
                self._send(self._scheduler.tick(self._now)[1])
        return self.seen

    def _at(self, time: float, event: Callable[[], None]) -> None:
        heapq.heappush(self._events, (time, next(self._numbers), event))

    def _arrive(self, cls: PriorityClass, length: int, user: str) -> None:
        ticket = Ticket(cls, self._prompts[cls], self._answer, self._now + self._patience_s[cls], user)
        self._arrivals[ticket] = self._now, length
        try:
            self._send(self._scheduler.submit(ticket, self._now))
        except TryLater as refusal:
            if self._now >= self.seen.since:
                self.seen.refused[f"{cls.label} {refusal.reason}"] += 1
                self.seen.retry_after_s.append(refusal.retry_after_s)

    def _send(self, moved: Iterable[Ticket]) -> None:
        for ticket in moved:
            if ticket.slot is not None:
                slot = ticket.slot
                self._at(self._now + HOP_S, lambda ticket=ticket, slot=slot: self._start(ticket, slot))  # type: ignore[misc]

    def _start(self, ticket: Ticket, slot: Slot) -> None:
        length = self._arrivals[ticket][1]
        sequence = Sequence(ticket.prompt_tokens, length, priority=ticket.engine_priority)
        self._owners[sequence] = ticket
        self._engines[slot].submit(sequence)
        self._at(max(ticket.deadline, self._now), lambda: self._give_up(sequence, slot))
        if slot not in self._busy:
            self._step(slot, self._now)

    def _give_up(self, sequence: Sequence, slot: Slot) -> None:
        ticket = self._owners.pop(sequence, None)
        if ticket is not None:
            self._engines[slot].cancel(sequence)
            self.seen.cut[ticket.priority] += self._now >= self.seen.since
            self._send(self._scheduler.release(ticket, Outcome.CANCELLED, sequence.emitted, self._now))

    def _step(self, slot: Slot, start: float) -> None:
        engine = self._engines[slot]
        step = engine.start_step(start)
        if step is None:
            self._busy.discard(slot)
            return
        self._busy.add(slot)

        def end() -> None:
            finished = engine.finish_step(step)
            self._step(slot, step.due)
            self._at(step.due + HOP_S, lambda: self._hear(step.emitting, finished))

        self._at(step.due, end)

    def _hear(self, emitting: Iterable[Sequence], finished: Iterable[Sequence]) -> None:
        for sequence in emitting:
            ticket = self._owners.get(sequence)
            if ticket is not None:
                self._note_token(ticket)
                self._send(self._scheduler.progress(ticket, sequence.emitted, self._now))
        for sequence in finished:
            ticket = self._owners.pop(sequence, None)
            if ticket is not None:
                self._note_answer(ticket, sequence)
                self._send(self._scheduler.release(ticket, Outcome.FINISHED, sequence.emitted, self._now))

    def _note_token(self, ticket: Ticket) -> None:
        arrived = self._arrivals[ticket][0]
        self.seen.generated += self._now >= self.seen.since
        if ticket.prefilling and arrived >= self.seen.since:
            self.seen.ttft_s[ticket.priority].append(self._now + HOP_S - arrived)

    def _note_answer(self, ticket: Ticket, sequence: Sequence) -> None:
        if self._now >= self.seen.since:
            self.seen.answers[ticket.priority] += 1
            self.seen.work[ticket.priority] += sequence.prompt_tokens + sequence.emitted
            self.seen.delivered += sequence.emitted


def saturated(
    engine: EmulatedEngine, prompt: int, answer: int, since: float, until: float
) -> tuple[float, float]:
    """Tokens and requests a second of all cards without a gateway, each with more to do than places."""
    rng = random.Random(5)  # noqa: S311 - lengths, not secrets
    card = Engine(engine.card, engine.max_num_seqs)
    now, tokens, requests = 0.0, 0, 0
    new = engine.max_num_seqs + 32
    while now < until:
        for _ in range(new):
            length = max(1, min(int(rng.lognormvariate(0, SPREAD) * MEDIAN_ANSWER), answer))
            card.submit(Sequence(prompt, length))
        step = card.start_step(now)
        if step is None:
            break
        new, now = len(card.finish_step(step)), step.due
        if now > since:
            tokens += len(step.emitting)
            requests += new
    return engine.replicas * tokens / (until - since), engine.replicas * requests / (until - since)
