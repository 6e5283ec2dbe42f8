"""What the load meets: Cloud Run, the gateway's rules, the cards, the fallback, and their power."""

from __future__ import annotations

from dataclasses import dataclass

from dreamseed_cli.costsim.queueing.card import CardModel
from dreamseed_cli.costsim.scenario import Scenario
from dreamseed_cli.costsim.usage.box import wall_w
from dreamseed_cli.gateway.call import PriorityClass
from dreamseed_cli.profile.schema import Admission, Targets

NETWORK_S = 0.015
"""From the user to the gateway and back: §J1's 15 ms of the hybrid."""
COLD_START_S = 5.0
"""From the decision to start an instance to its first request. An assumption until yours is measured."""


@dataclass(frozen=True, slots=True)
class CloudRunSettings:
    """A service on Cloud Run (§C1)."""

    concurrency: int = 100
    min_instances: int = 0
    max_instances: int = 10
    target: float = 0.8
    """The share of `concurrency` that the autoscaler aims at (§C1: 80)."""
    cold_start_s: float = COLD_START_S
    plain_request_s: float = 0.1
    """The mean time that a request which needs no card holds its place."""

    @property
    def longest_wait_s(self) -> float:
        """How long a request waits for a place before it gets a 429: 3.5 times an instance's start, 10 s at
        least (Google's "About instance autoscaling", at the maximum number of instances).
        """
        return max(3.5 * self.cold_start_s, 10.0)


@dataclass(frozen=True, slots=True)
class Fallback:
    """An OpenAI-compatible service that answers whom the gateway refused (§H2)."""

    classes: frozenset[PriorityClass] = frozenset({PriorityClass.PREMIUM, PriorityClass.STANDARD})
    """Who may have it: background work comes again instead."""
    first_token_s: float = 0.6
    tok_s: float = 60.0
    """Together they say how long Cloud Run holds a place for its answer; assumptions."""


@dataclass(frozen=True, slots=True)
class System:
    """Everything between the CDN and the cards."""

    cards: CardModel
    replicas: int
    targets: Targets
    admission: Admission
    cloud_run: CloudRunSettings
    idle_w: float
    """At the wall, cooling included, with no card busy."""
    loaded_w: float
    """The same with all of them busy."""
    fallback: Fallback | None = None
    network_s: float = NETWORK_S


def system_of(
    scenario: Scenario,
    cards: CardModel,
    targets: Targets | None = None,
    admission: Admission | None = None,
    *,
    fallback: Fallback | None = None,
) -> System:
    """The scenario's box and Cloud Run. Cards that are too few for a whole replica stay idle."""
    return System(
        cards=cards,
        replicas=scenario.gpus // cards.cards_per_replica,
        targets=targets or Targets(),
        admission=admission or Admission(),
        cloud_run=CloudRunSettings(
            concurrency=scenario.container_concurrency,
            min_instances=scenario.min_instances,
            max_instances=scenario.max_instances,
            target=scenario.scaling_target,
            plain_request_s=scenario.plain_request_s,
        ),
        idle_w=wall_w(scenario, 0.0),
        loaded_w=wall_w(scenario, 1.0),
        fallback=fallback,
    )
