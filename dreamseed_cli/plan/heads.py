"""Which tensor-parallel sizes a model's attention heads allow, as vLLM decides it."""

from __future__ import annotations

from dreamseed_cli.plan.parts import Model


def refusal(model: Model, size: int) -> str | None:
    """Why vLLM refuses this tensor-parallel size; None if it takes it.

    Every card holds whole attention heads, so the size divides them. It holds whole KV heads too: up to
    one a card the size divides them; beyond that they are kept in several copies, so they divide the size.
    """
    if model.attention_heads % size:
        return f"{size} does not divide the model's {model.attention_heads} attention heads"
    if size <= model.kv_heads and model.kv_heads % size:
        return f"{size} does not divide the model's {model.kv_heads} KV heads"
    if size > model.kv_heads and size % model.kv_heads:
        return f"the model's {model.kv_heads} KV heads, copied, do not divide {size}"
    return None


def legal_sizes(model: Model, cards: int) -> list[int]:
    """The tensor-parallel sizes vLLM takes on so many cards."""
    return [size for size in range(1, max(cards, 1) + 1) if refusal(model, size) is None]


def kv_share(model: Model, size: int) -> float:
    """The share of a token's keys and values that each card holds (1 / size, or more with copies)."""
    if model.latent is not None:
        return 1.0
    return max(model.kv_heads // size, 1) / model.kv_heads
