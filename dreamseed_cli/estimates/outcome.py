"""What an arithmetic rule finds, and how numbers stand in its sentence."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import TypeVar

from dreamseed_cli.estimates.schema import Book, Estimate

Number = TypeVar("Number", float, Decimal)

ROUNDING = 0.05
"""The document rounds: a figure within 5 % of the computed one agrees with it."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """consistent: whether the figure agrees with the others; computed, in `unit`: what it is checked with."""

    consistent: bool
    computed: float
    unit: str
    sentence: str


Rule = Callable[[Book, Estimate], Outcome]


def exact(value: float) -> Decimal:
    """The decimal that a float is written as: 0.1 is 0.1. Money is reckoned with no other."""
    return Decimal(str(value))


def say(value: float | Decimal) -> str:
    """A number with as many digits as it deserves: 12,200; 27.9; 4.8; 0.000024."""
    size = abs(float(value))
    digits = 0 if size >= 1000 else 1 if size >= 100 else 2 if size >= 0.1 or size == 0 else 7
    text = f"{value:,.{digits}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def figure(estimate: Estimate) -> str:
    """The document's figure as it stands, with its unit."""
    value = estimate.value
    if isinstance(value, str):
        return value
    text = f"{say(value[0])}-{say(value[1])}" if isinstance(value, tuple) else say(value)
    return f"{text} {estimate.unit}".strip()


def agrees(low: Number, high: Number, value: Number, to: Number | None = None) -> bool:
    """Whether low to high and value to `to` meet, give or take the document's rounding. Money as decimals."""
    to = value if to is None else to
    return low <= to + _rounding(to) and high >= value - _rounding(value)


def _rounding(value: Number) -> Number:
    share = Decimal(str(ROUNDING)) if isinstance(value, Decimal) else ROUNDING
    return share * abs(value)


def place(estimate: Estimate) -> str:
    """Where the document says it: `§F3`, or `The goal`."""
    return "The goal" if estimate.section == "Goal" else f"§{estimate.section}"


def expect(estimate: Estimate, computed: float | Decimal, work: str) -> Outcome:
    """The outcome of a plain computation: `work` shows it, the figure must agree with it."""
    low, high = estimate.low, estimate.high
    if isinstance(computed, Decimal):
        consistent = agrees(exact(low), exact(high), computed)
    else:
        consistent = agrees(low, high, computed)
    sentence = f"{work} = {say(computed)} {estimate.unit}; the document says {figure(estimate)}"
    if not consistent and computed > 0:
        sentence += f", {say(estimate.middle / float(computed))} times that"
    return Outcome(consistent, float(computed), estimate.unit, f"{sentence}.")
