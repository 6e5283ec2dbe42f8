"""The tables of cards and models, as data with their units in their names."""

from __future__ import annotations

import tomllib
from functools import cache
from pathlib import Path

from pydantic import TypeAdapter

from dreamseed_cli.profile.part import Part

_HERE = Path(__file__).resolve().parent


class Card(Part):
    """One kind of GPU."""

    title: str
    memory_gib: float
    """What the driver reports, in GiB."""
    bandwidth_gb_s: float
    """Memory bandwidth, 10^9 bytes per second."""
    board_power_w: float
    source: str


class Model(Part):
    """The figures of a model that decide where it fits."""

    parameters: int
    layers: int
    attention_heads: int
    kv_heads: int
    """Fewer than attention_heads under grouped-query attention."""
    head_dim: int
    max_positions: int
    weights_gb: float | None = None
    """Size of quantised weights, 10^9 bytes; None where it follows from parameters and dtype."""
    gated: bool = False
    """Whether its licence must be accepted on Hugging Face first."""


@cache
def cards() -> dict[str, Card]:
    """Every known card by its short name."""
    return TypeAdapter(dict[str, Card]).validate_python(_read("cards.toml"))


@cache
def models() -> dict[str, Model]:
    """Every known model by the name a profile uses."""
    return TypeAdapter(dict[str, Model]).validate_python(_read("models.toml"))


def _read(name: str) -> dict[str, object]:
    return tomllib.loads((_HERE / name).read_text(encoding="utf-8"))
