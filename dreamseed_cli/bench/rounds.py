"""The rounds of a run: which cells are measured again, in which order, and what each has so far. Pure.

A machine whose speed drifts makes cells that stand next to each other alike, and those of its slow quarter of
an hour slow. So every round has each cell once, in an order of its own (a randomised block design): the drift
falls on all cells alike, and what their rounds differ by tells how large it is.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import numpy as np

from dreamseed_cli.bench.cell_run import CellRun
from dreamseed_cli.bench.result import CellResult
from dreamseed_cli.bench.shapes import Cell, TargetSpec

_ORDER = 7
"""Beside the seed: the order has chance of its own."""


@dataclass(slots=True)
class Asked:
    """A cell that a suite asked for in its first round, every run of it since, and what they say together."""

    suite: str
    cell: Cell
    target: TargetSpec | None
    runs: list[CellRun]
    result: CellResult


def order_of(asked: Sequence[Asked], rounds: int, seed: int) -> list[tuple[int, Asked]]:
    """The rounds after the first: their number and a cell. Each has every cell once, of all suites mixed."""
    chance = np.random.default_rng((seed, _ORDER))
    return [
        (number, asked[place]) for number in range(2, rounds + 1) for place in chance.permutation(len(asked))
    ]


def of_round(cell: Cell, number: int) -> Cell:
    """The cell with arrivals and prompts of that round's own."""
    return msgspec.structs.replace(
        cell,
        name=f"{cell.name} round {number}",
        seed=cell.seed + number - 1,
        nonce=secrets.token_hex(4),
    )
