"""Which leading blocks of a prompt the KV cache still knows (vLLM's prefix caching, §B3)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence

BLOCK_TOKENS = 16
"""vLLM's block size on a card: only whole blocks are shared."""


def chain_blocks(parts: Iterable[object]) -> tuple[int, ...]:
    """One hash a block that also covers all blocks before it, so that equal hashes mean equal prefixes.

    parts: the contents of the prompt's whole blocks, in order.
    """
    chained: list[int] = []
    previous = 0
    for part in parts:
        previous = hash((previous, part))
        chained.append(previous)
    return tuple(chained)


class PrefixCache:
    """The most recently used blocks, bounded by what the KV cache holds."""

    def __init__(self, capacity_tokens: int) -> None:
        self._capacity = capacity_tokens // BLOCK_TOKENS
        self._blocks: OrderedDict[int, None] = OrderedDict()

    def cached_tokens(self, blocks: Sequence[int]) -> int:
        """How many leading prompt tokens need no prefill."""
        hits = 0
        for block in blocks:
            if block not in self._blocks:
                break
            self._blocks.move_to_end(block)
            hits += 1
        return hits * BLOCK_TOKENS

    def remember(self, blocks: Sequence[int]) -> None:
        """Keep a prefilled prompt's blocks; the least recently used ones make room."""
        for block in blocks:
            self._blocks[block] = None
            self._blocks.move_to_end(block)
        while len(self._blocks) > self._capacity:
            self._blocks.popitem(last=False)
