"""Stated ranges of what nobody knows exactly: fields of the scenario and prices of the book, as data."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from dreamseed_cli.core.data_file import read_data
from dreamseed_cli.costsim.scenario import FRACTIONS, FROM_ONE, SHARES, Scenario
from dreamseed_cli.profile.part import Part, Positive

_HERE = Path(__file__).resolve().parent
_FIELDS = {field.name: str(field.type) for field in fields(Scenario)}
BOUNDED = SHARES | FROM_ONE | FRACTIONS.keys()
"""Fields with a bound that a lognormal distribution would cross."""


class Range(Part):
    """How far one input may lie from what is assumed."""

    shape: Literal["triangular", "lognormal", "uniform"]
    low: Annotated[float, Field(ge=0)]
    """The least; of a lognormal distribution its p5."""
    mode: float | None = None
    """The likeliest value: of a triangular distribution only."""
    high: Positive
    """The most; of a lognormal distribution its p95."""
    times_base: bool = False
    """Whether the values are factors of what the scenario or the price book says."""
    why: Annotated[str, Field(min_length=1)]
    source: Annotated[str, Field(min_length=1)]
    """Where the range comes from; `assumption` if from nowhere but judgement."""

    @model_validator(mode="after")
    def _is_a_range(self) -> Self:
        if self.low >= self.high:
            raise ValueError("low must be below high")
        if (self.shape == "triangular") != (self.mode is not None):
            raise ValueError("a triangular range needs a mode, and only such a one has it")
        if self.mode is not None and not self.low <= self.mode <= self.high:
            raise ValueError("the mode lies outside of low to high")
        if self.shape == "lognormal" and self.low <= 0:
            raise ValueError("a lognormal range is above 0")
        return self


class Ranges(Part):
    """All of one file."""

    scenario: dict[str, Range] = Field(default_factory=dict)
    """By the field's name."""
    price: dict[str, Range] = Field(default_factory=dict)
    """By the price's id: always factors of the book's amount, whatever tiers it has."""

    @model_validator(mode="after")
    def _are_inputs(self) -> Self:
        if unknown := sorted(self.scenario.keys() - _FIELDS.keys()):
            raise ValueError(f"the scenario has no {', '.join(unknown)}")
        for name, one in self.scenario.items():
            if one.shape == "lognormal" and name in BOUNDED:
                raise ValueError(f"{name} has a bound, which a lognormal range would cross")
        if absolute := sorted(name for name, one in self.price.items() if not one.times_base):
            raise ValueError(f"prices need times_base = true: {', '.join(absolute)}")
        return self

    def without(self, names: Collection[str]) -> Ranges:
        """The same without inputs that are known: what a user has set does not vary."""
        return Ranges(
            scenario={name: one for name, one in self.scenario.items() if name not in names},
            price={name: one for name, one in self.price.items() if name not in names},
        )

    def __iter__(self) -> Iterator[tuple[str, Range]]:  # type: ignore[override]
        """(name, range) of every input, fields first, each kind in the order of the file."""
        yield from self.scenario.items()
        yield from self.price.items()


def is_whole(name: str) -> bool:
    """Whether a field of the scenario is a whole number."""
    return _FIELDS[name] == "int"


@cache
def shipped_ranges() -> Ranges:
    """The ranges that come with the package."""
    return load_ranges(_HERE / "ranges.toml")


def load_ranges(path: Path) -> Ranges:
    """Read a file of ranges. UsageError or ErrorGroup with every mistake at its path."""
    return read_data(path, Ranges)
