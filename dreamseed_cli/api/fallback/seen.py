"""Which keys the gateway accepted lately: the fallback's money is for its users alone. Pure."""

from __future__ import annotations

import hashlib
from collections import OrderedDict

_MOST = 100_000
_KEPT_S = 24 * 3600.0


class SeenKeys:
    """Remembers hashes of keys, the most recent ones. Times are seconds of any steady clock."""

    def __init__(self) -> None:
        self._seen: OrderedDict[bytes, float] = OrderedDict()

    def note(self, key: str, now: float) -> None:
        """The gateway answered the key's bearer."""
        digest = _digest(key)
        self._seen[digest] = now
        self._seen.move_to_end(digest)
        if len(self._seen) > _MOST:
            self._seen.popitem(last=False)

    def forget(self, key: str) -> None:
        """The gateway refused it."""
        self._seen.pop(_digest(key), None)

    def knows(self, key: str, now: float) -> bool:
        """Whether it was accepted within the last 24 hours."""
        at = self._seen.get(_digest(key))
        return at is not None and now - at <= _KEPT_S


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()
