"""Why the gateway itself does not answer a call, each with what the caller can do about it."""

from __future__ import annotations

from typing import ClassVar

from dreamseed_cli.core.errors import DreamseedError


class Refusal(DreamseedError):
    """A call that was not let in. reason: its label in metrics and events. user_id: whose it was, where that
    was known before it was refused.
    """

    reason: ClassVar[str]
    user_id: str = ""


class TryLater(Refusal):
    """There is no room now. retry_after_s: when there is likely to be, in seconds (gRPC's RetryInfo)."""

    def __init__(self, cause: str, *, retry_after_s: float) -> None:
        super().__init__(cause, remedy=f"Try again in {retry_after_s:.1f} s")
        self.retry_after_s = retry_after_s


class QueueFull(TryLater):
    """The class's queue holds as many requests as it may."""

    reason = "queue_full"


class DeadlineUnmeetable(TryLater):
    """By the measured drain rate the answer would not even begin before the caller gives up."""

    reason = "deadline"


class OverLimit(TryLater):
    """The user has used up its requests or tokens of this minute."""

    reason = "over_limit"


class Paused(TryLater):
    """Its class is not served for now, to save power."""

    reason = "paused"


class Closing(TryLater):
    """Nobody is let in any more: the box is about to stop. Elsewhere there may be an answer."""

    reason = "closing"


class Unauthenticated(Refusal):
    """No token or certificate, or one that nobody knows."""

    reason = "unauthenticated"


class NotPermitted(Refusal):
    """The caller is known and may not do this: another user's id, a priority above its tier."""

    reason = "not_permitted"


class CannotVerify(Refusal):
    """The key could not be looked up: PostgreSQL is away and the key was not seen before."""

    reason = "cannot_verify"
