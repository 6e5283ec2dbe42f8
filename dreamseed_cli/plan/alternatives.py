"""What can run on these cards instead: the models of the table that fit them."""

from __future__ import annotations

import math
from dataclasses import dataclass

from dreamseed_cli.plan.layouts import Layout, best_layout, legal_layouts
from dreamseed_cli.plan.parts import Card, Model
from dreamseed_cli.plan.tables import Tables, require_model
from dreamseed_cli.profile.schema import VllmEngine


@dataclass(frozen=True, slots=True)
class Alternative:
    """A model of the table with the best layout it has on these cards."""

    name: str
    model: Model
    layout: Layout


def fitting_models(
    tables: Tables, card: Card, engine: VllmEngine, gpus: int, *, context: int
) -> list[Alternative]:
    """Other models of the table that start on these cards, best first.

    Best is what comes nearest in size to the model that was wanted (within some 10 %), then what needs the
    fewest cards a replica, then speed.
    """
    wanted = require_model(tables, engine.model).parameters

    def order(one: Alternative) -> tuple[float, int, float]:
        distance = round(abs(math.log(one.model.parameters / wanted)), 1)
        return distance, one.layout.group, -one.layout.bound_tok_s

    found = []
    for name, model in tables.models.items():
        if name == engine.model:
            continue
        best = best_layout(legal_layouts(model, card, _with(engine, name, model), gpus, context=context))
        if best is not None:
            found.append(Alternative(name, model, best))
    return sorted(found, key=order)


def _with(engine: VllmEngine, name: str, model: Model) -> VllmEngine:
    length = min(engine.max_model_len, model.max_positions)
    return engine.model_copy(update={"model": name, "quantization": None, "max_model_len": length})
