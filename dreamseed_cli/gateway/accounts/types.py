"""Who a user is, and what it was granted."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from dreamseed_cli.gateway.call import PriorityClass


class Tier(StrEnum):
    """What a user pays for (§B3: paid before free)."""

    PAID = "paid"
    FREE = "free"
    BACKGROUND = "background"

    @property
    def highest(self) -> PriorityClass:
        """The best class its requests may ask for (§B4)."""
        return _HIGHEST[self]


_HIGHEST = {
    Tier.PAID: PriorityClass.PREMIUM,
    Tier.FREE: PriorityClass.STANDARD,
    Tier.BACKGROUND: PriorityClass.BATCH,
}


class Account(msgspec.Struct, frozen=True, gc=False):
    """A registered user."""

    user_id: str
    tier: Tier
    disabled: bool = False
    expires_at: float | None = None
    """When the key that the account was found by ends, in seconds since the epoch; None: never, or no key."""


class Grant(msgspec.Struct, frozen=True, gc=False):
    """What one request may have. Hand it back with `Gate.settle` when the request has ended."""

    user_id: str
    """Empty: anonymous."""
    tier: Tier
    """For a user that nobody registered: the one the profile gives it."""
    priority: PriorityClass
    clamped: bool
    """Whether that is less than was asked for."""
    reserved_tokens: int = 0
    """What the request holds of its user's tokens per minute until it is settled."""
