"""One kind of request as its TOML file describes it (benchmarks/workloads/)."""

from __future__ import annotations

import math
import random
from functools import cached_property
from statistics import NormalDist
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from dreamseed_cli.profile.part import Count, Part, Positive

_NORMAL = NormalDist()
_Z95 = _NORMAL.inv_cdf(0.95)


class Lengths(Part):
    """Numbers of tokens with a lognormal distribution, rounded, and cut off at both ends."""

    median: Positive
    p95: Positive
    """95 of 100 are shorter, before the ends are cut off."""
    min: Count
    max: Count

    @model_validator(mode="after")
    def _is_in_order(self) -> Self:
        if not self.min <= self.median <= self.max:
            raise ValueError(f"median is {self.median:g}: it should lie between min and max")
        if self.p95 < self.median:
            raise ValueError(f"p95 is {self.p95:g}: it should be no less than the median")
        return self

    def draw(self, rng: random.Random) -> int:
        """One length."""
        length = self.median * math.exp(self.sigma * rng.gauss(0.0, 1.0))
        return min(self.max, max(self.min, round(length)))

    @cached_property
    def sigma(self) -> float:
        """The standard deviation of the length's logarithm."""
        return math.log(self.p95 / self.median) / _Z95

    @cached_property
    def mean(self) -> float:
        """The average of what `draw` gives, rounding and cutting included: the sum of P(length >= n)."""
        return self.min + sum(self._at_least(length) for length in range(self.min + 1, self.max + 1))

    def _at_least(self, length: int) -> float:
        if self.sigma == 0.0:
            return float(self.median >= length - 0.5)
        return 1.0 - _NORMAL.cdf(math.log((length - 0.5) / self.median) / self.sigma)


class Kind(Part):
    """A kind of request: how long, how sampled, in which class. `source` says where its figures come from."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$")]
    description: str
    source: str
    opening: Annotated[str, Field(min_length=1)]
    """The task, with which the prompt begins."""
    system_prompt: str | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] = 0.7
    top_p: Annotated[float, Field(gt=0, le=1)] = 0.9
    priority: Literal["BATCH", "STANDARD", "PREMIUM"] = "STANDARD"
    prompt_tokens: Lengths
    """With the system prompt, without the model's chat template."""
    output_tokens: Lengths
    catalogue_size: Annotated[int, Field(ge=1, le=1_000_000)] = 1000
    """How many different prompts there are where prompts repeat on purpose ..."""
    zipf_exponent: Annotated[float, Field(ge=0)] = 1.0
    """... the r-th most popular of which comes in proportion to r to the minus this; 0: all alike."""
