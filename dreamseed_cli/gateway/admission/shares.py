"""Aging by guaranteed shares: how much of the engines' work a lower class may claim back (deficit counters).

With every dispatch of work w, a class that waits earns its share of w; its own dispatches are paid from that.
A class whose credit covers its next request is *due* and goes first, whatever waits above it.

The bound: while the next request of a class with share s, of cost c, waits and could be placed, the others
are given less than c / s + b of work, where b is the largest request that passes. BATCH also lets STANDARD
pass when that is due itself, which is at most (C + S b) / (1 - S) of work more, with STANDARD's share S and
its largest request C. Both bounds are properties in the tests.
"""

from __future__ import annotations

from dreamseed_cli.gateway.call import PriorityClass

MOST_CREDIT = 8192.0
"""The work in tokens that a class which could not be placed may claim afterwards; at least two requests."""


class Shares:
    """Credits in tokens. A class that nobody waits in has none: it was given all that it asked for."""

    def __init__(self, shares: dict[PriorityClass, float]) -> None:
        self._shares: dict[PriorityClass, float] = {}
        self._credit: dict[PriorityClass, float] = {}
        self.take(shares)

    def take(self, shares: dict[PriorityClass, float]) -> None:
        """Guarantee these shares from now on; a class that goes on having one keeps its credit."""
        self._shares = {cls: share for cls, share in shares.items() if share > 0}
        self._credit = {cls: self._credit.get(cls, 0.0) for cls in self._shares}

    def dispatched(self, priority: PriorityClass, cost: int, heads: dict[PriorityClass, int]) -> None:
        """Work of a class went to an engine; heads: the classes that wait, with their next request's cost."""
        for cls, share in self._shares.items():
            if cls not in heads:
                self._credit[cls] = 0.0
                continue
            credit = self._credit[cls] + share * cost - (cost if cls is priority else 0)
            self._credit[cls] = min(max(credit, 0.0), max(MOST_CREDIT, 2.0 * heads[cls]))

    def emptied(self, priority: PriorityClass) -> None:
        """Nobody waits in this class any more."""
        if priority in self._credit:
            self._credit[priority] = 0.0

    def due(self, priority: PriorityClass, cost: int) -> bool:
        """Whether a request of this class and cost goes before all higher classes."""
        return self._credit.get(priority, -1.0) >= cost

    def overdue(self, priority: PriorityClass, cost: int) -> bool:
        """Whether it has been passed over so long that it is not held back any more either."""
        return self._credit.get(priority, -1.0) >= 2 * cost
