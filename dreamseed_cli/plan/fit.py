"""Whether vLLM can start a model on a card, computed before anybody waits a minute to see it refuse."""

from __future__ import annotations

import math
from dataclasses import dataclass

from dreamseed_cli.plan.heads import kv_share, legal_sizes, refusal
from dreamseed_cli.plan.parts import Card, Model
from dreamseed_cli.profile.schema import VllmEngine

GIB = 2**30

# What vLLM's profiling run finds beside weights and KV cache: activations, CUDA context, graphs.
# A stated assumption: 1 to 2 GiB is what it reports for models of this size.
RESERVE_GIB = 1.5

_BYTES_OF = {"float32": 4, "float16": 2, "bfloat16": 2, "auto": 2, "fp8": 1}


@dataclass(frozen=True, slots=True)
class Fit:
    """Memory of one replica on cards of one kind. All sizes in bytes and per card."""

    tensor_parallel_size: int
    weights: float
    kv_cache: float
    kv_per_token: float

    @property
    def kv_tokens(self) -> int:
        """Tokens the KV cache holds; 0 if not even the weights fit."""
        return max(0, int(self.kv_cache / self.kv_per_token))


@dataclass(frozen=True, slots=True)
class Finding:
    """Something about a profile that vLLM would refuse, and what to do instead."""

    place: str
    cause: str
    remedy: str


def kv_bytes_per_token(model: Model, dtype: str) -> int:
    """Bytes of keys and values that one token holds over all layers (2 x layers x kv_heads x head_dim)."""
    return 2 * model.layers * model.kv_heads * model.head_dim * _BYTES_OF[dtype]


def kv_dtype(engine: VllmEngine) -> str:
    """The format of the KV cache: the engine's own, or that of its weights."""
    return engine.dtype if engine.kv_cache_dtype == "auto" else engine.kv_cache_dtype


def weight_bytes(model: Model, engine: VllmEngine) -> float:
    """Bytes of the model's weights as this engine loads them."""
    if model.weights_gb is not None:
        return model.weights_gb * 1e9
    return model.parameters * _BYTES_OF["fp8" if engine.quantization == "fp8" else engine.dtype]


def fit(
    model: Model,
    card: Card,
    engine: VllmEngine,
    tensor_parallel_size: int,
    pipeline_parallel_size: int = 1,
) -> Fit:
    """What one card of a group holds (`gpu_memory_utilization` of its memory); in a pipeline the fullest."""
    budget = engine.gpu_memory_utilization * card.memory_gib * GIB
    layers_share = math.ceil(model.layers / pipeline_parallel_size) / model.layers
    weights = weight_bytes(model, engine) * layers_share / tensor_parallel_size
    kv_per_token = kv_bytes_per_token(model, kv_dtype(engine)) * layers_share
    return Fit(
        tensor_parallel_size,
        weights=weights,
        kv_cache=budget - weights - RESERVE_GIB * GIB,
        kv_per_token=kv_per_token * kv_share(model, tensor_parallel_size),
    )


def findings(engine: VllmEngine, model: Model, card: Card | None, cards: int) -> list[Finding]:
    """Everything that keeps vLLM from starting this engine; empty if nothing known does."""
    found = []
    if engine.max_model_len > model.max_positions:
        found.append(
            Finding(
                "engine.max_model_len",
                f"{engine.max_model_len:,} tokens, the model has {model.max_positions:,} positions",
                f"Set it to {model.max_positions} or less.",
            )
        )
    if (reason := refusal(model, engine.tensor_parallel_size)) is not None:
        found.append(_indivisible(reason, engine, model, card, cards))
    elif card is not None:
        memory = _memory_finding(engine, model, card)
        found += [memory] if memory else []
    return found


def _indivisible(reason: str, engine: VllmEngine, model: Model, card: Card | None, cards: int) -> Finding:
    legal = legal_sizes(model, cards)
    remedy = f"Sizes that divide them on {cards} cards: {', '.join(map(str, legal))}"
    if card is not None:
        remedy += "; " + "; ".join(_outlook(engine, fit(model, card, engine, n)) for n in legal)
    return Finding(
        "engine.tensor_parallel_size",
        f"{reason}, so vLLM cannot start",
        f"{remedy}. Independent replicas (tensor_parallel_size 1) of a model that fits one card use all "
        "cards and survive the loss of one.",
    )


def _outlook(engine: VllmEngine, layout: Fit) -> str:
    tokens = layout.kv_tokens
    verdict = "fits" if tokens >= engine.max_model_len else "does not fit"
    return (
        f"with {layout.tensor_parallel_size} it {verdict} ({layout.weights / 1e9:.1f} GB of weights a card, "
        f"KV cache for {tokens:,} tokens of {layout.kv_per_token / 1e6:.2f} MB, "
        f"max_model_len is {engine.max_model_len:,})"
    )


def _memory_finding(engine: VllmEngine, model: Model, card: Card) -> Finding | None:
    layout = fit(model, card, engine, engine.tensor_parallel_size)
    if layout.kv_tokens >= engine.max_model_len:
        return None
    return Finding(
        "engine.model",
        f"on {card.title} {_outlook(engine, layout)}: less than one sequence, so vLLM refuses to start",
        "Take a quantised model or one with grouped-query attention, a lower max_model_len, or "
        "kv_cache_dtype = 'fp8'.",
    )
