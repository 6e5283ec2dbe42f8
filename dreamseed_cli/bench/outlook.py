"""How much of a suite is still before it, from what it planned. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

_MINUTE_S = 60.0
_HOUR_S = 3600.0


@dataclass(frozen=True, slots=True)
class Ahead:
    """What comes after the cell that begins: how many cells and how long, as planned.

    What a cell takes beyond its length (its start, the last answers) is not in it. at_most: a search, or a
    sweep that ends when it has seen enough.
    """

    cells: int
    seconds: float
    at_most: bool = False

    def left(self, now_s: float = 0.0) -> str:
        """`~4 min of the suite`, with what the cell itself still has; `at most ~4 min of the suite`."""
        return f"{'at most ' if self.at_most else ''}~{about(now_s + self.seconds)} of the suite"


class Outlook:
    """What a suite said it would do. A later plan replaces what is left of the one before."""

    def __init__(self) -> None:
        self._seconds: deque[float] = deque()
        self._at_most = False

    def plan(self, seconds: Sequence[float], *, at_most: bool = False) -> None:
        """The lengths of the cells from the next one on."""
        self._seconds, self._at_most = deque(seconds), at_most

    def begin(self) -> Ahead | None:
        """A cell begins; what comes after it. None: the suite has not said."""
        if not self._seconds:
            return None
        self._seconds.popleft()
        return Ahead(len(self._seconds), sum(self._seconds), self._at_most)


def about(seconds: float) -> str:
    """`40 s`, `12 min`, `1 h 20 min`: no finer than a plan is kept."""
    if seconds < 2 * _MINUTE_S:
        return f"{seconds:.0f} s"
    if seconds < _HOUR_S - _MINUTE_S / 2:
        return f"{seconds / _MINUTE_S:.0f} min"
    hours, minutes = divmod(round(seconds / _MINUTE_S), 60)
    return f"{hours} h {minutes} min"
