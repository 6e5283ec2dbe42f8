"""Which layers of a model have experts, and which look back a window only, as transformers decides it."""

from __future__ import annotations

from dreamseed_cli.plan.hf_fields import Fields
from dreamseed_cli.plan.hf_shape import Family, Mixture
from dreamseed_cli.plan.parts import Window

_SLIDING = "sliding_attention"
_SIXTH = 6
"""Gemma 3's, where its configuration does not tell."""


def mixture_of(fields: Fields, family: Family, layers: int) -> Mixture | None:
    """The experts of a configuration; None for a dense model."""
    if family.experts == "none":
        return None
    read = {"mixtral": _mixtral, "qwen": _qwen, "deepseek": _deepseek}[family.experts]
    found = read(fields, layers)
    if found.active > found.routed:
        raise fields.refuse(f"num_experts_per_tok {found.active} is more than its {found.routed} experts")
    return found if found.layers else None


def window_of(fields: Fields, family: Family, layers: int) -> Window | None:
    """How many layers keep a window only, and of how many tokens; None if all keep everything."""
    if family.windows == "none" or fields.number("sliding_window", 0, least=0) == 0:
        return None
    found = _windowed(fields, family, layers)
    return Window(layers=found, tokens=fields.number("sliding_window")) if found else None


def _windowed(fields: Fields, family: Family, layers: int) -> int:
    types = fields.names("layer_types")
    if family.windows == "from_a_layer" and not fields.flag("use_sliding_window"):
        return 0
    if types is not None:
        return types.count(_SLIDING)
    if family.windows == "every_second":  # the first, the third, ...
        return (layers + 1) // 2
    if family.windows == "but_every_nth":
        pattern = fields.number("sliding_window_pattern", fields.number("_sliding_window_pattern", _SIXTH))
        return layers - layers // pattern
    if family.windows == "from_a_layer":
        return max(0, layers - fields.number("max_window_layers", layers, least=0))
    return layers


def _mixtral(fields: Fields, layers: int) -> Mixture:
    return Mixture(
        layers=layers,
        routed=fields.number("num_local_experts"),
        active=fields.number("num_experts_per_tok"),
        size=fields.number("intermediate_size"),
    )


def _qwen(fields: Fields, layers: int) -> Mixture:
    step, dense = fields.number("decoder_sparse_step", 1), fields.numbers("mlp_only_layers")
    # transformers 5 writes Qwen 3's under Mixtral's name.
    renamed = fields.given("num_experts") is None and fields.given("num_local_experts") is not None
    shared = fields.number("shared_expert_intermediate_size", 0, least=0)
    return Mixture(
        layers=sum((layer + 1) % step == 0 and layer not in dense for layer in range(layers)),
        routed=fields.number("num_local_experts" if renamed else "num_experts"),
        active=fields.number("num_experts_per_tok"),
        size=fields.number("moe_intermediate_size"),
        shared=shared,
        shared_gate=shared > 0,
    )


def _deepseek(fields: Fields, layers: int) -> Mixture:
    first, every = fields.number("first_k_dense_replace", 0, least=0), fields.number("moe_layer_freq", 1)
    size = fields.number("moe_intermediate_size")
    return Mixture(
        layers=sum(layer >= first and layer % every == 0 for layer in range(layers)),
        routed=fields.number("n_routed_experts"),
        active=fields.number("num_experts_per_tok"),
        size=size,
        shared=fields.number("n_shared_experts", 0, least=0) * size,
    )
