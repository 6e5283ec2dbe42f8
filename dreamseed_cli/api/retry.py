"""Whether to ask the gateway again, and when (§H2). Pure: time and chance are passed in."""

from __future__ import annotations

from dataclasses import dataclass

import grpc

from dreamseed_cli.api.errors import Failure

_WORTH_WAITING = 0.5


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """retries: further attempts after the first. base_s: the longest wait before the second attempt; it
    doubles with each, up to longest_s (exponential backoff, full jitter).
    """

    retries: int = 3
    base_s: float = 0.5
    longest_s: float = 4.0

    def patience_s(self, timeout_s: float) -> float:
        """How long a request waits for a gateway that is away: the rest of its time is for the answer."""
        return timeout_s * _WORTH_WAITING

    def delay_s(self, failure: Failure, *, attempt: int, left_s: float, chance: float) -> float | None:
        """Seconds to wait before another attempt; None: give up.

        attempt: how many were made, from 1. left_s: until the deadline. chance: 0 up to 1, evenly.
        A gateway that says when to come back (RetryInfo) is obeyed: never sooner, and not at all if that
        takes more than half of what is left, since then the answer itself would hardly fit.
        """
        if attempt > self.retries:
            return None
        if failure.retry_after_s is not None:
            delay_s = failure.retry_after_s * (1 + 0.25 * chance)
        elif failure.code in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED}:
            delay_s = chance * min(self.longest_s, self.base_s * 2.0 ** (attempt - 1))
        else:
            return None
        return delay_s if delay_s <= left_s * _WORTH_WAITING else None
