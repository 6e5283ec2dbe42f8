"""The simulation against measurements it was not fitted to: cells of a `dreamseed bench` result held out."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from heapq import heapify, heappop, heappush
from typing import Any

import numpy as np

from dreamseed_cli.core.errors import UsageError
from dreamseed_cli.costsim.queueing.arrivals import SPREAD
from dreamseed_cli.costsim.queueing.batching import NEVER
from dreamseed_cli.costsim.queueing.card import CardModel
from dreamseed_cli.costsim.queueing.card_fit import Cell, fitted, read_cells
from dreamseed_cli.costsim.queueing.farm import Farm, Request
from dreamseed_cli.costsim.queueing.outcome import Ending, Times
from dreamseed_cli.gateway.admission.ticket import Ticket
from dreamseed_cli.gateway.call import PriorityClass
from dreamseed_cli.profile.schema import Admission

NO_QUEUE = Admission(
    max_queued_standard=1_000_000,
    reserved_for_premium=0,
    prefill_ahead_tokens=1_000_000,
    prefill_ahead_quiet_tokens=1_000_000,
)
"""An engine asked directly: nothing is held back before it."""
_REQUESTS = 3000
"""Simulated for each cell: more than were measured, so that the simulation's own noise is small."""
_WARM_UP = 0.1


@dataclass(frozen=True, slots=True)
class Deviation:
    """One figure of a held-out cell."""

    cell: str
    quantity: str
    """`ttft_mean_ms`, `ttft_p95_ms`, `e2e_mean_ms`, `tokens_per_s`."""
    measured: float
    simulated: float

    @property
    def error(self) -> float:
        """Relative, signed: 0.05 is 5 % above what was measured."""
        return self.simulated / self.measured - 1


def validate_against_bench(
    document: Mapping[str, Any],
    *,
    max_num_seqs: int = 256,
    kv_cache_tokens: int = 1_000_000,
    rules: Admission = NO_QUEUE,
    spreads: tuple[float, float] = (SPREAD, SPREAD),
    seed: int = 0,
) -> list[Deviation]:
    """Every other cell, by load, is fitted; those between are simulated and compared.

    document: a result of `dreamseed bench` as JSON. max_num_seqs, kv_cache_tokens: the engine's; generous
    where they did not bind. spreads: of prompts' and answers' lengths (lognormal; 0: all alike), which the
    result does not say. UsageError if fewer than three cells with streams or a rate can be used.
    """
    cells = [cell for cell in read_cells(document) if cell.streams or cell.rate_per_s]
    if len(cells) < 3:
        raise UsageError(
            f"{len(cells)} usable cells leave none to hold out",
            place="suites.cells",
            remedy="Run 'dreamseed bench' with three or more loads.",
        )
    card = CardModel(fitted(cells[::2], kv_cache_tokens, "bench"), max_num_seqs)
    return [one for cell in cells[1::2] for one in _compare(_Run(cell, card, rules, spreads, seed))]


def _compare(run: _Run) -> Iterator[Deviation]:
    """Simulate one cell, and tell how far off each figure is."""
    run.go()
    cell = run.cell
    ttft = Times.of(np.array(run.ttft_s))
    yield Deviation(cell.name, "ttft_mean_ms", cell.ttft_ms, ttft.mean_s * 1000)
    if cell.ttft_p95_ms is not None and "p95" in ttft.quantiles_s:
        yield Deviation(cell.name, "ttft_p95_ms", cell.ttft_p95_ms, ttft.quantiles_s["p95"] * 1000)
    yield Deviation(cell.name, "e2e_mean_ms", cell.e2e_ms, float(np.mean(run.e2e_s)) * 1000)
    yield Deviation(cell.name, "tokens_per_s", cell.tokens_per_s, run.tokens_per_s)


class _Run:
    """One cell's load on its replicas: so many at a time, or so many a second."""

    def __init__(
        self, cell: Cell, card: CardModel, rules: Admission, spreads: tuple[float, float], seed: int
    ) -> None:
        self.cell = cell
        rng = np.random.default_rng((seed, 4))
        self._lengths = (
            _lengths(rng, cell.prompt_tokens, spreads[0]),
            _lengths(rng, cell.output_tokens, spreads[1]),
        )
        self._closed = cell.streams is not None
        self._at: list[tuple[float, int]] = _arrivals(rng, cell)
        self._begun = len(self._at)
        self._began: dict[int, float] = {}
        self._farm = Farm(card, cell.replicas, rules, ended=self._ended)
        self._tokens = 0
        self._window: list[float] = []
        self.ttft_s: list[float] = []
        self.e2e_s: list[float] = []

    @property
    def tokens_per_s(self) -> float:
        return self._tokens / (self._window[-1] - self._window[0])

    def go(self) -> None:
        """Until enough answers have come."""
        while len(self._window) < _REQUESTS * (1 - _WARM_UP):
            arrival = self._at[0][0] if self._at else NEVER
            due = self._farm.next_at
            if due <= arrival:
                if due == NEVER:
                    break
                self._farm.advance(due)
            else:
                self._ask(*heappop(self._at))

    def _ask(self, now: float, index: int) -> None:
        prompt, wanted = (int(lengths[index % _REQUESTS]) for lengths in self._lengths)
        self._began[index] = now
        ticket = Ticket(PriorityClass.STANDARD, prompt, wanted, NEVER)
        self._farm.submit(Request(index, wanted, ticket), now)

    def _ended(self, request: Request, ending: Ending, now: float) -> None:
        began = self._began.pop(request.index)
        if self._closed:
            heappush(self._at, (now, self._begun))
            self._begun += 1
        if ending is not Ending.ANSWERED or request.index < _WARM_UP * _REQUESTS:
            return
        self._tokens += request.emitted if self._window else 0
        self._window.append(now)
        self.ttft_s.append(request.first_at - began)
        self.e2e_s.append(now - began)


def _arrivals(rng: np.random.Generator, cell: Cell) -> list[tuple[float, int]]:
    if cell.streams is not None:
        # Spread over an answer's time, so that they do not all run in step.
        times = rng.uniform(0, cell.e2e_ms / 1000, cell.streams)
    else:
        times = np.cumsum(rng.exponential(1 / (cell.rate_per_s or math.inf), _REQUESTS))
    arrivals = [(float(time), index) for index, time in enumerate(times)]
    heapify(arrivals)
    return arrivals


def _lengths(rng: np.random.Generator, mean: float, spread: float) -> Sequence[int]:
    drawn = rng.lognormal(math.log(mean) - spread**2 / 2, spread, _REQUESTS)
    lengths: list[int] = np.maximum(np.rint(drawn), 1).astype(int).tolist()
    return lengths
