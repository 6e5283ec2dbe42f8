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

# vLLM's default max_num_batched_tokens: as much of a prompt is worked on at once, and kept meanwhile.
PROMPT_PART_TOKENS = 2048

# By how the weights are quantised: what `quantization` may say of them.
_LOADS = {
    None: frozenset({"fp8"}),
    "awq": frozenset({"awq", "awq_marlin"}),
    "gptq": frozenset({"gptq"}),
    "fp8": frozenset({"fp8"}),
    "mxfp4": frozenset({"mxfp4"}),
}

_BYTES_OF = {"float32": 4, "float16": 2, "bfloat16": 2, "auto": 2, "fp8": 1}


@dataclass(frozen=True, slots=True)
class Fit:
    """Memory of one replica on cards of one kind. All sizes in bytes and per card."""

    tensor_parallel_size: int
    weights: float
    kv_cache: float
    kv_per_token: float
    """On average of a sequence of max_model_len."""
    kv_share: float = 1.0
    """The share of a sequence's keys and values that the card keeps."""

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
    """Bytes that one token holds over all layers: 2 x layers x kv_heads x head_dim of keys and values, or
    layers x (rank + rope) of a latent vector.
    """
    each = 2 * model.kv_heads * model.head_dim if model.latent is None else model.latent.kept
    return model.layers * each * _BYTES_OF[dtype]


def kv_bytes_kept(model: Model, dtype: str, tokens: int) -> float:
    """Bytes that one sequence of so many tokens takes of the KV cache over all layers.

    A layer with a window keeps that, and while a prompt is worked on the part that is under way (as vLLM
    reserves it).
    """
    full = kv_bytes_per_token(model, dtype) * tokens
    if model.window is None:
        return full
    forgotten = max(0, tokens - model.window.tokens - PROMPT_PART_TOKENS)
    return full - kv_bytes_per_token(model, dtype) * forgotten * model.window.layers / model.layers


def sequences(model: Model, engine: VllmEngine, memory: Fit, tokens: int) -> int:
    """How many sequences of so many tokens one replica's KV cache holds."""
    each = kv_bytes_kept(model, kv_dtype(engine), tokens) * memory.kv_share
    return max(0, int(memory.kv_cache / each))


def kv_dtype(engine: VllmEngine) -> str:
    """The format of the KV cache: the engine's own, or that of its weights."""
    return engine.dtype if engine.kv_cache_dtype == "auto" else engine.kv_cache_dtype


def weight_bytes(model: Model, engine: VllmEngine) -> float:
    """Bytes of the model's weights as this engine loads them."""
    if model.weights_gb is not None:
        return model.weights_gb * 1e9
    each = _bytes_a_weight(engine)
    plain = model.plain_parameters or 0
    return (model.parameters - plain) * each + plain * max(each, _BYTES_OF["float16"])


def expert_bytes(model: Model, engine: VllmEngine) -> float:
    """Bytes of those of them that are routed experts: 0 for a dense model."""
    if model.experts is None:
        return 0.0
    if model.weights_gb is None:
        return model.experts.parameters * _bytes_a_weight(engine)
    if model.experts.weights_gb is not None:
        return model.experts.weights_gb * 1e9
    return weight_bytes(model, engine) * model.experts.parameters / model.parameters


def tower_bytes(model: Model, engine: VllmEngine) -> float:
    """Bytes of those of them that only pictures and sound read; they are not quantised."""
    each = _bytes_a_weight(engine) if model.weights_gb is None else _BYTES_OF["float16"]
    return (model.tower_parameters or 0) * each


def _bytes_a_weight(engine: VllmEngine) -> int:
    return _BYTES_OF["fp8" if engine.quantization == "fp8" else engine.dtype]


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
    longest = engine.max_model_len
    share = layers_share * kv_share(model, tensor_parallel_size)
    return Fit(
        tensor_parallel_size,
        weights=weights,
        kv_cache=budget - weights - RESERVE_GIB * GIB,
        kv_per_token=kv_bytes_kept(model, kv_dtype(engine), longest) / longest * share,
        kv_share=share,
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
    if (unlike := _quantization_finding(engine, model)) is not None:
        found.append(unlike)
    if (reason := refusal(model, engine.tensor_parallel_size)) is not None:
        found.append(_indivisible(reason, engine, model, card, cards))
    elif card is not None:
        memory = _memory_finding(engine, model, card, cards)
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


def _quantization_finding(engine: VllmEngine, model: Model) -> Finding | None:
    """What vLLM is told of the weights must be what they are; only fp8 it makes itself, of 16 bits."""
    asked, held = engine.quantization, model.quantization
    unknown = held is None and model.weights_gb is not None
    if asked is None or unknown or asked in _LOADS[held]:
        return None
    weights = "weights in 16 bits" if held is None else f"weights quantised with {held}"
    return Finding(
        "engine.quantization",
        f"'{asked}', the model has {weights}, so vLLM refuses to start",
        f"Leave it out, so that vLLM reads it from the model, or take a model with {asked} weights.",
    )


def _memory_finding(engine: VllmEngine, model: Model, card: Card, cards: int) -> Finding | None:
    layout = fit(model, card, engine, engine.tensor_parallel_size)
    if layout.kv_tokens >= engine.max_model_len:
        return None
    return Finding(
        "engine.model",
        f"on {card.title} {_outlook(engine, layout)}: less than one sequence, so vLLM refuses to start",
        _less_memory(engine, model, card, cards, layout),
    )


def _less_memory(engine: VllmEngine, model: Model, card: Card, cards: int, layout: Fit) -> str:
    """What would make it fit, and is not so already."""
    quantised = model.weights_gb is not None or engine.quantization is not None
    ways = [] if quantised else ["a quantised model"]
    wide = model.kv_heads == model.attention_heads and model.latent is None
    ways += ["one with grouped-query attention"] if wide else []
    ways = ways or ["a smaller model"]
    larger = [size for size in legal_sizes(model, cards) if size > engine.tensor_parallel_size]
    fitting = (size for size in larger if fit(model, card, engine, size).kv_tokens >= engine.max_model_len)
    ways += [f"tensor_parallel_size = {size}" for size in (next(fitting, None),) if size is not None]
    # Where the weights alone are too large, no smaller KV cache helps.
    if layout.kv_cache > 0:
        ways.append("a lower max_model_len")
        ways += ["kv_cache_dtype = 'fp8'"] if engine.kv_cache_dtype != "fp8" else []
    *most, last = ways
    return f"Take {', '.join(most)} or {last}." if most else f"Take {last}."
