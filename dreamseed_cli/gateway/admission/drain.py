"""How fast queues drain and answers come, measured: RetryInfo and a deadline's refusal are made of it."""

from __future__ import annotations

_WEIGHT = 1 / 64
"""Of the newest value in an average: places come free in bursts, a mean over fewer would jump with them."""

_TELLING_TOKENS = 8
_LONGEST_GUESS = 4.0
"""How many times longer than it took a cut answer may be thought to take."""


class DrainRate:
    """The mean time between two dispatches while somebody waits. Times are monotonic seconds."""

    def __init__(self) -> None:
        self._interval_s = 0.0
        self._seen = 0
        self._since = 0.0

    def backlog_began(self, now: float) -> None:
        """Somebody waits, and nobody did before."""
        self._since = now

    def dispatched(self, now: float) -> None:
        """One that waited has left for an engine."""
        self._seen += 1
        self._interval_s += max(_WEIGHT, 1 / self._seen) * (now - self._since - self._interval_s)
        self._since = now

    def wait_s(self, ahead: int, now: float, *, backlog: bool = True) -> float | None:
        """How long one waits with `ahead` others before it; None before anything was measured.

        A queue that stands still is expected to stand as long again; one with no `backlog` stands for nobody.
        """
        if not self._seen:
            return None
        overdue_s = max(0.0, now - self._since - self._interval_s) if backlog else 0.0
        return (ahead + 1) * self._interval_s + overdue_s


class Pace:
    """How long an answer takes from its place on, in seconds: means over the last few dozen."""

    def __init__(self) -> None:
        self._answer_s = 0.0
        self._per_token_s = 0.0
        self._seen = 0

    def finished(self, took_s: float, allowed_tokens: int) -> None:
        """A complete answer, which may have been shorter than it was allowed to be."""
        self._seen += 1
        weight = max(_WEIGHT, 1 / self._seen)
        self._answer_s += weight * (took_s - self._answer_s)
        self._per_token_s += weight * (took_s / max(1, allowed_tokens) - self._per_token_s)

    def cut(self, took_s: float, tokens: int, allowed_tokens: int) -> None:
        """One that its caller did not wait for to the end counts with the time it would have taken. Without
        these, engines so full that no answer is ever complete would go on like that, unnoticed.
        """
        if tokens >= _TELLING_TOKENS:
            self.finished(took_s * min(max(1.0, allowed_tokens / tokens), _LONGEST_GUESS), allowed_tokens)

    def answer_s(self, allowed_tokens: int) -> float:
        """How long one will take: as long as others, or less if it may not be so long; 0 before any came."""
        return min(self._answer_s, self._per_token_s * allowed_tokens)
