"""What a card's power limit costs in tokens per second: less than in proportion, as decode waits for memory.

Lowering the limit lowers the clock of the cores, not that of the memory. What the cores draw grows with the
cube of their clock (P = C V^2 f, and V rises with f), so compute falls with the cube root of what is left
above a static share; bandwidth stays. `plan`'s roofline then says how much of a step waits for which.

Held against a published sweep of an RTX 3090 (350 W): prompts, which are bound by compute, at 300 and
250 W got 94 and 85 % of full speed, this model says 93 and 84; decode of few sequences, bound by memory, lost
1 to 3 % (llmgarage.ai, "Power Limit Sweep", February 2026). Below 70 % of the board power the clock falls
faster than the cube root (60 % measured at 200 W, 73 computed): limits that low are refused.
"""

from __future__ import annotations

from dreamseed_cli.core.errors import UsageError
from dreamseed_cli.plan.parts import Card

STATIC_SHARE = 0.3
"""Of the board power: memory, fans, leakage and regulators, which do not follow the cores' clock. An
assumption, fitted to the sweep above."""
LOWEST_SHARE = 0.69
"""Of the board power: what the model is good for. The RTX 5090's lowest limit (400 of 575 W) is above it."""
_PRECISIONS = ("tflops_fp16", "tflops_bf16", "tflops_fp8", "tflops_int8")


def lowest_limit_w(card: Card) -> float:
    """The lowest limit there is a figure for: the driver's, or what the model is good for."""
    return max(card.min_power_limit_w or 0.0, LOWEST_SHARE * card.board_power_w)


def clock_share(card: Card, limit_w: float) -> float:
    """The cores' clock under a limit, as a share of that at full board power; 1 for higher limits.

    UsageError below the lowest limit.
    """
    if limit_w < lowest_limit_w(card):
        raise UsageError(
            f"{limit_w:g} W is below the {lowest_limit_w(card):.0f} W that a limit of {card.title} can be",
            place="card_loaded_w",
            remedy="Take a higher limit, or fewer cards.",
        )
    static = STATIC_SHARE * card.board_power_w
    left = (min(limit_w, card.board_power_w) - static) / (card.board_power_w - static)
    return float(left ** (1 / 3))


def limited(card: Card, limit_w: float) -> Card:
    """The card under a power limit: less compute, the same bandwidth."""
    share = clock_share(card, limit_w)
    peaks = {name: peak * share for name in _PRECISIONS if (peak := getattr(card, name)) is not None}
    return card.model_copy(update={**peaks, "board_power_w": min(limit_w, card.board_power_w)})
