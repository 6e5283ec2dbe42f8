"""How far a run is, on stderr: bytes, their rate, the time left. Only where a person looks on."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TextIO

_EVERY_S = 0.5
_STEADY_S = 2.0
"""Until then the rate is that of the first parts, and says nothing of the time left."""


def size_text(size: float) -> str:
    """Bytes for people: `1.4 GiB`."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(size) < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"


def time_text(seconds: float) -> str:
    """A time for people: `45 s`, `12 min`, `3.5 h`."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


class Progress:
    """One line that is written over. expected: plain bytes, or None. stream: nothing shows off a terminal."""

    def __init__(
        self, stream: TextIO, expected: int | None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._stream = stream
        self._expected = expected
        self._clock = clock
        self._begun = clock()
        self._there = 0
        self._shown_at = self._begun - _EVERY_S
        self._shown = False

    def told(self, plain: int, stored: int) -> None:
        """What the pipeline calls after each part (see pipeline.Told)."""
        if not stored:
            self._there = plain
        now = self._clock()
        if not self._stream.isatty() or now - self._shown_at < _EVERY_S:
            return
        self._shown_at, self._shown = now, True
        self._stream.write(f"\r\x1b[K{self.line(plain, stored)}")
        self._stream.flush()

    def line(self, plain: int, stored: int) -> str:
        """`1.2 GiB of about 3.0 GiB, 310.0 MiB/s, 6 s left; 420.0 MiB stored`."""
        elapsed = self._clock() - self._begun
        rate = (plain - self._there) / max(elapsed, 1e-6)
        whole = f" of about {size_text(self._expected)}" if self._expected else ""
        left = ""
        if self._expected and elapsed >= _STEADY_S and 0 < plain < self._expected:
            left = f", {time_text((self._expected - plain) / rate)} left"
        return f"{size_text(plain)}{whole}, {size_text(rate)}/s{left}; {size_text(stored)} stored"

    def end(self) -> None:
        """Take the line away."""
        if self._shown:
            self._stream.write("\r\x1b[K")
            self._stream.flush()
