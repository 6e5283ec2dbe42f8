"""Which of several prices a bill takes: the tariff, the plan, the region, the store, the fallback."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Choices:
    """Names of prices of the book; an unknown one is a UsageError when the bill is made."""

    tariff: str = "electricity-flat"
    """Of electricity: a tariff, or a price by the kWh."""
    month: Literal[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12] = 1
    """Tariffs have seasons."""
    fallback: str = "gpt-5-nano"
    """The model of the OpenAI-compatible service, as in `fallback-gpt-5-nano-input`."""
    cloudflare: Literal["free", "pro", "business"] = "pro"
    store: Literal["b2", "r2"] = "b2"
    cloud_run_tier: Literal[1, 2] = 1
    """Of Cloud Run's regions: Tokyo is 1, Seoul is 2."""

    @property
    def region(self) -> str:
        """How the prices of Cloud Run end."""
        return "" if self.cloud_run_tier == 1 else "-tier2"
