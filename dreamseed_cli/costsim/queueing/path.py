"""A request's whole way in virtual time: Cloud Run, the gateway and its cards, the fallback (§A2).

What the CDN or the answer cache answers never comes to the queue: it is counted, and holds its place in Cloud
Run if it came so far. Each AI request that must be generated is followed to its end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dreamseed_cli.costsim.queueing.arrivals import Asked
from dreamseed_cli.costsim.queueing.batching import NEVER, CardTotals
from dreamseed_cli.costsim.queueing.cloud_run import CloudRun, CloudRunTotals
from dreamseed_cli.costsim.queueing.farm import Farm, Request
from dreamseed_cli.costsim.queueing.outcome import Ending, Floats
from dreamseed_cli.costsim.queueing.system import Fallback, System
from dreamseed_cli.gateway.admission.ticket import Ticket
from dreamseed_cli.gateway.call import PriorityClass


@dataclass(frozen=True, slots=True, eq=False)
class Trail:
    """What became of each AI request, in the order of `Asked`. Times are seconds; NaN: never reached."""

    ending: Sequence[Ending]
    waited_s: Floats
    """In the gateway's queue, of those that got a card."""
    first_at: Floats
    """The first token leaves the card."""
    end_at: Floats
    emitted: Sequence[int]


@dataclass(frozen=True, slots=True)
class Sums:
    """The running totals at one moment."""

    cards: Sequence[CardTotals]
    cloud_run: CloudRunTotals


class Path:
    """Walks all requests through the system; use once. `plain`: other requests to Cloud Run in each tick."""

    def __init__(self, asked: Asked, plain: Sequence[int], system: System) -> None:
        count = len(asked)
        self._asked = asked
        self._at = asked.at_s.tolist()
        self._class = [PriorityClass(one) for one in asked.priority.tolist()]
        self._prompt: list[int] = asked.prompt_tokens.tolist()
        self._answer: list[int] = asked.answer_tokens.tolist()
        self._user = [f"u{one}" for one in asked.user.tolist()]
        self._fallback = system.fallback
        self._farm = Farm(system.cards, system.replicas, system.admission, ended=self._ended)
        self._cloud = CloudRun(system.cloud_run, plain, let_in=self._let_in, turned_away=self._turned_away)
        self._ending: list[Ending | None] = [None] * count
        self._waited = [float("nan")] * count
        self._first = [float("nan")] * count
        self._end = [float("nan")] * count
        self._emitted = [0] * count
        self._begun = 0
        """AI requests that have come."""

    def walk(self, since: float, until: float) -> tuple[Trail, Sums, Sums]:
        """To the last request's end; also the totals at both moments."""
        before = self._run(since)
        self._cloud.reset_peak()
        after = self._run(until)
        self._run(NEVER)
        return self._trail(), before, after

    def _run(self, until: float) -> Sums:
        """Everything before that moment, or everything there is."""
        at, farm, cloud = self._at, self._farm, self._cloud
        count, index = len(at), self._begun
        while True:
            arrival = at[index] if index < count else NEVER
            tick = NEVER if index == count and cloud.idle else cloud.next_at
            due = farm.next_at
            now = min(arrival, tick, due)
            if now >= until:
                break
            if now == due:
                farm.advance(now)
            elif now == arrival:
                if cloud.enter(index, now):
                    self._let_in(index, now)
                index += 1
            else:
                cloud.tick()
        self._begun = index
        return Sums(farm.totals(until), cloud.totals) if until < NEVER else Sums((), cloud.totals)

    def _let_in(self, index: int, now: float) -> None:
        priority = self._class[index]
        deadline = now + self._asked.deadlines_s[priority]
        ticket = Ticket(
            priority, self._prompt[index], self._asked.allowed_tokens, deadline, self._user[index]
        )
        self._farm.submit(Request(index, self._answer[index], ticket), now)

    def _ended(self, request: Request, ending: Ending, now: float) -> None:
        index, ticket = request.index, request.ticket
        self._ending[index] = ending
        self._end[index] = now
        self._emitted[index] = request.emitted
        if request.replica >= 0:
            self._waited[index] = ticket.waited_s
        if request.first_at < NEVER:
            self._first[index] = request.first_at
        if falls_back(self._fallback, ticket.priority, ending):
            self._cloud.leave(now, at=now + self._fallback_s(index))
        else:
            self._cloud.leave(now)

    def _turned_away(self, index: int, now: float) -> None:
        self._ending[index] = Ending.CLOUD_RUN_FULL
        self._end[index] = now

    def _fallback_s(self, index: int) -> float:
        fallback = self._fallback or Fallback()
        return fallback.first_token_s + self._answer[index] / fallback.tok_s

    def _trail(self) -> Trail:
        endings = [one for one in self._ending if one is not None]
        if len(endings) != len(self._ending):
            raise RuntimeError("a request of the simulation never ended")
        return Trail(
            endings, np.array(self._waited), np.array(self._first), np.array(self._end), self._emitted
        )


def falls_back(fallback: Fallback | None, priority: PriorityClass, ending: Ending) -> bool:
    """Whether the fallback answers it: refused by the gateway or never seated. Cloud Run's own 429 reaches
    nobody who could ask the fallback, and an answer that has begun is not begun again elsewhere.
    """
    if fallback is None or ending in {Ending.ANSWERED, Ending.CUT, Ending.CLOUD_RUN_FULL}:
        return False
    return priority in fallback.classes
