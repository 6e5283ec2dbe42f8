"""`--optimise`: the cheapest cards, power limit, model and Cloud Run settings that keep the SLO."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal

from dreamseed_cli.core.errors import DreamseedError, UsageError
from dreamseed_cli.costsim.decisions.capacity import cards_needed, overloaded
from dreamseed_cli.costsim.decisions.optimise import Candidate, Grid, Optimum, candidates, optimise
from dreamseed_cli.costsim.decisions.power_limit import limited, lowest_limit_w
from dreamseed_cli.costsim.holding import Held, held
from dreamseed_cli.costsim.question import Question, home_card
from dreamseed_cli.costsim.queueing.card import CardModel, card_of_roofline
from dreamseed_cli.costsim.replica import stated
from dreamseed_cli.costsim.rivals import hybrid_bill, worn
from dreamseed_cli.costsim.scenario import Scenario
from dreamseed_cli.plan.parts import Card, Model
from dreamseed_cli.plan.tables import require_model
from dreamseed_cli.profile.schema import VllmEngine

_HOURS = 0.25
_SIMILAR = 1.25
"""Models whose sizes differ by no more than this factor are taken to answer alike. A judgement."""
_SPARE_CARDS = 2
"""Beyond what the closed form asks for: the simulation may want more."""
_PLACES = (40, 80, 100, 250)
"""containerConcurrency; §C1 has 100."""
_INSTANCES = (2, 5, 10, 20, 50, 100)
"""maxScale; §C1 has 10."""


@dataclass(frozen=True, slots=True)
class _Speeds:
    """The replica of each model under each power limit, computed once."""

    question: Question
    card: Card
    models: Mapping[str, Model]
    engine: VllmEngine
    known: dict[tuple[str, float], CardModel | None] = field(default_factory=dict)

    def of(self, model: str, watts: float) -> CardModel | None:
        """None if vLLM could not start it."""
        key = model, watts
        if key not in self.known:
            self.known[key] = self._computed(model, watts)
        return self.known[key]

    def fast(self, model: str, scenario: Scenario) -> Scenario | None:
        """The scenario with the speed of its card, as `candidates` wants it."""
        replica = self.of(model, scenario.card_loaded_w)
        tpot_ms = self.question.profile.targets.tpot_ms
        return None if replica is None else stated(scenario, replica, tpot_ms=tpot_ms)

    def held(self, candidate: Candidate, seed: int) -> Held:
        """A candidate's busiest hour, simulated."""
        scenario = candidate.scenario
        replica = self.of(candidate.model, scenario.card_loaded_w)
        if replica is None:
            raise RuntimeError(f"{candidate.model} cannot start, and was chosen nevertheless")
        return held(scenario, replica, self.question.profile, hours=_HOURS, seed=seed)

    def _computed(self, model: str, watts: float) -> CardModel | None:
        length = min(self.engine.max_model_len, self.models[model].max_positions)
        engine = self.engine.model_copy(update={"max_model_len": length, "quantization": None})
        try:
            return card_of_roofline(self.models[model], limited(self.card, watts), engine)
        except DreamseedError:
            return None


def cheapest(one: Question, scenario: Scenario, *, seed: int) -> Optimum[Held]:
    """The cheapest candidate of a grid around the scenario that holds, hardware written off included.

    UsageError for an engine that no roofline is known of.
    """
    engine = one.profile.engine
    if not isinstance(engine, VllmEngine) or engine.device != "cuda":
        raise UsageError(
            "only vLLM on cards can be optimised: no roofline is known of others",
            place="engine",
            remedy="Take a profile such as rtx5090x3.",
        )
    card, alone = home_card(one), engine.model_copy(update={"tensor_parallel_size": 1})
    speeds = _Speeds(one, card, _similar(one, engine), alone)
    return optimise(
        candidates(scenario, _grid(one, scenario, card, speeds.models), speeds.fast),
        cost=lambda chosen: _month_usd(one, chosen),
        simulate=lambda candidate: speeds.held(candidate, seed),
        screen=lambda chosen: overloaded(chosen, psu_w=_psu_w(one, chosen)),
    )


def _month_usd(one: Question, scenario: Scenario) -> Decimal:
    """The bill and a month's loss of the hardware's worth."""
    bill = worn(replace(one, scenario=scenario), hybrid_bill(one, scenario, one.book))
    return bill.usd + sum((line.usd for line in bill.aside), Decimal(0))


def _similar(one: Question, engine: VllmEngine) -> dict[str, Model]:
    wanted = require_model(one.tables, engine.model)
    near = {
        name: model
        for name, model in one.tables.models.items()
        if abs(math.log(model.parameters / wanted.parameters)) <= math.log(_SIMILAR)
    }
    return {engine.model: wanted, **near}


def _grid(one: Question, scenario: Scenario, card: Card, models: Iterable[str]) -> Grid:
    lowest, most = lowest_limit_w(card), card.board_power_w
    needed = cards_needed(scenario, busy_share=1.0)
    return Grid(
        gpus=tuple(range(1, max(needed, one.scenario.gpus) + _SPARE_CARDS + 1)),
        limits_w=(lowest, (lowest + most) / 2, most),
        models=tuple(models),
        container_concurrency=_PLACES,
        max_instances=_INSTANCES,
    )


def _psu_w(one: Question, scenario: Scenario) -> float | None:
    """The profile's power supply, as long as the cards are as many as it was bought for."""
    box = one.profile.box
    return box.psu_w if scenario.gpus <= box.gpus else None
