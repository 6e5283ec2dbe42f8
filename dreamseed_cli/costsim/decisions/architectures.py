"""§A's three architectures side by side: what a month costs, how often it fails, and what that costs.

A part that fails r times a year for h hours is down for the share r h / (8,760 + r h) of the time; parts in
series multiply. Lengths of failures are taken as exponential, which gives two closed forms: a UPS of t hours
lets exp(-t / h) of the outages through, none of them shorter for it, and a switch-over after t hours leaves
h (1 - exp(-t / h)) of each failure to be felt.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from dreamseed_cli.core.data_file import read_data
from dreamseed_cli.costsim.billing.bill import Bill
from dreamseed_cli.costsim.money import decimal
from dreamseed_cli.profile.part import Part

HOURS_PER_YEAR = 8760
_HERE = Path(__file__).resolve().parent
Three = tuple[Annotated[float, Field(ge=0)], Annotated[float, Field(ge=0)], Annotated[float, Field(ge=0)]]


class Architecture(StrEnum):
    """§A."""

    FULL_CLOUD = "full-cloud"
    HYBRID = "hybrid"
    ON_PREMISES = "on-premises"


class Luck(StrEnum):
    """Which end of the stated ranges."""

    LEAST = "least"
    LIKELIEST = "likeliest"
    MOST = "most"


class Failure(Part):
    """One thing that fails."""

    id: str
    title: Annotated[str, Field(min_length=1)]
    where: tuple[Architecture, ...]
    hits: Literal["all", "box", "card"]
    per_year: Three
    """Failures in a year, of a card those of each: least, likeliest, most."""
    hours: Three
    """From failure to repair."""
    ups: bool = False
    source: Annotated[str, Field(min_length=1)]

    @model_validator(mode="after")
    def _rises(self) -> Self:
        for name, three in (("per_year", self.per_year), ("hours", self.hours)):
            if list(three) != sorted(three):
                raise ValueError(f"{name} must not fall from least to most")
        if min(self.hours) <= 0:
            raise ValueError("a failure takes more than 0 hours")
        return self

    def rate(self, luck: Luck) -> float:
        """Failures in a year."""
        return self.per_year[list(Luck).index(luck)]

    def repair_h(self, luck: Luck) -> float:
        """Hours from failure to repair."""
        return self.hours[list(Luck).index(luck)]


class _File(Part):
    failure: tuple[Failure, ...]


@dataclass(frozen=True, slots=True)
class Site:
    """What the failures meet."""

    cards: int
    needed_cards: int
    """As many must work for all AI answers; fewer is counted as AI being down."""
    ups_h: float
    """How long the UPS carries the box; 0 if it cannot carry it at all."""
    switch_h: float
    """Hybrid: until plain requests go on with the standby database (§E3's RTO)."""
    has_fallback: bool = True
    """Hybrid: whether AI requests go to a fallback while the box is down (§H2)."""


@dataclass(frozen=True, slots=True)
class Demand:
    """A month's requests that failures cost something."""

    hours: float
    """Of the month."""
    plain_requests: float
    ai_requests: float
    """Those the cards must answer."""
    usd_per_lost_request: Decimal
    """What a request is worth that nobody answers. A judgement of the operator's."""
    usd_per_fallback_answer: Decimal


@dataclass(frozen=True, slots=True)
class Availability:
    """One architecture at one luck. Shares of the time, computed."""

    plain: float
    """In which plain requests are answered."""
    ai: float
    """In which AI requests are answered, by cards or fallback."""
    own_ai: float
    """In which the own cards answer them."""


@dataclass(frozen=True, slots=True)
class Outage:
    """What a month's failures cost."""

    availability: Availability
    down_hours: float
    """Of a month, plain requests."""
    lost_requests: float
    fallback_answers: float
    lost_usd: Decimal
    fallback_usd: Decimal

    @property
    def usd(self) -> Decimal:
        return self.lost_usd + self.fallback_usd


@dataclass(frozen=True, slots=True)
class Compared:
    """One row of §A's table, computed."""

    architecture: Architecture
    bill: Bill
    outages: dict[Luck, Outage]

    def usd(self, luck: Luck = Luck.LIKELIEST) -> Decimal:
        """The month with what its failures cost."""
        return self.bill.usd + self.outages[luck].usd


@cache
def shipped_failures() -> tuple[Failure, ...]:
    """The failures that come with the package."""
    return load_failures(_HERE / "failures.toml")


def load_failures(path: Path) -> tuple[Failure, ...]:
    """Read a file of failures. UsageError or ErrorGroup with every mistake at its path."""
    return read_data(path, _File).failure


def availability(
    failures: Sequence[Failure], architecture: Architecture, site: Site, luck: Luck = Luck.LIKELIEST
) -> Availability:
    """The shares of the time in which this architecture answers."""
    there = [one for one in failures if architecture in one.where]
    everything = math.prod(1 - _down(one, site, luck) for one in there if one.hits == "all")
    box = math.prod(1 - _down(one, site, luck) for one in there if one.hits == "box")
    cards = math.prod(_enough_cards(site, _down(one, site, luck)) for one in there if one.hits == "card")
    own_ai = everything * box * cards
    if architecture is not Architecture.HYBRID:
        return Availability(everything * box, own_ai, own_ai)
    felt = math.prod(1 - _down(one, site, luck, felt_h=site.switch_h) for one in there if one.hits == "box")
    return Availability(everything * felt, everything if site.has_fallback else own_ai, own_ai)


def outage(found: Availability, demand: Demand) -> Outage:
    """What a month's failures cost: lost requests at their value, and answers bought elsewhere."""
    lost = demand.plain_requests * (1 - found.plain) + demand.ai_requests * (1 - found.ai)
    bought = demand.ai_requests * (found.ai - found.own_ai)
    return Outage(
        found,
        down_hours=demand.hours * (1 - found.plain),
        lost_requests=lost,
        fallback_answers=bought,
        lost_usd=decimal(lost) * demand.usd_per_lost_request,
        fallback_usd=decimal(bought) * demand.usd_per_fallback_answer,
    )


def compare(
    bills: dict[Architecture, Bill], failures: Sequence[Failure], site: Site, demand: Demand
) -> list[Compared]:
    """Every architecture that has a bill, with its failures at every luck."""
    return [
        Compared(one, bill, {luck: outage(availability(failures, one, site, luck), demand) for luck in Luck})
        for one, bill in bills.items()
    ]


def _down(one: Failure, site: Site, luck: Luck, *, felt_h: float = math.inf) -> float:
    """Share of the time in which a part is down, of each failure no more than `felt_h` on average felt."""
    rate, hours = one.rate(luck), one.repair_h(luck)
    if one.ups:
        rate *= math.exp(-site.ups_h / hours)
    lost = rate * -hours * math.expm1(-felt_h / hours)
    return lost / (HOURS_PER_YEAR + lost)


def _enough_cards(site: Site, down: float) -> float:
    """Share of the time in which at least the needed cards work, each failing on its own."""
    most = min(site.needed_cards, site.cards)
    return sum(
        math.comb(site.cards, up) * (1 - down) ** up * down ** (site.cards - up)
        for up in range(most, site.cards + 1)
    )
