"""The cheapest box, power limit, model and Cloud Run settings that keep the SLO: a grid, searched from its
cheapest end.

A closed form throws out what cannot hold; the rest is simulated in the order of its cost until one holds. So
no cheaper candidate of the grid holds, and the simulation runs only as often as it must.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from decimal import Decimal
from itertools import product
from typing import Generic, Protocol, TypeVar

from dreamseed_cli.costsim.decisions.capacity import overloaded
from dreamseed_cli.costsim.scenario import Scenario


@dataclass(frozen=True, slots=True)
class Grid:
    """What may be chosen; every combination is a candidate."""

    gpus: tuple[int, ...]
    limits_w: tuple[float, ...]
    """Power limits of a card, in watts."""
    models: tuple[str, ...]
    """Those that would do."""
    container_concurrency: tuple[int, ...]
    max_instances: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Candidate:
    """One combination, and the scenario it makes."""

    model: str
    scenario: Scenario

    @property
    def rank(self) -> tuple[int, float, int, int]:
        """What is better at the same cost: fewer cards, fewer watts, fewer instances, fewer places."""
        one = self.scenario
        return one.gpus, one.card_loaded_w, one.max_instances, one.container_concurrency


class Verdict(Protocol):
    """What a simulation says."""

    @property
    def holds(self) -> bool: ...


V = TypeVar("V", bound=Verdict)


@dataclass(frozen=True, slots=True)
class Tried(Generic[V]):
    """One candidate that was simulated."""

    candidate: Candidate
    usd: Decimal
    verdict: V


@dataclass(frozen=True, slots=True)
class Optimum(Generic[V]):
    """The answer and how it was found."""

    best: Tried[V] | None
    """None if nothing in the grid holds."""
    failed: tuple[Tried[V], ...]
    """Cheaper candidates that were simulated and do not hold, cheapest first."""
    screened_out: int
    """Candidates that cannot hold by the closed form."""
    candidates: int


def candidates(
    scenario: Scenario, grid: Grid, speed: Callable[[str, Scenario], Scenario | None]
) -> list[Candidate]:
    """Every combination of the grid whose model can start.

    speed: the scenario with the speed of its card with a model at its power limit; None if it cannot start.
    """
    found = []
    for model, watts in product(grid.models, grid.limits_w):
        fast = speed(model, replace(scenario, card_loaded_w=watts))
        if fast is None:
            continue
        found += [
            Candidate(model, replace(fast, gpus=gpus, container_concurrency=places, max_instances=instances))
            for gpus, places, instances in product(grid.gpus, grid.container_concurrency, grid.max_instances)
        ]
    return found


def optimise(
    choices: Iterable[Candidate],
    *,
    cost: Callable[[Scenario], Decimal],
    simulate: Callable[[Candidate], V],
    screen: Callable[[Scenario], str | None] = overloaded,
) -> Optimum[V]:
    """The cheapest candidate that holds.

    cost: of a month, in US dollars, what is bought included. screen: why a scenario cannot hold, or None;
    it must not throw out what the simulation would let pass.
    """
    every = list(choices)
    priced = [(cost(one.scenario), one) for one in every if screen(one.scenario) is None]
    priced.sort(key=lambda pair: (pair[0], pair[1].rank))
    failed: list[Tried[V]] = []
    for usd, candidate in priced:
        tried = Tried(candidate, usd, simulate(candidate))
        if tried.verdict.holds:
            return Optimum(tried, tuple(failed), len(every) - len(priced), len(every))
        failed.append(tried)
    return Optimum(None, tuple(failed), len(every) - len(priced), len(every))
