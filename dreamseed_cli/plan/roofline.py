"""How fast a card can generate at best: the roofline of decode and prefill.

Every step of decoding reads all weights and the keys and values of every sequence once (bandwidth), and does
two operations a weight and sequence (compute); whichever takes longer bounds it. A `bound` is what the card's
published peaks allow, an `expected` figure is the bound at the stated efficiencies.

Of a mixture of experts a step reads those that the batch's tokens go to: as many as are expected if each
token chooses its own, all equally likely. A router that prefers some reads fewer.

All weights are counted, the input embedding among them, of which a step only looks up some lines: it is 1 %
(Llama-2-13B) to 16 % (Qwen2.5-14B in 4 bits) of the bytes, and by so much at most a bound is too low.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass

# Share of the peak that serving reaches. Bandwidth: 60 % at batch 1, as Databricks measured for Llama-class
# models ("LLM Inference Performance Engineering: Best Practices", 2023). Compute: an assumption of this
# tool, until yours is measured.
BANDWIDTH_EFFICIENCY = 0.6
COMPUTE_EFFICIENCY = 0.5


@dataclass(frozen=True, slots=True)
class Engine:
    """What one replica's speed follows from; its cards together, communication between them left out."""

    weights_bytes: float
    """All that decoding may read, every expert among them."""
    kv_bytes_per_token: float
    """Over all layers and heads."""
    parameters: int
    """Those that work on one token."""
    bandwidth_bytes_s: float
    """Of one card."""
    peak_flops: float | None
    """Of one card; None where it is not known: bandwidth alone bounds then."""
    attention_flops_per_token: float = 0.0
    """Operations of attention for each token of context: 4 x layers x heads x head_dim."""
    tensor_parallel_size: int = 1
    """Cards that work on every layer at once: their bandwidth and compute add up."""
    pipeline_parallel_size: int = 1
    """Groups of cards that hold a share of the layers each and work one after another."""
    expert_bytes: float = 0.0
    """Of weights_bytes, those of routed experts."""
    active_share: float = 1.0
    """Of a layer's routed experts, the share that works on one token."""
    window_share: float = 0.0
    """The share of the layers that look back a window only."""
    window_tokens: int = 0

    def read_bytes(self, tokens: float) -> float:
        """Weights that a pass over so many tokens reads: of the experts those that at least one goes to."""
        idle: float = self.expert_bytes * (1.0 - self.active_share) ** tokens
        return self.weights_bytes - idle

    def seen_tokens(self, context: float) -> float:
        """Tokens of a context that a layer looks at, on average of all layers."""
        return context - self.window_share * max(0.0, context - self.window_tokens)

    def seen_on_average(self, prompt: float) -> float:
        """The same for the tokens of a prompt, each of which looks at those before it."""
        beyond = max(0.0, prompt - self.window_tokens)
        return prompt / 2 - self.window_share * beyond**2 / (2 * prompt)

    @property
    def stage_bandwidth(self) -> float:
        """Bytes per second of the cards that work at once on one sequence."""
        return self.bandwidth_bytes_s * self.tensor_parallel_size

    @property
    def stage_flops(self) -> float | None:
        """Operations per second of the same."""
        return None if self.peak_flops is None else self.peak_flops * self.tensor_parallel_size


@dataclass(frozen=True, slots=True)
class DecodePoint:
    """Decoding at one batch size; tokens per second over all sequences."""

    batch: int
    bound_tok_s: float
    expected_tok_s: float
    limited_by: str
    """`bandwidth` or `compute`."""

    @property
    def bound_per_sequence_tok_s(self) -> float:
        return self.bound_tok_s / self.batch


def single_stream_tok_s(weights_bytes: float, bandwidth_bytes_s: float) -> float:
    """The most one sequence can get: every token reads all weights once (§B1)."""
    return bandwidth_bytes_s / weights_bytes


