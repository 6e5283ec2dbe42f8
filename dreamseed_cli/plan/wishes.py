"""What a user asked `plan` to compute: a profile, perhaps with another model, card or number of cards."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from dreamseed_cli.core.errors import UsageError
from dreamseed_cli.plan.tables import Tables, require_model
from dreamseed_cli.profile.schema import Box, Profile, VllmEngine


@dataclass(frozen=True, slots=True)
class Wishes:
    """What replaces a profile's own; None keeps it."""

    model: str | None = None
    card: str | None = None
    gpus: int | None = None

    def __bool__(self) -> bool:
        return (self.model, self.card, self.gpus) != (None, None, None)


def base_profile(wishes: Wishes) -> Profile:
    """A profile with every default, for a plan of a model and a card without one."""
    if wishes.model is None or wishes.card is None:
        raise UsageError(
            "a card alone is no plan",
            place="--card",
            remedy="Say what it shall run: --model NAME, or --profile NAME.",
        )
    return Profile(
        name="plan",
        description="a model and a card, with every option at its default",
        box=Box(gpus=wishes.gpus or 1, gpu_model=wishes.card),
        engine=VllmEngine(kind="vllm", device="cuda", model=wishes.model),
    )


def apply(profile: Profile, wishes: Wishes, tables: Tables) -> Profile:
    """The profile with the wishes in it. Raises UsageError for names that no table knows.

    Replicas and parallel sizes are the profile's still: they belonged to its own model and cards.
    """
    _require_known(wishes, tables)
    box = _box(profile.box, wishes)
    return profile.model_copy(update={"box": box, "engine": _engine(profile, wishes, tables)})


def _require_known(wishes: Wishes, tables: Tables) -> None:
    if wishes.card is not None and wishes.card not in tables.cards:
        raise UsageError(
            f"no card of this name is in the table: {wishes.card}",
            place="--card",
            remedy=f"Known are: {', '.join(tables.cards)}. Others: --cards FILE.",
        )
    if wishes.model is not None:
        require_model(tables, wishes.model)


def _box(box: Box, wishes: Wishes) -> Box:
    if wishes.gpus is not None and box.gpu_model is None and wishes.card is None:
        raise UsageError(
            "the profile names no card",
            place="--gpus",
            remedy="Say which: --card NAME, or choose a profile with cards: dreamseed profile list.",
        )
    changed: dict[str, Any] = {}
    if wishes.card is not None:
        changed = {"gpu_model": wishes.card, "gpus": box.gpus or 1}
        if wishes.card != box.gpu_model:
            changed["gpu_power_limit_w"] = None  # it was the other card's
    if wishes.gpus is not None:
        changed["gpus"] = wishes.gpus
    return box.model_copy(update=changed)


def _engine(profile: Profile, wishes: Wishes, tables: Tables) -> Any:
    engine = profile.engine
    if not isinstance(engine, VllmEngine):
        if wishes.model is None:
            return engine
        engine = VllmEngine(kind="vllm", device="cuda", model=wishes.model)
    changed: dict[str, Any] = {}
    if wishes.card is not None:
        changed["device"] = "cuda"
    if wishes.model is not None:
        positions = require_model(tables, wishes.model).max_positions
        changed["max_model_len"] = min(engine.max_model_len, positions)
        if wishes.model != engine.model:
            changed |= {"model": wishes.model, "quantization": None}
    return engine.model_copy(update=changed)
