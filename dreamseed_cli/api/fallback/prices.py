"""What an answer of the fallback costs. Pure; US dollars as Decimal, in whole millionths."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import ROUND_CEILING, Decimal

from dreamseed_cli.gateway.front.money import MICRO

_PER = Decimal(1_000_000)
# What a chat template may put around a message, and around them all, in tokens: generously.
_TOKENS_AROUND = 16


@dataclass(frozen=True, slots=True)
class Prices:
    """US dollars for a million tokens."""

    input_usd_per_mtok: Decimal
    output_usd_per_mtok: Decimal

    def cost(self, prompt_tokens: int, completion_tokens: int) -> Decimal:
        """What so many tokens cost, rounded up."""
        exact = self.input_usd_per_mtok * prompt_tokens + self.output_usd_per_mtok * completion_tokens
        return (exact / _PER).quantize(MICRO, rounding=ROUND_CEILING)

    def at_most(self, texts: list[str], max_tokens: int) -> Decimal:
        """What an answer can cost before it is asked for.

        A token of a byte-level tokenizer holds at least one byte, so the prompt's bytes bound its tokens.
        """
        around = _TOKENS_AROUND * (len(texts) + 1)
        return self.cost(sum(len(text.encode()) for text in texts) + around, max_tokens)
