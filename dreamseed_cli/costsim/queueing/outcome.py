"""What a simulation found, as plain data. Every figure here is simulated."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from dreamseed_cli.core.quantiles import SHARES, minimum_samples, rank

Floats = npt.NDArray[np.float64]


class Ending(StrEnum):
    """How an AI request that no cache answered ended: each exactly once."""

    ANSWERED = "answered"
    """By a card, to its last token."""
    QUEUE_FULL = "queue_full"
    """Refused by the gateway: its class's queue is full."""
    DEADLINE = "deadline"
    """Refused by the gateway: its turn would come too late for its deadline."""
    EXPIRED = "expired"
    """It waited until no time was left for an answer."""
    CUT = "cut"
    """Its deadline passed while a card answered it."""
    NO_REPLICA = "no_replica"
    """Refused by the gateway: there is no card."""
    CLOUD_RUN_FULL = "cloud_run_full"
    """Cloud Run had no place for it in time (429)."""


@dataclass(frozen=True, slots=True)
class Times:
    """A distribution of times in seconds. A quantile is there only where enough samples carry it: from 11,
    64, 130 and 662 on for p50, p90, p95 and p99, as in `dreamseed bench`.
    """

    n: int
    mean_s: float
    quantiles_s: Mapping[str, float]

    @classmethod
    def of(cls, values: Floats) -> Times:
        """Nearest-rank quantiles; mean 0 of nothing."""
        ordered = np.sort(values)
        found = {
            name: float(ordered[rank(share, len(ordered)) - 1])
            for name, share in SHARES.items()
            if len(ordered) >= minimum_samples(share)
        }
        return cls(len(ordered), float(ordered.mean()) if len(ordered) else 0.0, found)


@dataclass(frozen=True, slots=True)
class ClassOutcome:
    """AI requests of one class, or of all, that no cache answered and that came in the window."""

    requests: int
    endings: Mapping[Ending, int]
    """They add up to `requests`."""
    good: int
    """Answered by a card within both times of the SLO."""
    fallback: int
    """Not answered by a card and sent to the fallback instead."""
    per_s: float
    """`good` a second: the goodput."""
    ttft: Times
    """From Cloud Run's door to the first token at the user; answers of cards alone."""
    wait: Times
    """In the gateway's queue; those that got a card."""
    e2e: Times
    """From Cloud Run's door to the last token; answers of cards alone."""

    @property
    def attainment(self) -> float:
        """The share that was good; 1 of nothing."""
        return self.good / self.requests if self.requests else 1.0

    @property
    def refused(self) -> int:
        """Neither answered by a card nor cut midway."""
        return self.requests - self.endings.get(Ending.ANSWERED, 0) - self.endings.get(Ending.CUT, 0)


@dataclass(frozen=True, slots=True)
class CardsOutcome:
    """All replicas over the window."""

    replicas: int
    busy_share: float
    """Of the time, on average over the replicas: with at least one sequence."""
    mean_batch: float
    """Sequences a replica has while it is busy."""
    tokens_per_s: float
    """Generated, of all replicas together, those of cut answers among them."""
    prompt_tokens_per_s: float
    preemptions: int


@dataclass(frozen=True, slots=True)
class CloudRunOutcome:
    """Cloud Run over the window (§C1)."""

    requests: int
    """That came to it: what the CDN did not answer."""
    rejected: int
    """Answered with 429, AI requests among them."""
    cold_starts: int
    billable_instance_s: float
    """Instance-seconds with a request or a start under way: request-based billing."""
    idle_min_instance_s: float
    """Instance-seconds that `min_instances` alone kept there."""
    instance_s: float
    """Instance-seconds that existed: instance-based billing."""
    mean_concurrency: float
    """Requests in all instances on average."""
    peak_instances: int


@dataclass(frozen=True, slots=True)
class FallbackOutcome:
    """What went to the OpenAI-compatible fallback (§H2), in the units it is paid by."""

    requests: int
    prompt_tokens: int
    answer_tokens: int


@dataclass(frozen=True, slots=True)
class EnergyOutcome:
    """The box at the wall, cooling included."""

    mean_w: float
    kwh: float
    """Over the window."""
    joules_per_token: float | None
    """None if nothing was generated."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """One simulation, its warm-up left out."""

    seed: int
    window_s: float
    """What all counts are of: multiply by the month over it for a month."""
    api_requests: int
    """Of users, static files left out."""
    cdn_answered: int
    """Of these, questions that the CDN answered (§C2)."""
    ai_requests: int
    """Of API requests: they asked for an AI answer."""
    cache_hits: int
    """Of AI requests: the answer cache had it (§I1)."""
    classes: Mapping[str, ClassOutcome]
    """`premium`, `standard`, `batch`: AI requests that the cache did not answer."""
    overall: ClassOutcome
    cards: CardsOutcome
    cloud_run: CloudRunOutcome
    fallback: FallbackOutcome
    energy: EnergyOutcome
    notes: tuple[str, ...] = ()
    """Where the cards' figures come from, and what was assumed."""
