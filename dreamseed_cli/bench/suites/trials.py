"""Trials of a load for the `capacity` suite: how long each is, and whether it told enough to judge by."""

from __future__ import annotations

from dataclasses import dataclass
from math import log
from typing import Protocol

from msgspec.structs import replace

from dreamseed_cli.bench.result import CellResult
from dreamseed_cli.bench.shapes import Cell, Users
from dreamseed_cli.bench.suites.base import Bench
from dreamseed_cli.bench.suites.cells import ANSWER_TOKENS, at_least, make_cell, rate_of
from dreamseed_cli.bench.suites.search import Search

CYCLE_S = 60.0
"""§B1: 450 requests a minute are 450 users who each ask once a minute."""

_SECONDS = 30.0
_TOLERANCE = 0.03
_ANSWERS_LONG = 3.0
"""How many answers at saturation a trial of a rate lasts at least, one after another."""
_TO_SEE_A_QUEUE = 6.0
"""And how many of its own answers: in half of that the batch fills (`overload.ANSWERS_TO_FILL`)."""
_LONGEST = 4
"""Times its first length: up to that a trial of a rate is prolonged before it is called over capacity."""
_USERS_STEP = 1 + 2 * _TOLERANCE
"""The rate is known within the tolerance when the search for users begins: they are close by."""
_CYCLES = 2.5
"""How long a trial of users lasts."""
_LEAST_PAUSE_S = 1.0
_OTHER_PAUSES = 2
"""So often in one search for users a trial is done again because its users asked at another pace."""


class Trials(Protocol):
    """A search and what its trials are."""

    @property
    def search(self) -> Search: ...

    def cell(self, load: float) -> Cell:
        """The next trial of a load."""

    def told(self, load: float, result: CellResult) -> bool:
        """Whether a trial may be judged; if not, the next cell of the same load will tell more."""

    def ahead_s(self) -> list[float]:
        """The lengths of the trials that may still come, at most."""


def good_so_far(cell: CellResult, attainment: float) -> bool:
    """Whether enough of a load's requests were good, and the load was what was asked."""
    return cell.valid and not cell.partial and cell.slo_attainment.value >= attainment


def sustained(cell: CellResult, attainment: float) -> bool:
    """Whether a load was held: good so far, and no queue grew behind it, which makes it bad later."""
    return good_so_far(cell, attainment) and not cell.over_capacity


def cycle_s(cell: CellResult) -> float | None:
    """In what time each user of a cell asked once: thinking and the answer; None where that is not told."""
    think_s = cell.shape.get("think_s")
    return think_s + cell.e2e.mean.value / 1000 if think_s is not None and cell.e2e else None


@dataclass
class RateTrials:
    """Rates. While a batch fills, any load seems to hold, and the number under way grows as a queue does.

    So a good trial in which it grew, or that was too short to see it, is done again at twice the length, up
    to `_LONGEST`; only what grows still then is called over capacity. Those that follow keep the length, for
    their loads are close by.
    """

    bench: Bench
    search: Search
    answer_s: float
    longer: int = 1
    begun: int = 0

    def cell(self, load: float) -> Cell:
        """Each with arrivals of its own."""
        name, number = f"rate-{load:.4g}-{self.begun}", self.begun
        self.begun += 1
        shape = rate_of(self.bench, load)
        cell = make_cell(self.bench, name, shape, seconds=_SECONDS, tokens=ANSWER_TOKENS, trial=number)
        return replace(cell, duration_s=self._first_s() * self.longer)

    def told(self, load: float, result: CellResult) -> bool:
        """Bad answers tell at once."""
        own_s = result.e2e.mean.value / 1000 if result.e2e else 0.0
        grew = result.over_capacity or self._first_s() * self.longer < _TO_SEE_A_QUEUE * own_s
        if not grew or self.longer >= _LONGEST or not good_so_far(result, self.bench.slo.attainment):
            return True
        self.longer *= 2
        return False

    def ahead_s(self) -> list[float]:
        """As if all took the longest, and two had to be done again."""
        return [self._first_s() * _LONGEST] * (self.search.left + (_LONGEST // self.longer) // 2)

    def _first_s(self) -> float:
        return max(self.bench.lasting(_SECONDS), _ANSWERS_LONG * self.answer_s)


@dataclass
class UserTrials:
    """Users who ask once in `CYCLE_S`, the answer included: they think for what the answer leaves of it.

    How long answers take is known from the trial of the nearest load. If the answers of a trial took so much
    longer that its users asked less often, being good tells nothing (nor does being bad, if they asked more
    often): it is done again.
    """

    bench: Bench
    search: Search
    answers_s: dict[float, float]
    begun: int = 0
    again: int = _OTHER_PAUSES

    def cell(self, load: float) -> Cell:
        """Never shorter than two cycles."""
        near = min(self.answers_s, key=lambda known: abs(log(known / load)))
        shape = Users(int(load), max(_LEAST_PAUSE_S, CYCLE_S - self.answers_s[near]))
        name, number = f"users-{int(load)}-{self.begun}", self.begun
        self.begun += 1
        cell = make_cell(
            self.bench, name, shape, seconds=_CYCLES * CYCLE_S, tokens=ANSWER_TOKENS, trial=number
        )
        return at_least(cell, 2 * CYCLE_S)

    def told(self, load: float, result: CellResult) -> bool:
        """Within the search's own tolerance of the cycle."""
        took_s = cycle_s(result)
        if took_s is None or result.e2e is None:
            return True
        self.answers_s[load] = result.e2e.mean.value / 1000
        good = good_so_far(result, self.bench.slo.attainment)
        off = took_s / CYCLE_S - 1 if good else 1 - took_s / CYCLE_S
        if off <= _TOLERANCE or self.again == 0 or result.shape["think_s"] <= _LEAST_PAUSE_S:
            return True
        self.again -= 1
        return False

    def ahead_s(self) -> list[float]:
        """With those that may be done again."""
        return [max(self.bench.lasting(_CYCLES * CYCLE_S), 2 * CYCLE_S)] * (self.search.left + self.again)


def rate_trials(bench: Bench, per_s: float, answer_s: float) -> RateTrials:
    """From a tenth below the rate at saturation. answer_s: how long answers take there."""
    return RateTrials(bench, Search(start=per_s * 0.9, tolerance=_TOLERANCE), answer_s)


def user_trials(bench: Bench, per_s: float, answer_s: float) -> UserTrials:
    """From the users who make so many requests a second. answer_s: how long answers take at that rate."""
    start = max(1.0, per_s * CYCLE_S)
    search = Search(start=start, tolerance=_TOLERANCE, whole=True, step=_USERS_STEP)
    return UserTrials(bench, search, {start: answer_s})
