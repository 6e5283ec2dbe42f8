"""One line of the table of cards, and one of the table of models."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from dreamseed_cli.profile.part import Count, Part, Positive


class Card(Part):
    """One kind of GPU."""

    title: str
    nvml_name: str | None = None
    """What NVML and nvidia-smi call it; None: as its title."""
    memory_gib: Positive
    """What nvidia-smi reports, in GiB."""
    bandwidth_gb_s: Positive
    """Memory bandwidth, 10^9 bytes per second."""
    board_power_w: Positive
    """Total board power as shipped, in watts."""
    min_power_limit_w: Positive | None = None
    """The lowest limit the driver takes, in watts."""
    tflops_fp16: Positive | None = None
    """Dense FP16 tensor throughput with FP32 accumulation, 10^12 operations per second."""
    tflops_bf16: Positive | None = None
    """The same for BF16."""
    tflops_fp8: Positive | None = None
    """The same for FP8; None where the card has no FP8."""
    tflops_int8: Positive | None = None
    """Dense INT8 tensor throughput."""
    pcie_gen: Annotated[int, Field(ge=1)] | None = None
    source: str

    def peak_tflops(self, precision: str) -> float | None:
        """Dense tensor TFLOPS at a precision; a format the card lacks is computed in FP16."""
        figure: float | None = getattr(self, f"tflops_{precision}", None)
        return figure if figure is not None else self.tflops_fp16


class Experts(Part):
    """The routed experts of a mixture: a token works with some of them, a batch with more, at most all."""

    routed: Count
    """Of a layer."""
    active: Count
    """Of these, those that work on one token."""
    parameters: Count
    """Weights of all routed experts of all layers."""
    weights_gb: Positive | None = None
    """Of quantised weights, those of the routed experts, 10^9 bytes; None: it follows from parameters."""


class Window(Part):
    """Layers that look back so many tokens only, and forget what is older."""

    layers: Count
    tokens: Count


class Latent(Part):
    """Multi-head latent attention (DeepSeek-V2's paper, arXiv:2405.04434, section 2.1): a layer keeps one
    vector of a token in place of its keys and values, whole on every card of a tensor-parallel group.
    """

    rank: Count
    """Of what keys and values are made from (`kv_lora_rank`)."""
    rope: Count
    """Of the key that carries the position, of which all heads have one (`qk_rope_head_dim`)."""

    @property
    def kept(self) -> int:
        """Numbers a layer keeps of a token."""
        return self.rank + self.rope


class Model(Part):
    """The figures of a model that decide where it fits."""

    parameters: Count
    layers: Count
    attention_heads: Count
    kv_heads: Count
    """Fewer than attention_heads under grouped-query attention."""
    head_dim: Count
    max_positions: Count
    weights_gb: Positive | None = None
    """Size of quantised weights, 10^9 bytes; None where it follows from parameters and dtype."""
    quantization: Literal["awq", "gptq", "fp8", "mxfp4"] | None = None
    """How the weights are quantised; None for 16 bits, and where only their size is known."""
    experts: Experts | None = None
    """None for a dense model."""
    latent: Latent | None = None
    """None where keys and values are kept as they are."""
    window: Window | None = None
    """None where every layer keeps the keys and values of all tokens."""
    plain_parameters: Count | None = None
    """Of `parameters`, those that stay in 16 bits where vLLM makes FP8 of the others: embeddings, output
    head, norms, biases, routers. None: not told, and taken as if there were none."""
    tower_parameters: Count | None = None
    """Of `parameters`, those that see or hear: in memory, but no token that is generated reads them."""
    uncounted: str | None = None
    """What the figures leave out, in words."""
    gated: bool = False
    """Whether its licence must be accepted on Hugging Face first."""

    @model_validator(mode="after")
    def _hangs_together(self) -> Self:
        """No part is more than the whole: a file of one's own may say so by a slip."""
        parts = [self.plain_parameters or 0, self.tower_parameters or 0]
        if self.experts is not None:
            parts.append(self.experts.parameters)
            if self.experts.active > self.experts.routed:
                raise ValueError(f"{self.experts.active} of {self.experts.routed} experts cannot be active")
        if sum(parts) > self.parameters:
            raise ValueError(f"its parts have {sum(parts):,} parameters, and all of it {self.parameters:,}")
        if self.window is not None and self.window.layers > self.layers:
            raise ValueError(f"{self.window.layers} of {self.layers} layers cannot have a window")
        if self.attention_heads % self.kv_heads:
            raise ValueError(f"{self.kv_heads} KV heads do not divide {self.attention_heads} attention heads")
        return self

    @property
    def attended_dim(self) -> float:
        """What a head multiplies for a token of context, half for its weight, half for the sum."""
        return self.head_dim if self.latent is None else self.latent.rank + self.latent.rope / 2

    @property
    def active_parameters(self) -> int:
        """Weights that work on one token."""
        found = self.parameters - (self.tower_parameters or 0)
        if self.experts is None:
            return found
        idle = self.experts.parameters * (self.experts.routed - self.experts.active) // self.experts.routed
        return found - idle
