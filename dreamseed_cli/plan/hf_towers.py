"""What a model that sees or hears has beside its language model: weights in memory that no token reads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dreamseed_cli.plan.hf_fields import Fields

_TOWERS = ("vision_config", "audio_config")
_SIGLIP = "siglip_vision_model"


def tower_parameters(config: Mapping[str, Any], hidden: int, place: str) -> int | None:
    """Weights of the towers and of what leads from them into the language model of this hidden size.

    0: there are none. None: there are some of a kind that is not computed.
    """
    given = [name for name in _TOWERS if isinstance(config.get(name), dict)]
    if not given:
        return 0
    fields = Fields(config[given[0]], f"{place}: {given[0]}")
    if config.get("model_type") != "gemma3" or given != ["vision_config"] or not _is_plain_siglip(fields):
        return None
    width = fields.number("hidden_size")
    return _siglip(fields) + width * hidden + width


def _is_plain_siglip(fields: Fields) -> bool:
    return fields.given("model_type") == _SIGLIP and fields.given("vision_use_head") is False


def _siglip(fields: Fields) -> int:
    """SigLIP without its head: patches, positions, layers with biases everywhere, a last norm."""
    width, inner = fields.number("hidden_size"), fields.number("intermediate_size")
    patch = fields.number("patch_size")
    positions = (fields.number("image_size") // patch) ** 2
    patches = fields.number("num_channels", 3) * patch**2 * width + width
    attention = 4 * (width**2 + width)
    forward = 2 * width * inner + inner + width
    layer = attention + forward + 4 * width
    return patches + positions * width + fields.number("num_hidden_layers") * layer + 2 * width
