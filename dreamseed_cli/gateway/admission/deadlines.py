"""Whose deadline passes next among those that wait."""

from __future__ import annotations

import itertools
from heapq import heapify, heappop, heappush

from dreamseed_cli.gateway.admission.ticket import Ticket, TicketState

_SPARE = 64


class Deadlines:
    """A heap with an entry for each wait; those of tickets that left are dropped when they come up, or when
    they outnumber the rest.
    """

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Ticket]] = []
        self._numbers = itertools.count()

    def __len__(self) -> int:
        return len(self._heap)

    def add(self, ticket: Ticket, waiting: int) -> None:
        """Watch a ticket that waits; waiting: how many do in all."""
        heappush(self._heap, (ticket.deadline, next(self._numbers), ticket))
        if len(self._heap) > 2 * waiting + _SPARE:
            watched = {entry[2]: entry for entry in self._heap if _counts(entry)}
            self._heap = list(watched.values())
            heapify(self._heap)

    def clear(self) -> None:
        """Nobody waits: keep no ticket of those that have left until its deadline."""
        self._heap.clear()

    def pop_expired(self, now: float) -> Ticket | None:
        """One that waits and whose deadline has passed. It may be watched twice: take it from its queue
        before asking again.
        """
        while self._heap and (self._heap[0][0] <= now or not _counts(self._heap[0])):
            entry = heappop(self._heap)
            if _counts(entry):
                return entry[2]
        return None

    def next(self) -> float | None:
        """The earliest deadline; may be one of a ticket that has left."""
        return self._heap[0][0] if self._heap else None


def _counts(entry: tuple[float, int, Ticket]) -> bool:
    deadline, _, ticket = entry
    return ticket.state is TicketState.WAITING and deadline == ticket.deadline
