"""Many alike told as one, where anybody could cause events without end. Pure; time is passed in."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

_Item = TypeVar("_Item")
ALONE = 20
WINDOW_S = 1.0
"""As long as a power cut may cost of the journal: no more is lost with a process that is killed."""


class Flood(Generic[_Item]):
    """In each window the first `ALONE` items are told one by one. The others are folded by their kind and
    told when it ends: the first of a kind, with how many it stands for. Nothing is dropped.

    kind: what folded items have in common. plain: the item without what tells most kinds apart; beyond
    `most_kinds` in a window, items are folded as that.
    """

    def __init__(
        self, kind: Callable[[_Item], Hashable], plain: Callable[[_Item], _Item], *, most_kinds: int
    ) -> None:
        self._kind = kind
        self._plain = plain
        self._most_kinds = most_kinds
        self.ends = -math.inf
        """When the window ends."""
        self._left = 0
        self._folded: dict[Hashable, tuple[_Item, int]] = {}

    @property
    def folds(self) -> bool:
        """Whether there is something that `end` tells."""
        return bool(self._folded)

    def add(self, item: _Item, now: float) -> list[tuple[_Item, int]]:
        """One more; what is to be told now, each with its number. now: seconds of any steady clock."""
        told = self.over(now)
        if now >= self.ends:
            self.ends, self._left = now + WINDOW_S, ALONE
        if self._left:
            self._left -= 1
            told.append((item, 1))
        else:
            self._fold(item)
        return told

    def over(self, now: float) -> list[tuple[_Item, int]]:
        """What was folded, if the window is over."""
        return self.end() if now >= self.ends else []

    def end(self) -> list[tuple[_Item, int]]:
        """What was folded: the window ends here, whatever its time."""
        self.ends = -math.inf
        folded, self._folded = list(self._folded.values()), {}
        return folded

    def held(self) -> int:
        """How many items are folded at present."""
        return sum(count for _, count in self._folded.values())

    def _fold(self, item: _Item) -> None:
        kind = self._kind(item)
        if kind not in self._folded and len(self._folded) >= self._most_kinds:
            item = self._plain(item)
            kind = self._kind(item)
        first, count = self._folded.get(kind, (item, 0))
        self._folded[kind] = (first, count + 1)