def decode_seconds(engine: Engine, *, batch: int, context: int) -> tuple[float, float]:
    """Seconds one more token for every sequence takes by bandwidth, and by compute.

    In a pipeline the batch is cut into as many parts as there are stages, which work at the same time: the
    weights are read once for every part, keys and values and operations are shared out. A part is one
    sequence at least, which has to go through every stage.
    """
    part = max(1.0, batch / engine.pipeline_parallel_size)
    seen = engine.seen_tokens(context)
    by_bandwidth = (
        engine.read_bytes(part) + part * seen * engine.kv_bytes_per_token
    ) / engine.stage_bandwidth
    return by_bandwidth, part * _compute_seconds(engine, context)


def _compute_seconds(engine: Engine, context: int) -> float:
    """What one more token of one sequence takes by compute; 0 without a peak."""
    if engine.stage_flops is None:
        return 0.0
    seen = engine.seen_tokens(context)
    return (2 * engine.parameters + seen * engine.attention_flops_per_token) / engine.stage_flops


def decode_point(engine: Engine, *, batch: int, context: int) -> DecodePoint:
    """Decoding `batch` sequences of `context` tokens each."""
    by_bandwidth, by_compute = decode_seconds(engine, batch=batch, context=context)
    expected = max(by_bandwidth / BANDWIDTH_EFFICIENCY, by_compute / COMPUTE_EFFICIENCY)
    return DecodePoint(
        batch,
        bound_tok_s=batch / max(by_bandwidth, by_compute),
        expected_tok_s=batch / expected,
        limited_by="bandwidth" if by_bandwidth >= by_compute else "compute",
    )


def decode_tok_s(engine: Engine, *, batch: int, context: int) -> float:
    """The most tokens per second that `batch` sequences get together."""
    return decode_point(engine, batch=batch, context=context).bound_tok_s


def prefill_tok_s(engine: Engine, *, prompt: int) -> tuple[float, float] | None:
    """Prompt tokens per second for a prompt of this length, as (bound, expected); None without a peak.

    A prompt's tokens are computed together: the weights are read once for all of them. On average a token
    attends to half of the prompt.
    """
    if engine.stage_flops is None:
        return None
    work = prompt * (
        2 * engine.parameters + engine.seen_on_average(prompt) * engine.attention_flops_per_token
    )
    by_compute = work / engine.stage_flops
    by_bandwidth = engine.read_bytes(prompt) / engine.stage_bandwidth
    expected = max(by_compute / COMPUTE_EFFICIENCY, by_bandwidth / BANDWIDTH_EFFICIENCY)
    return prompt / max(by_compute, by_bandwidth), prompt / expected


def batches(most: int) -> list[int]:
    """1, 2, 4, ... and `most` itself; empty if not even one sequence fits."""
    sizes = [1 << power for power in range(max(most, 0).bit_length())]
    return [*sizes, most] if most > 0 and sizes[-1] != most else sizes


def decode_table(engine: Engine, *, most: int, context: int) -> list[DecodePoint]:
    """Decoding at every batch size up to the `most` sequences that fit."""
    return [decode_point(engine, batch=batch, context=context) for batch in batches(most)]


def compute_bound_from(engine: Engine, *, context: int) -> int | None:
    """The batch size from which compute takes over from bandwidth; None if it never does.

    Compute is a straight line in the batch, and so is bandwidth once all weights are read: where the keys and
    values of a sequence take longer to read than its operations to do, they never meet. Experts that are not
    read yet only let compute take over sooner, and once: what a batch reads of them grows ever more slowly.
    """
    stages = engine.pipeline_parallel_size
    compute_each = _compute_seconds(engine, context) / stages
    kv_each = engine.seen_tokens(context) * engine.kv_bytes_per_token / stages / engine.stage_bandwidth
    if compute_each <= kv_each:
        return None
    latest = int(engine.weights_bytes / engine.stage_bandwidth / (compute_each - kv_each)) + 1

    def is_bound(batch: int) -> bool:
        by_bandwidth, by_compute = decode_seconds(engine, batch=batch, context=context)
        return by_compute > by_bandwidth

    return 1 + bisect_left(range(1, latest), True, key=is_bound)
