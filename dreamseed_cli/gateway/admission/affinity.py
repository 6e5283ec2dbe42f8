"""Which replicas' KV caches hold a prompt's beginning (vLLM's prefix caching, §B3)."""

from __future__ import annotations

from collections import OrderedDict

from dreamseed_cli.engine.types import GenerationRequest

_LENGTHS = (2048, 256)
"""Characters of the beginnings that are remembered, about 512 and 64 tokens: less is not worth a detour."""
_MOST_PREFIXES = 8192


def prefix_keys(request: GenerationRequest) -> tuple[int, ...]:
    """Keys of a request's beginnings, the longest first: system prompt, history, prompt, as they are sent.

    Only this process compares them, so that Python's own, unstable hash will do.
    """
    start = request.system_prompt or "" if not request.raw else ""
    for turn in request.history:
        if len(start) >= _LENGTHS[0]:
            break
        start += turn.content
    if len(start) < _LENGTHS[0]:
        start += request.prompt[: _LENGTHS[0] - len(start)]
    return tuple(hash(start[:length]) for length in _LENGTHS if len(start) >= length)


class Affinity:
    """The replicas that had each beginning, by name; the least recently used beginnings are forgotten."""

    def __init__(self) -> None:
        self._homes: OrderedDict[int, frozenset[str]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._homes)

    def homes(self, prefixes: tuple[int, ...]) -> frozenset[str]:
        """Who holds the longest known one of these beginnings."""
        for prefix in prefixes:
            found = self._homes.get(prefix)
            if found is not None:
                return found
        return frozenset()

    def remember(self, prefixes: tuple[int, ...], replica: str) -> None:
        """These beginnings are computed at a replica now."""
        for prefix in prefixes:
            known = self._homes.get(prefix, frozenset())
            self._homes[prefix] = known if replica in known else known | {replica}
            self._homes.move_to_end(prefix)
        while len(self._homes) > _MOST_PREFIXES:
            self._homes.popitem(last=False)

    def forget(self, replicas: frozenset[str]) -> None:
        """These replicas lost their caches: they are gone or start anew."""
        if replicas:
            kept = ((prefix, homes - replicas) for prefix, homes in self._homes.items())
            self._homes = OrderedDict((prefix, homes) for prefix, homes in kept if homes)
