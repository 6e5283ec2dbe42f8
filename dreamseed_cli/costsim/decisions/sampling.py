"""Seeded draws from stated ranges, and the scenarios and price books that they make, many at a time.

numpy draws the inputs; every amount of money that is computed from them is decimal again.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dreamseed_cli.costsim.billing.bill import Bill
from dreamseed_cli.costsim.columns import Column, each, plain
from dreamseed_cli.costsim.decisions.ranges import Range, Ranges, is_whole
from dreamseed_cli.costsim.prices.schema import PriceBook
from dreamseed_cli.costsim.scenario import FRACTIONS, FROM_ONE, SHARES, Scenario, in_columns

DRAWS = 10_000
_Z95 = 1.6448536269514722
"""p95 of the standard normal distribution."""

_BLOCK = 256
"""Draws at a time: so many weeks of 168 hours fit into a core's cache."""

Costing = Callable[[Scenario, PriceBook], Bill]
"""A month's bill of a scenario at a book's prices: of one draw, or of many in columns (columns.py)."""

PairCosting = Callable[[Scenario, PriceBook], tuple[Bill, Bill]]
"""The same of a scenario and of its alternative, which share lines."""


@dataclass(frozen=True, slots=True)
class Draws:
    """One row a draw, one column an input."""

    names: tuple[str, ...]
    values: NDArray[np.float64]
    prices: frozenset[str]
    """Names that are price ids."""
    factors: frozenset[str]
    """Fields whose values are factors of the scenario's own."""


def sample(ranges: Ranges, *, count: int = DRAWS, seed: int = 0) -> Draws:
    """Draw every input `count` times, independently.

    Each input has its own stream, so that a further range does not change the draws of the others.
    """
    columns = [
        _column(one, np.random.default_rng([seed, zlib.crc32(name.encode())]), count) for name, one in ranges
    ]
    return Draws(
        names=tuple(name for name, _ in ranges),
        values=np.column_stack(columns) if columns else np.empty((count, 0)),
        prices=frozenset(ranges.price),
        factors=frozenset(name for name, one in ranges.scenario.items() if one.times_base),
    )


def worlds(
    scenarios: Sequence[Scenario], book: PriceBook, draws: Draws
) -> Iterator[tuple[PriceBook, list[Scenario]]]:
    """Block by block of draws: their book, and each of the scenarios with their inputs, all in columns.

    UsageError for an unknown price, or a draw that makes a scenario impossible.
    """
    for start in range(0, len(draws.values), _BLOCK):
        block = draws.values[start : start + _BLOCK]
        drawn = dict(zip(draws.names, block.T, strict=True))
        amounts = {
            name: book.amount(name) * each(_decimal, drawn[name])
            for name in draws.names
            if name in draws.prices
        }
        yield book.with_amounts(amounts), [_world(one, draws, drawn, len(block)) for one in scenarios]


def _world(scenario: Scenario, draws: Draws, drawn: Mapping[str, Column], count: int) -> Scenario:
    changed = {
        name: _within(scenario, name, values, times_base=name in draws.factors)
        for name, values in drawn.items()
        if name not in draws.prices
    }
    return in_columns(scenario, changed, count)


def scaled(book: PriceBook, name: str, factor: float) -> PriceBook:
    """The book with one price multiplied. UsageError if it has no such price."""
    return book.with_amounts({name: book.amount(name) * _decimal(factor)})


def bounds(scenario: Scenario, name: str) -> tuple[float, float]:
    """Between which values a field of this scenario makes sense, whatever its range says."""
    if name == "ai_share":
        return 0.0, 1 - scenario.cached_question_share
    if name == "outage_hours":
        return 0.0, scenario.hours
    if name in SHARES or name in FRACTIONS:
        return 0.0, 1.0
    return (1.0 if name in FROM_ONE else 0.0), np.inf


def with_value(scenario: Scenario, name: str, value: float, *, times_base: bool) -> Scenario:
    """The scenario with one field at a value of its range: whole where it counts, within its bounds."""
    changed: dict[str, Any] = {name: plain(_within(scenario, name, value, times_base=times_base))}
    return replace(scenario, **changed)


def _within(scenario: Scenario, name: str, value: float | Column, *, times_base: bool) -> Any:
    kept = np.clip(value * getattr(scenario, name) if times_base else value, *bounds(scenario, name))
    return kept.round().astype(int) if is_whole(name) else kept


def _decimal(factor: float) -> Decimal:
    """A drawn factor to a millionth: an amount times a float's full expansion would only look exact."""
    return Decimal(f"{factor:.6f}")


def _column(one: Range, generator: np.random.Generator, count: int) -> NDArray[np.float64]:
    if one.shape == "uniform":
        return generator.uniform(one.low, one.high, count)
    if one.mode is not None:
        return generator.triangular(one.low, one.mode, one.high, count)
    centre, spread = np.log(one.low * one.high) / 2, np.log(one.high / one.low) / (2 * _Z95)
    return generator.lognormal(centre, spread, count)
