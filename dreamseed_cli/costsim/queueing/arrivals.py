"""Who asks for what: the load of one hour, and the requests drawn from it by a seed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from dreamseed_cli.core.errors import UsageError
from dreamseed_cli.costsim.queueing.outcome import Floats
from dreamseed_cli.costsim.scenario import Scenario
from dreamseed_cli.gateway.call import PriorityClass

CLASS_MIX: Mapping[PriorityClass, float] = {
    PriorityClass.PREMIUM: 0.2,
    PriorityClass.STANDARD: 0.7,
    PriorityClass.BATCH: 0.1,
}
"""Shares of the AI requests. An assumption of this tool: the document names the classes, not their sizes."""
DEADLINES_S: Mapping[PriorityClass, float] = {
    PriorityClass.PREMIUM: 30.0,
    PriorityClass.STANDARD: 30.0,
    PriorityClass.BATCH: 300.0,
}
"""Who gives up when: §D1's 30 s; background work waits as long as Cloud Run lets it (§C1: 300 s)."""
SPREAD = 0.5
"""Of the lengths, which are lognormal: the standard deviation of their logarithm, as in our other loads."""
LONGEST = 3.0
"""The longest answer that is allowed, in mean ones (`max_tokens`): 1 in 140 would be longer."""
_MOST_USERS = 10_000

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Load:
    """API requests at a steady mean rate, each at a time of its own (Poisson). Shares are of API requests
    but for `cache_hit` and `class_mix`, which are of AI requests.
    """

    rps: float
    """API requests of users, static files left out."""
    ai_share: float
    cdn_share: float = 0.0
    """Answered by the CDN; never AI requests."""
    cache_hit: float = 0.0
    prompt_tokens: float = 300.0
    """Mean."""
    answer_tokens: float = 200.0
    """Mean."""
    class_mix: Mapping[PriorityClass, float] = field(default_factory=lambda: CLASS_MIX)
    deadlines_s: Mapping[PriorityClass, float] = field(default_factory=lambda: DEADLINES_S)
    users: int = 1000
    """Who take turns within a class (the gateway is fair between users)."""

    def __post_init__(self) -> None:
        total = sum(self.class_mix.values())
        if not math.isclose(total, 1.0) or min(self.class_mix.values()) < 0:
            raise UsageError(
                f"the classes' shares add up to {total:g}", place="class_mix", remedy="Make them 1 in all."
            )

    @property
    def asked_per_s(self) -> float:
        """AI requests that no cache answers."""
        return self.rps * self.ai_share * (1 - self.cache_hit)

    @property
    def plain_per_s(self) -> float:
        """Requests that come to Cloud Run and need no card, hits of the answer cache among them."""
        return self.rps * max(1 - self.cdn_share - self.ai_share * (1 - self.cache_hit), 0.0)


def load_of(scenario: Scenario, *, at_rps: float | None = None) -> Load:
    """The scenario's load at so many API requests a second; None: in its busiest hour, exam season included.

    Cacheable questions and AI requests are taken to be different ones.
    """
    if at_rps is None:
        surge = scenario.surge if scenario.surge_days else 1.0
        at_rps = scenario.concurrent * scenario.requests_per_user_min / 60 * surge
    return Load(
        rps=at_rps,
        ai_share=scenario.ai_share,
        cdn_share=min(scenario.cached_question_share * scenario.question_cdn_hit, 1 - scenario.ai_share),
        cache_hit=scenario.answer_cache_hit,
        prompt_tokens=scenario.prompt_tokens,
        answer_tokens=scenario.answer_tokens,
        users=max(scenario.concurrent, 1),
    )


@dataclass(frozen=True, slots=True, eq=False)
class Asked:
    """AI requests that no cache answers, in the order of time; arrays of one length."""

    at_s: Floats
    priority: Ints
    prompt_tokens: Ints
    answer_tokens: Ints
    """What the model would say: never more than `allowed_tokens`."""
    user: Ints
    allowed_tokens: int
    deadlines_s: Mapping[PriorityClass, float]

    def __len__(self) -> int:
        return len(self.at_s)


def draw(load: Load, until_s: float, seed: int, *, longest: int) -> Asked:
    """The same load and seed give the same requests, whatever the system is.

    longest: tokens of prompt and answer together that the card can hold.
    """
    rng = np.random.default_rng((seed, 1))
    count = rng.poisson(load.asked_per_s * until_s)
    at_s = np.sort(rng.uniform(0.0, until_s, count))
    classes = list(load.class_mix)
    allowed = max(1, min(math.ceil(load.answer_tokens * LONGEST), longest // 2))
    return Asked(
        at_s=at_s,
        priority=rng.choice([int(one) for one in classes], count, p=[load.class_mix[one] for one in classes]),
        prompt_tokens=_lengths(rng, load.prompt_tokens, longest - allowed, count),
        answer_tokens=_lengths(rng, load.answer_tokens, allowed, count),
        user=rng.integers(0, min(load.users, _MOST_USERS), count),
        allowed_tokens=allowed,
        deadlines_s=load.deadlines_s,
    )


def _lengths(rng: np.random.Generator, mean: float, longest: int, count: int) -> Ints:
    """Lognormal with this mean, before the longest are cut."""
    median = max(mean, 1.0) / math.exp(SPREAD**2 / 2)
    drawn = rng.lognormal(math.log(median), SPREAD, count)
    return np.clip(np.rint(drawn), 1, longest).astype(np.int64)
