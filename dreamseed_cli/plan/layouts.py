"""The ways to share a model out over a box's cards: which are legal, which fit, which is best.

A layout is tensor x pipeline x data: cards that share every layer, groups that hold some layers each, and
independent replicas. Bounds leave out what the cards say to each other (PCIe): real groups are slower.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dreamseed_cli.plan import heads
from dreamseed_cli.plan.fit import (
    Fit,
    expert_bytes,
    fit,
    kv_bytes_per_token,
    kv_dtype,
    sequences,
    tower_bytes,
    weight_bytes,
)
from dreamseed_cli.plan.parts import Card, Model
from dreamseed_cli.plan.roofline import DecodePoint, Engine, decode_point
from dreamseed_cli.profile.schema import VllmEngine

# A short question, and the document's answer of 200 tokens (§B1). A stated assumption.
TYPICAL_CONTEXT = 512


@dataclass(frozen=True, slots=True)
class Layout:
    """One way to use the cards. Tokens, sequences and batch are those of one replica."""

    tensor: int
    pipeline: int
    data: int
    memory: Fit
    """Of one card."""
    full_sequences: int
    """Sequences of max_model_len that the KV cache of one replica holds."""
    batch: int
    """Sequences of the stated context that one replica decodes at a time."""
    decode: DecodePoint | None
    """One replica at that batch; None where it does not fit."""

    @property
    def cards(self) -> int:
        return self.group * self.data

    @property
    def group(self) -> int:
        """Cards of one replica: what a failing card takes with it."""
        return self.tensor * self.pipeline

    @property
    def fits(self) -> bool:
        """Whether vLLM starts it: at least one sequence of max_model_len beside the weights."""
        return self.full_sequences > 0

    @property
    def bound_tok_s(self) -> float:
        """The most tokens per second of all replicas together; 0 where it does not fit."""
        return self.data * self.decode.bound_tok_s if self.decode else 0.0

    @property
    def expected_tok_s(self) -> float:
        """The same at the stated efficiencies."""
        return self.data * self.decode.expected_tok_s if self.decode else 0.0

    def __str__(self) -> str:
        return f"tensor {self.tensor} x pipeline {self.pipeline} x data {self.data}"

    @property
    def short(self) -> str:
        """The field's short form, for tables."""
        return f"TP{self.tensor} PP{self.pipeline} DP{self.data}"


def legal_layouts(
    model: Model, card: Card, engine: VllmEngine, cards: int, *, context: int = TYPICAL_CONTEXT
) -> list[Layout]:
    """Every layout vLLM takes on up to `cards` cards, smallest groups first; some may not fit."""
    return [
        layout(model, card, engine, (tensor, pipeline, data), context=context)
        for tensor in heads.legal_sizes(model, cards)
        for pipeline in range(1, min(cards // tensor, model.layers) + 1)
        for data in range(1, cards // (tensor * pipeline) + 1)
    ]


def layout(
    model: Model, card: Card, engine: VllmEngine, shape: tuple[int, int, int], *, context: int
) -> Layout:
    """One layout's memory and its bound at the most sequences that fit."""
    tensor, pipeline, data = shape
    memory = fit(model, card, engine, tensor, pipeline)
    full = memory.kv_tokens // engine.max_model_len
    batch = min(engine.max_num_seqs, sequences(model, engine, memory, context))
    speed = roofline_engine(model, card, engine, tensor, pipeline)
    decode = decode_point(speed, batch=batch, context=context) if full and batch else None
    return Layout(tensor, pipeline, data, memory, full, batch, decode)


def roofline_engine(
    model: Model, card: Card, engine: VllmEngine, tensor: int = 1, pipeline: int = 1
) -> Engine:
    """What one replica's speed follows from. Keys and values that are kept in copies are read in copies."""
    peak = card.peak_tflops(compute_precision(model, engine))
    experts, window = model.experts, model.window
    return Engine(
        weights_bytes=weight_bytes(model, engine) - tower_bytes(model, engine),
        kv_bytes_per_token=kv_bytes_per_token(model, kv_dtype(engine))
        * heads.kv_share(model, tensor)
        * tensor,
        parameters=model.active_parameters,
        bandwidth_bytes_s=card.bandwidth_gb_s * 1e9,
        peak_flops=None if peak is None else peak * 1e12,
        attention_flops_per_token=4.0 * model.layers * model.attention_heads * model.attended_dim,
        tensor_parallel_size=tensor,
        pipeline_parallel_size=pipeline,
        expert_bytes=expert_bytes(model, engine),
        active_share=experts.active / experts.routed if experts else 1.0,
        window_share=window.layers / model.layers if window else 0.0,
        window_tokens=window.tokens if window else 0,
    )


def compute_precision(model: Model, engine: VllmEngine) -> str:
    """The format the matrices are multiplied in: 4-bit weights are widened to 16 bits first."""
    if "fp8" in (engine.quantization, model.quantization):
        return "fp8"
    return "bf16" if engine.dtype == "bfloat16" else "fp16"


def best_layout(layouts: Sequence[Layout]) -> Layout | None:
    """The one to run; None if none fits.

    Independent replicas where the model fits one card: a failing card takes only its own replica with it.
    Else groups without a pipeline where there are any, since one sequence then gets the bandwidth of its
    whole group; of these the smallest that gives at least half of the most.
    """
    fitting = [one for one in layouts if one.fits]
    if single := [one for one in fitting if one.group == 1]:
        return max(single, key=lambda one: one.data)
    candidates = [one for one in fitting if one.pipeline == 1] or fitting
    most = max((one.bound_tok_s for one in candidates), default=0.0)
    ample = [one for one in candidates if one.bound_tok_s >= most / 2]
    return min(ample, key=lambda one: (one.group, -one.bound_tok_s), default=None)


def why_best(best: Layout, cards: int) -> str:
    """The reason, as one sentence."""
    idle = cards - best.cards
    spare = f"; {idle} of the {cards} cards stay{'s' if idle == 1 else ''} free" if idle else ""
    if best.group > 1:
        return (
            f"the model does not fit one card, and {best.group} together are the smallest group that gets "
            f"half of the best bound or more; a failing card takes down its group{spare}"
        )
    if best.data == 1:
        return f"the model fits one card, and there is one{spare}"
    return (
        f"the model fits one card, so each runs an independent replica and a failing card takes only its "
        f"own 1/{best.data} of the service{spare}"
    )
