"""The same requests twice: through emulated engines step by step, and through the simulation's jumps.

The first way is `_virtual`'s stand, which shares no code with the simulation but the gateway's scheduler:
each token is a step of the emulated engine, each is told to the gateway, and each message takes its time.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from benchmarks._virtual import HOP_S, VirtualStand
from dreamseed_cli.costsim.queueing.arrivals import Asked, Load, draw
from dreamseed_cli.costsim.queueing.card import CardModel
from dreamseed_cli.costsim.queueing.outcome import Ending
from dreamseed_cli.costsim.queueing.path import Path as Way
from dreamseed_cli.costsim.queueing.system import CloudRunSettings, System
from dreamseed_cli.engine.emulated.scheduler import Scheduler, Sequence
from dreamseed_cli.gateway.admission.ticket import Ticket
from dreamseed_cli.gateway.call import PriorityClass
from dreamseed_cli.profile.schema import Admission, EmulatedCard, EmulatedEngine, Targets

PROMPT = 300
DOOR = CloudRunSettings(concurrency=10**9, min_instances=1, max_instances=1, plain_request_s=1.0)
"""A Cloud Run that never stands in the way."""


@dataclass(frozen=True)
class Found:
    """What either way gives, of the requests that came in the window."""

    ttft_mean_ms: float
    ttft_p95_ms: float
    e2e_mean_ms: float
    tokens_per_s: float
    answered: float
    """Of the requests, in percent."""

    def errors(self, truth: Found) -> dict[str, float]:
        """Relative to it, in percent."""
        return {name: 100 * (getattr(self, name) / value - 1) for name, value in vars(truth).items()}


def requests(rate: float, until: float, seed: int) -> Asked:
    """Poisson arrivals of three classes, prompts of one length."""
    asked = draw(Load(rps=rate, ai_share=1.0), until, seed, longest=10_000)
    return replace(asked, prompt_tokens=np.full(len(asked), PROMPT))


class Stepped(VirtualStand):
    """A stand that is fed with given requests and also notes how long whole answers took."""

    def __init__(self, engine: EmulatedEngine, rules: Admission, asked: Asked, since: float) -> None:
        super().__init__(
            engine,
            rules,
            prompts=dict.fromkeys(PriorityClass, PROMPT),
            answer=asked.allowed_tokens,
            patience_s=dict(asked.deadlines_s),
            since=since,
        )
        self.e2e_s: list[float] = []
        self._came = 0
        for at, cls, length, user in zip(
            asked.at_s.tolist(),
            map(PriorityClass, asked.priority.tolist()),
            asked.answer_tokens.tolist(),
            asked.user.tolist(),
            strict=True,
        ):
            self._came += at >= since
            self._at(at, lambda cls=cls, length=length, user=user: self._arrive(cls, length, f"u{user}"))  # type: ignore[misc]

    def found(self, until: float) -> Found:
        """Run it to the last request's end."""
        self.run(until)
        in_window = self.seen.generated
        self.run(math.inf)
        ttft = np.array([one for times in self.seen.ttft_s.values() for one in times])
        return Found(
            1000 * float(ttft.mean()),
            1000 * float(np.quantile(ttft, 0.95, method="inverted_cdf")),
            1000 * float(np.mean(self.e2e_s)),
            in_window / (until - self.seen.since),
            100 * len(self.e2e_s) / self._came,
        )

    def _note_answer(self, ticket: Ticket, sequence: Sequence) -> None:
        super()._note_answer(ticket, sequence)
        arrived = self._arrivals[ticket][0]
        if arrived >= self.seen.since:
            self.e2e_s.append(self._now + HOP_S - arrived)


def jumped(
    card: CardModel, replicas: int, rules: Admission, asked: Asked, window: tuple[float, float]
) -> Found:
    """The simulation of the same; its constant way there and back is the stand's."""
    since, until = window
    trail, before, after = Way(asked, [], system_of_card(card, replicas, rules)).walk(since, until)
    counted = asked.at_s >= since
    answered = counted & np.array([one is Ending.ANSWERED for one in trail.ending])
    began = counted & ~np.isnan(trail.first_at)
    on_top_s = 3 * HOP_S + card.on_top_s
    ttft = (trail.first_at - asked.at_s)[began] + on_top_s
    tokens = sum(late.tokens - early.tokens for early, late in zip(before.cards, after.cards, strict=True))
    return Found(
        1000 * float(ttft.mean()),
        1000 * float(np.quantile(ttft, 0.95, method="inverted_cdf")),
        1000 * (float((trail.end_at - asked.at_s)[answered].mean()) + on_top_s),
        tokens / (until - since),
        100 * float(answered.sum() / counted.sum()),
    )


def system_of_card(card: CardModel, replicas: int, rules: Admission) -> System:
    """Cards behind a gateway, and nothing else that matters."""
    return System(card, replicas, Targets(), rules, DOOR, idle_w=0.0, loaded_w=0.0)


def closed_cell(card: EmulatedCard, streams: int, answers: int, *, prompt: int = PROMPT) -> dict[str, Any]:
    """What `dreamseed bench` would write of one engine under so many streams, step by step."""
    rng = random.Random(streams)  # noqa: S311 - lengths, not secrets
    engine = Scheduler(card, 256)
    began: dict[Sequence, float] = {}
    first: dict[Sequence, float] = {}
    times: dict[str, list[float]] = {"ttft": [], "tpot": [], "e2e": []}
    sums: Counter[str] = Counter()
    now = since = 0.0
    new, step = streams, None
    while len(times["ttft"]) < answers + 2 * streams:
        for _ in range(new):
            sequence = Sequence(prompt, max(2, int(rng.lognormvariate(5.17, 0.5))))
            began[sequence] = now
            engine.submit(sequence)
        step = step or engine.start_step(now)
        if step is None:
            break
        done = engine.finish_step(step)
        new, now = len(done), step.due
        first.update((sequence, now) for sequence in step.prefilled)
        # The next step has begun when those that are answered ask again.
        step = engine.start_step(now)
        for sequence in done:
            times["ttft"].append(first[sequence] - began[sequence])
            times["tpot"].append((now - first[sequence]) / (sequence.emitted - 1))
            times["e2e"].append(now - began[sequence])
            if len(times["ttft"]) == 2 * streams:
                since, sums = now, Counter()
            sums.update(tokens=sequence.emitted, answers=1)
    latencies = {name: _latency(values[2 * streams :]) for name, values in times.items()}
    return {
        "name": f"streams-{streams}",
        "valid": True,
        "asked_streams": streams,
        "shape": {"type": "streams", "count": streams, "ramp_s": 0.0},
        "requests": sums["answers"],
        "achieved_rate_per_s": sums["answers"] / (now - since),
        "window_s": [since, now],
        "duration_s": now,
        "prompt_tokens_mean": float(prompt),
        "output_tokens_mean": sums["tokens"] / sums["answers"],
        "output_tokens_per_s": {"value": sums["tokens"] / (now - since)},
        "requests_per_s": {"value": sums["answers"] / (now - since)},
        **latencies,
    }


def _latency(values: list[float]) -> dict[str, Any]:
    ordered = np.sort(values) * 1000
    return {
        "mean": {"value": float(ordered.mean())},
        "quantiles": {
            name: {"value": float(np.quantile(ordered, share, method="inverted_cdf"))}
            for name, share in {"p50": 0.5, "p95": 0.95}.items()
        },
    }
