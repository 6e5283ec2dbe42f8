"""The search for the most that keeps the SLO: a bracket that is narrowed, with every trial passed in. Pure.

A load that is kept raises the floor, one that is not lowers the ceiling. As long as one of them is missing it
goes on in larger and larger steps; from then on it halves what is between (geometrically). Loads near the
edge pass by luck, so what was found counts once a second, independent trial confirms it; if that fails, the
floor falls.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

_MOST_TRIALS = 16


@dataclass
class Search:
    """Ask `next()` for a load, try it, tell `note()`; done when `next()` is None.

    start: a first guess. tolerance: the bracket's width, as a share, at which it ends. whole: loads are whole
    numbers (users). step: the first factor by which it climbs or falls; small if the guess is good.
    """

    start: float
    tolerance: float = 0.03
    whole: bool = False
    step: float = 1.1
    kept: float | None = None
    """The highest load that kept the SLO and was not contradicted."""
    failed: float | None = None
    """The lowest one that did not."""
    confirmed: bool = False
    trials: int = 0
    _steps: int = 0
    """So many in one direction, without the bracket's other end."""

    def next(self) -> float | None:
        """The load to try, or None: `kept` is the answer (None: not even the least load was kept)."""
        if self.confirmed or self.trials >= _MOST_TRIALS:
            return None
        kept, failed = self.kept, self.failed
        if failed is None:
            return self._rounded(self.start if kept is None else kept * self._stride)
        if kept is None:
            return self._rounded(failed / self._stride) if failed > self._least else None
        return kept if self._narrow(kept, failed) else self._rounded(math.sqrt(kept * failed))

    def note(self, load: float, *, kept: bool) -> None:
        """What came of a trial."""
        self.trials += 1
        if not kept:
            self.failed = load if self.failed is None else min(load, self.failed)
            if self.kept is not None and self.kept >= load:
                self.kept = None  # it passed by luck
        elif self.kept == load:
            self.confirmed = True
        else:
            self.kept = load if self.kept is None else max(load, self.kept)
        self._steps = self._steps + 1 if self.kept is None or self.failed is None else 0

    @property
    def left(self) -> int:
        """Trials that there may still be."""
        return 0 if self.confirmed else _MOST_TRIALS - self.trials

    @property
    def _stride(self) -> float:
        return float(self.step**self._steps)

    @property
    def _least(self) -> float:
        return 1.0 if self.whole else self.start / 64

    def _narrow(self, kept: float, failed: float) -> bool:
        return failed / kept <= 1 + self.tolerance or (self.whole and failed - kept <= 1)

    def _rounded(self, load: float) -> float:
        """A whole number where loads are, and never an end of the bracket: it would tell nothing new."""
        if not self.whole:
            return load
        above = self.kept + 1 if self.kept is not None else 1.0
        below = self.failed - 1 if self.failed is not None else math.inf
        return max(above, min(below, float(round(load))))
