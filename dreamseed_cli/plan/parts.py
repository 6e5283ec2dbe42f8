"""One line of the table of cards, and one of the table of models."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from dreamseed_cli.profile.part import Count, Part, Positive


class Card(Part):
    """One kind of GPU."""

    title: str
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
    gated: bool = False
    """Whether its licence must be accepted on Hugging Face first."""
