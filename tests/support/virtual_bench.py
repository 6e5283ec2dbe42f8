"""Cells of `dreamseed bench` against emulated engines in virtual time: minutes of load in seconds.

The cards' own scheduler runs, and nothing else of the stack: every request goes to the card with the fewest.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator

from dreamseed_cli.bench.arrivals import due_times, think_times
from dreamseed_cli.bench.cell_run import CellRun
from dreamseed_cli.bench.records import Ending, Record
from dreamseed_cli.bench.shapes import Cell, Rate, Streams, Users
from dreamseed_cli.engine.emulated.scheduler import Scheduler, Sequence, Step
from dreamseed_cli.profile.schema import EmulatedCard

PROMPT_TOKENS = 40


class VirtualFarm:
    """Emulated cards of so many places each."""

    def __init__(self, card: EmulatedCard, places: int, cards: int = 1) -> None:
        self.card, self.places, self.cards = card, places, cards

    def run(self, cell: Cell) -> CellRun:
        """The records of a cell that begins at an idle farm."""
        return _Run(self, cell).go()


class _Run:
    """One cell under way."""

    def __init__(self, farm: VirtualFarm, cell: Cell) -> None:
        assert isinstance(cell.shape, Rate | Streams | Users)
        self._cell = cell
        self._engines = [Scheduler(farm.card, farm.places) for _ in range(farm.cards)]
        self._steps: list[Step | None] = [None] * farm.cards
        self._loads = [0] * farm.cards
        self._owners: dict[Sequence, tuple[Record, int]] = {}
        self._records: list[Record] = []
        self._thinking: dict[int, Iterator[float]] = {}
        first = due_times(cell.shape, cell.duration_s, cell.seed)
        self._arrivals = [(float(at), user) for user, at in enumerate(first)]

    def go(self) -> CellRun:
        """Until the last answer, or the end of the grace."""
        heapq.heapify(self._arrivals)
        steps: list[tuple[float, int]] = []
        over_s = self._cell.duration_s + self._cell.grace_s
        now = 0.0
        while self._arrivals or steps:
            if steps and (not self._arrivals or steps[0][0] <= self._arrivals[0][0]):
                now, card = heapq.heappop(steps)
                if now > over_s:
                    break
                self._finish(card)
                self._begin(card, now, steps)
                continue
            now, user = heapq.heappop(self._arrivals)
            card = self._ask(now, user)
            if self._steps[card] is None:
                self._begin(card, now, steps)
        return CellRun(self._cell, tuple(self._records), min(now, over_s))

    def _ask(self, now: float, user: int) -> int:
        number = len(self._records)
        wanted = self._cell.output_tokens or 100
        record = Record(number, "question", now, wanted, sent_s=now, prompt_tokens=PROMPT_TOKENS)
        record.user = str(user)
        record.piece_s, record.piece_tokens = [], []
        self._records.append(record)
        card = self._loads.index(min(self._loads))
        self._loads[card] += 1
        sequence = Sequence(PROMPT_TOKENS, wanted)
        self._owners[sequence] = record, user
        self._engines[card].submit(sequence)
        return card

    def _begin(self, card: int, now: float, steps: list[tuple[float, int]]) -> None:
        step = self._engines[card].start_step(now)
        self._steps[card] = step
        if step is not None:
            heapq.heappush(steps, (step.due, card))

    def _finish(self, card: int) -> None:
        step = self._steps[card]
        assert step is not None
        for sequence in step.emitting:
            record = self._owners[sequence][0]
            record.piece_s.append(step.due)
            record.piece_tokens.append(len(record.piece_s))
        for sequence in self._engines[card].finish_step(step):
            record, user = self._owners.pop(sequence)
            self._loads[card] -= 1
            record.first_token_s, record.last_token_s = record.piece_s[0], record.piece_s[-1]
            record.end_s = step.due
            record.completion_tokens = len(record.piece_s)
            record.ending = Ending.COMPLETE
            self._ask_again(user, step.due)

    def _ask_again(self, user: int, now: float) -> None:
        shape, pause = self._cell.shape, 0.0
        if isinstance(shape, Rate):
            return
        if isinstance(shape, Users):
            thinking = self._thinking.setdefault(user, think_times(shape, user, self._cell.seed))
            pause = next(thinking)
        if now + pause < self._cell.duration_s:
            heapq.heappush(self._arrivals, (now + pause, user))
