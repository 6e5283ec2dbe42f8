"""`simulate`: a load meets a system for some hours. Seeded: the same call gives the same outcome."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dreamseed_cli.core.errors import UsageError
from dreamseed_cli.costsim.queueing.arrivals import Asked, Load, draw, load_of
from dreamseed_cli.costsim.queueing.batching import CardTotals
from dreamseed_cli.costsim.queueing.cloud_run import CloudRunTotals, tick_s
from dreamseed_cli.costsim.queueing.outcome import (
    CardsOutcome,
    ClassOutcome,
    CloudRunOutcome,
    Ending,
    EnergyOutcome,
    FallbackOutcome,
    Outcome,
    Times,
)
from dreamseed_cli.costsim.queueing.path import Path, Sums, Trail, falls_back
from dreamseed_cli.costsim.queueing.system import System, system_of
from dreamseed_cli.gateway.call import PriorityClass

__all__ = ["Load", "Outcome", "System", "load_of", "simulate", "system_of"]

WARM_UP = 0.1
"""The share of the time at its beginning, in which the system fills, that is left out; 10 minutes at most."""
_LONGEST_WARM_UP_S = 600.0

Mask = npt.NDArray[np.bool_]


def simulate(load: Load, system: System, *, hours: float, seed: int) -> Outcome:
    """The load's requests, drawn by the seed, on their way through the system.

    hours: simulated time, warm-up included. Requests that come in it are followed to their ends.
    Raises UsageError for a time that is not above 0.
    """
    if not 0 < hours < float("inf"):
        raise UsageError(f"{hours:g} hours cannot be simulated", place="hours", remedy="Write more than 0.")
    until = hours * 3600
    since = min(WARM_UP * until, _LONGEST_WARM_UP_S)
    asked = draw(load, until, seed, longest=system.cards.card.kv_cache_tokens)
    rng = np.random.default_rng((seed, 2))
    tick = tick_s(system.cloud_run)
    plain = rng.poisson(load.plain_per_s * tick, round(until / tick))
    trail, before, after = Path(asked, plain.tolist(), system).walk(since, until)
    window = _Window(load, system, seed, since, until)
    return window.outcome(asked, trail, before, after, plain_seen=int(plain[round(since / tick) :].sum()))


@dataclass(frozen=True, slots=True)
class _Window:
    """What is told of a walk: the requests that came from `since` to `until`, the totals between."""

    load: Load
    system: System
    seed: int
    since: float
    until: float

    @property
    def seconds(self) -> float:
        return self.until - self.since

    def outcome(self, asked: Asked, trail: Trail, before: Sums, after: Sums, *, plain_seen: int) -> Outcome:
        """Everything in figures. plain_seen: Cloud Run's requests that needed no card."""
        counted: Mask = asked.at_s >= self.since
        classes = {
            one.label: self._class(asked, trail, counted & (asked.priority == int(one)))
            for one in sorted(PriorityClass, reverse=True)
        }
        overall = self._class(asked, trail, counted)
        rng = np.random.default_rng((self.seed, 3))
        hits = int(rng.binomial(plain_seen, self._hit_part)) if plain_seen else 0
        cdn = int(rng.poisson(self.load.rps * self.load.cdn_share * self.seconds))
        cards = self._cards(before.cards, after.cards)
        return Outcome(
            seed=self.seed,
            window_s=self.seconds,
            api_requests=cdn + plain_seen + overall.requests,
            cdn_answered=cdn,
            ai_requests=hits + overall.requests,
            cache_hits=hits,
            classes=classes,
            overall=overall,
            cards=cards,
            cloud_run=self._cloud_run(before.cloud_run, after.cloud_run, overall, plain_seen),
            fallback=self._fallback(asked, trail, counted),
            energy=self._energy(cards),
            notes=(f"cards: {self.system.cards.card.source}",),
        )

    @property
    def _hit_part(self) -> float:
        """Of plain requests at Cloud Run, those that the answer cache answers."""
        hits = self.load.rps * self.load.ai_share * self.load.cache_hit
        return min(hits / self.load.plain_per_s, 1.0) if self.load.plain_per_s else 0.0

    def _class(self, asked: Asked, trail: Trail, chosen: Mask) -> ClassOutcome:
        picked = np.flatnonzero(chosen)
        endings = Counter(trail.ending[index] for index in picked.tolist())
        answered = picked[[trail.ending[index] is Ending.ANSWERED for index in picked.tolist()]]
        on_top_s = self.system.network_s + self.system.cards.on_top_s
        ttft = trail.first_at[answered] - asked.at_s[answered] + on_top_s
        e2e = trail.end_at[answered] - asked.at_s[answered] + on_top_s
        gaps = np.maximum(asked.answer_tokens[answered] - 1, 1)
        targets = self.system.targets
        fine = (ttft <= targets.ttft_ms / 1000) & ((e2e - ttft) / gaps <= targets.tpot_ms / 1000)
        waits = trail.waited_s[picked]
        good = int(fine.sum())
        return ClassOutcome(
            requests=len(picked),
            endings={one: endings[one] for one in Ending if endings[one]},
            good=good,
            fallback=len(self._fell_back(asked, trail, picked)),
            per_s=good / self.seconds,
            ttft=Times.of(ttft),
            wait=Times.of(waits[~np.isnan(waits)]),
            e2e=Times.of(e2e),
        )

    def _fell_back(self, asked: Asked, trail: Trail, picked: npt.NDArray[np.intp]) -> list[int]:
        fallback = self.system.fallback
        if fallback is None:
            return []
        return [
            index
            for index in picked.tolist()
            if falls_back(fallback, PriorityClass(int(asked.priority[index])), trail.ending[index])
        ]

    def _fallback(self, asked: Asked, trail: Trail, counted: Mask) -> FallbackOutcome:
        indexes = self._fell_back(asked, trail, np.flatnonzero(counted))
        prompts, answers = asked.prompt_tokens[indexes], asked.answer_tokens[indexes]
        return FallbackOutcome(len(indexes), int(prompts.sum()), int(answers.sum()))

    def _cards(self, before: Sequence[CardTotals], after: Sequence[CardTotals]) -> CardsOutcome:
        def grown(name: str) -> float:
            pairs = zip(before, after, strict=True)
            return float(sum(getattr(late, name) - getattr(early, name) for early, late in pairs))

        busy_s = grown("busy_s")
        replicas = self.system.replicas
        return CardsOutcome(
            replicas=replicas,
            busy_share=busy_s / (replicas * self.seconds) if replicas else 0.0,
            mean_batch=grown("batch_s") / busy_s if busy_s else 0.0,
            tokens_per_s=grown("tokens") / self.seconds,
            prompt_tokens_per_s=grown("prompt_tokens") / self.seconds,
            preemptions=int(grown("preemptions")),
        )

    def _cloud_run(
        self, before: CloudRunTotals, after: CloudRunTotals, overall: ClassOutcome, plain_seen: int
    ) -> CloudRunOutcome:
        turned_away = overall.endings.get(Ending.CLOUD_RUN_FULL, 0)
        return CloudRunOutcome(
            requests=plain_seen + overall.requests,
            rejected=after.rejected_plain - before.rejected_plain + turned_away,
            cold_starts=after.cold_starts - before.cold_starts,
            billable_instance_s=after.billable_s - before.billable_s,
            idle_min_instance_s=after.idle_min_s - before.idle_min_s,
            instance_s=after.instance_s - before.instance_s,
            mean_concurrency=(after.request_s - before.request_s) / self.seconds,
            peak_instances=after.peak_instances,
        )

    def _energy(self, cards: CardsOutcome) -> EnergyOutcome:
        """Between idle and loaded by the busy share: a card that decodes draws the same at any batch."""
        system = self.system
        mean_w = system.idle_w + (system.loaded_w - system.idle_w) * cards.busy_share
        made = cards.tokens_per_s
        return EnergyOutcome(mean_w, mean_w * self.seconds / 3.6e6, mean_w / made if made else None)
