"""Whether a scenario holds: its busiest hour simulated, and held against the profile's SLO."""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import Decimal

from dreamseed_cli.costsim.billing.choices import Choices
from dreamseed_cli.costsim.money import decimal
from dreamseed_cli.costsim.prices.schema import PriceBook
from dreamseed_cli.costsim.queueing.card import CardModel
from dreamseed_cli.costsim.queueing.outcome import Ending, Outcome
from dreamseed_cli.costsim.queueing.simulate import load_of, simulate, system_of
from dreamseed_cli.costsim.queueing.system import Fallback
from dreamseed_cli.costsim.scenario import Scenario
from dreamseed_cli.costsim.usage.traffic import traffic
from dreamseed_cli.gateway.call import PriorityClass
from dreamseed_cli.profile.schema import Profile, Targets

PEOPLE = (PriorityClass.PREMIUM.label, PriorityClass.STANDARD.label)
"""Who waits for the answer; background work may take as long as it likes."""
MOST_REQUESTS = 100_000
"""AI requests in one simulation: at a very large load a part of an hour tells as much."""
_USUAL_HOURS = 0.25
_DAY_HOURS = 1 / 6


@dataclass(frozen=True, slots=True)
class Held:
    """A simulation's outcome against the SLO. Simulated, as everything it says."""

    outcome: Outcome
    targets: Targets
    hours: float
    """Simulated, warm-up included."""

    @property
    def requests(self) -> int:
        """Of people, for cards."""
        return sum(self.outcome.classes[name].requests for name in PEOPLE)

    @property
    def attainment(self) -> float:
        """Of these, the share that a card answered within the SLO; 1 of nothing."""
        return self._share(sum(self.outcome.classes[name].good for name in PEOPLE))

    @property
    def answered(self) -> float:
        """The share that a card answered at all."""
        return self._share(sum(self.outcome.classes[name].endings.get(Ending.ANSWERED, 0) for name in PEOPLE))

    @property
    def rejected(self) -> float:
        """The share of Cloud Run's requests that got a 429."""
        cloud_run = self.outcome.cloud_run
        return cloud_run.rejected / cloud_run.requests if cloud_run.requests else 0.0

    @property
    def holds(self) -> bool:
        """Whether the promised share of requests was good, and no more than the rest turned away."""
        return self.attainment >= self.targets.attainment and self.rejected <= 1 - self.targets.attainment

    def _share(self, count: int) -> float:
        return count / self.requests if self.requests else 1.0


def held(
    scenario: Scenario,
    cards: CardModel,
    profile: Profile,
    *,
    hours: float,
    seed: int,
    at_rps: float | None = None,
) -> Held:
    """Simulate the scenario at a rate of API requests; None: that of its busiest hour."""
    load = load_of(scenario, at_rps=at_rps)
    if load.asked_per_s:
        hours = min(hours, MOST_REQUESTS / load.asked_per_s / 3600)
    system = system_of(scenario, cards, profile.targets, profile.gateway.admission, fallback=Fallback())
    return Held(simulate(load, system, hours=hours, seed=seed), profile.targets, hours)


def usual_rps(scenario: Scenario) -> float:
    """The rate at which the mean request comes: busy hours have more of them."""
    load = traffic(scenario)
    requests = load.rps * load.hours
    return float(load.rps @ requests / requests.sum()) if requests.any() else 0.0


def settled(scenario: Scenario, cards: CardModel, profile: Profile, *, seed: int) -> Scenario:
    """The scenario with the wait that the mean request finds, as the simulation has it.

    The bill needs it, since an AI request holds its place in Cloud Run all the while.
    """
    usual = held(scenario, cards, profile, hours=_USUAL_HOURS, seed=seed, at_rps=usual_rps(scenario))
    overall = usual.outcome.overall
    if not overall.e2e.n:
        return scenario
    return replace(scenario, ai_wait_s=max(0.0, overall.e2e.mean_s - scenario.answer_s))


def day(scenario: Scenario, cards: CardModel, profile: Profile, *, seed: int) -> list[tuple[float, Held]]:
    """The 24 hours of the busiest day: the rate of API requests of each, and ten minutes of it simulated."""
    return [
        (
            float(rps),
            held(scenario, cards, profile, hours=_DAY_HOURS, seed=seed + number, at_rps=float(rps)),
        )
        for number, rps in enumerate(traffic(scenario).busiest_day_rps)
    ]


def fallback_usd(held: Held, book: PriceBook, choices: Choices) -> Decimal:
    """What an hour like the simulated one costs at the fallback. UsageError for a model without a price."""
    sent, hours = held.outcome.fallback, decimal(held.outcome.window_s) / 3600
    return book.fallback_usd(choices.fallback, sent.prompt_tokens, sent.answer_tokens) / hours
