"""Event ids: unique over gateways and restarts, and in the order of their making within one process."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

_NS_PER_MS = 1_000_000


class EventIds:
    """UUIDs of version 7 (RFC 9562 section 6.2, method 3): nanoseconds, then 54 random bits of this process.

    clock: nanoseconds since the epoch. A clock that stands still or goes back makes no id twice.
    """

    def __init__(self, clock: Callable[[], int] = time.time_ns) -> None:
        self._clock = clock
        self._last = 0
        process = os.urandom(7)
        self._high = 0x8000 | process[6] >> 2
        self._low = process[:6].hex()

    def next(self) -> str:
        """A new id as text, greater than every one before it."""
        now = self._last = max(self._clock(), self._last + 1)
        milliseconds, rest = divmod(now, _NS_PER_MS)
        return (
            f"{milliseconds >> 16:08x}-{milliseconds & 0xFFFF:04x}-7{rest >> 8:03x}"
            f"-{self._high | (rest & 0xFF) << 6:04x}-{self._low}"
        )
