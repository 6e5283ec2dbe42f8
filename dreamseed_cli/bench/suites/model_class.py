"""Which of the document's sizes of model (7B, 13B, 70B) is being measured."""

from __future__ import annotations

from dreamseed_cli.plan.tables import find_model, shipped
from dreamseed_cli.profile.schema import Profile, VllmEngine

_CLASSES = {"7b": (6e9, 9e9), "13b": (12e9, 15e9), "70b": (65e9, 75e9)}
"""Parameters: what today's models of that name have (Llama-3-8B 8.0e9, Qwen2.5-14B 14.8e9)."""


def model_class(profile: Profile | None) -> str | None:
    """`7b`, `13b` or `70b` by the number of parameters; None for other sizes and unknown models."""
    if profile is None or not isinstance(profile.engine, VllmEngine):
        return None
    model = find_model(shipped(), profile.engine.model)
    if model is None:
        return None
    found = (name for name, (low, high) in _CLASSES.items() if low <= model.parameters <= high)
    return next(found, None)
