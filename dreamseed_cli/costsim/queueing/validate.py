"""The simulation against measurements it was not fitted to: loads of a `dreamseed bench` result held out.

Of the closed-loop loads every other one is fitted, the lowest first; those between and all open-loop loads
(whose requests come by chance) are held out. A load that was measured twice, through the gateway and past it,
is one load: both are fitted or neither is. What was answered more slowly than it came is left out: its times
grow with the length of the measurement.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from dreamseed_cli.core.errors import UsageError
from dreamseed_cli.core.result import Provenance
from dreamseed_cli.costsim.queueing.bench_cells import Cell, Measured, read_cells
from dreamseed_cli.costsim.queueing.bench_load import NO_QUEUE, Seen, repeat
from dreamseed_cli.costsim.queueing.card import CardModel
from dreamseed_cli.costsim.queueing.card_fit import Fit
from dreamseed_cli.costsim.queueing.outcome import Times
from dreamseed_cli.profile.schema import Admission

HELD_OUT_AIM = 0.09
"""The mean error that loads held out should not exceed: what Vidur promises of its simulation."""
_FEWEST = 3
"""Loads that leave one between two others."""


@dataclass(frozen=True, slots=True)
class Deviation:
    """One figure of a load, measured and simulated."""

    quantity: str
    """`ttft_mean_ms`, `e2e_p95_ms`, ..., `tokens_per_s`."""
    measured: Measured
    simulated: float

    @property
    def error(self) -> float:
        """Relative, signed: 0.05 is 5 % above what was measured."""
        return self.simulated / self.measured.value - 1

    @property
    def within(self) -> bool:
        """Whether it is inside of the measurement's own 95 % interval; False where that has none."""
        low, high = self.measured.low, self.measured.high
        return low is not None and high is not None and low <= self.simulated <= high


@dataclass(frozen=True, slots=True)
class CheckedLoad:
    """One load of the result."""

    cell: Cell
    held_out: bool
    """Nothing was fitted to it."""
    deviations: tuple[Deviation, ...]


@dataclass(frozen=True, slots=True)
class Validation:
    """How near the simulation comes to a bench result."""

    loads: tuple[CheckedLoad, ...]
    """The fewest sequences at a time first."""
    card: CardModel
    """Fitted to the loads that are not held out."""
    alone: Mapping[str, float] = field(default_factory=dict)
    """The mean error of each suite by itself, of its own loads held out with the card fitted to its others: a
    machine that had another speed in each suite fits no single card. Empty unless there are two such suites.
    """

    @property
    def held_out(self) -> list[tuple[CheckedLoad, Deviation]]:
        """Every figure of the loads held out."""
        return [(load, one) for load in self.loads if load.held_out for one in load.deviations]

    @property
    def worst(self) -> tuple[CheckedLoad, Deviation]:
        """Of these, the one that is furthest off."""
        return max(self.held_out, key=lambda pair: abs(pair[1].error))

    @property
    def mean_error(self) -> float:
        """The mean of their absolute errors."""
        return math.fsum(abs(one.error) for _, one in self.held_out) / len(self.held_out)

    @property
    def drift(self) -> float | None:
        """By how much the rounds of one load differ in the time between tokens: the root of the mean variance
        over all loads, as a share. No simulation foretells it. None unless they were measured in rounds.
        """
        found = [drift for load in self.loads if (drift := load.cell.drift) is not None]
        return math.sqrt(math.fsum(one * one for one in found) / len(found)) if found else None

    @property
    def rounds(self) -> int:
        """In which the loads were measured, at most."""
        return max(len(load.cell.courses) for load in self.loads)


def validate_against_bench(
    document: Mapping[str, Any],
    *,
    max_num_seqs: int = 256,
    kv_cache_tokens: int = 1_000_000,
    rules: Admission = NO_QUEUE,
    seed: int = 0,
) -> Validation:
    """Fit a part of the result's loads, and simulate all of them.

    document: a result of `dreamseed bench` as JSON. max_num_seqs, kv_cache_tokens: the engine's; generous
    where they did not bind. rules: of the gateway, if it was measured through one.
    UsageError if fewer than three loads can be used.
    """
    cells = [cell for cell in read_cells(document) if cell.load and cell.keeps_up]
    provenance = Provenance.MEASURED if document.get("provenance") == "measured" else Provenance.SIMULATED

    def validated(some: Sequence[Cell]) -> Validation:
        known = _fitted(some)
        card = Fit(known, max_num_seqs, kv_cache_tokens, rules).card("a part of the bench", provenance)
        return _simulated(some, known, card, rules, seed)

    whole = validated(cells)
    suites = {cell.suite: [one for one in cells if one.suite == cell.suite] for cell in cells}
    told = {name: own for name, own in suites.items() if len(_loads(own)) >= _FEWEST}
    if len(told) < 2:
        return whole
    return replace(whole, alone={name: validated(own).mean_error for name, own in told.items()})


def _simulated(
    cells: Sequence[Cell], known: Sequence[Cell], card: CardModel, rules: Admission, seed: int
) -> Validation:
    """Every load, as the card would have answered it."""
    loads = []
    for cell in cells:
        seen = repeat(cell, card, rules, seed=seed)
        loads.append(CheckedLoad(cell, cell not in known, tuple(_compare(cell, seen))))
    return Validation(tuple(loads), card)


def _loads(cells: Sequence[Cell]) -> list[tuple[str, float]]:
    return list(dict.fromkeys(cell.load for cell in cells if cell.load))


def _fitted(cells: Sequence[Cell]) -> list[Cell]:
    """Of every other closed-loop load; of all loads where there are fewer than three of them."""
    loads = _loads(cells)
    if len(loads) < _FEWEST:
        raise UsageError(
            f"{len(loads)} usable loads leave none to hold out",
            place="suites.cells",
            remedy="Run 'dreamseed bench' with three or more loads.",
        )
    closed = sorted(load for load in loads if load[0] == "streams")
    fit = set((closed if len(closed) >= _FEWEST else loads)[::2])
    return [cell for cell in cells if cell.load in fit]


def _compare(cell: Cell, seen: Seen) -> Iterator[Deviation]:
    """Each figure of a load, the simulated one beside the measured one."""
    for kind, measured, seconds in (("ttft", cell.ttft, seen.ttft_s), ("e2e", cell.e2e, seen.e2e_s)):
        times = Times.of(np.array(seconds))
        simulated = {"mean": times.mean_s, **times.quantiles_s} if times.n else {}
        for level, value in measured.items():
            if level in simulated:
                yield Deviation(f"{kind}_{level}_ms", value, simulated[level] * 1000)
    yield Deviation("tokens_per_s", cell.tokens_per_s, seen.tokens_per_s)
