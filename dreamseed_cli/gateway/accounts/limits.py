"""What one user may use in a minute, by its tier. Pure: times are passed in, in seconds."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass

from dreamseed_cli.engine.types import GenerationRequest
from dreamseed_cli.gateway.accounts.types import Tier
from dreamseed_cli.gateway.refusals import OverLimit
from dreamseed_cli.profile.schema import Accounts, Limits

_MINUTE_S = 60.0
_CHARACTERS_PER_TOKEN = 4
_ROUNDING_S = 1e-6


def estimate_tokens(request: GenerationRequest) -> int:
    """Prompt and longest answer together, before anybody has counted the prompt's tokens."""
    texts = [request.prompt, request.system_prompt or "", *(turn.content for turn in request.history)]
    return request.max_tokens + math.ceil(sum(map(len, texts)) / _CHARACTERS_PER_TOKEN)


@dataclass(slots=True)
class _Use:
    """One user's two buckets, each as the time at which it is full again, and what runs now."""

    requests_full_at: float = -math.inf
    tokens_full_at: float = -math.inf
    reserved: int = 0
    """Tokens that running requests may still use."""


class UserLimits:
    """Token buckets: a user may use a minute's allowance at once, which comes back evenly over a minute. In
    any t seconds that is never more than the allowance and t/60 of it.

    A running request reserves its estimated tokens, and pays for what it really used when it ends: an answer
    that stays short costs what it is, and many long ones at once cannot overdraw. A request larger than the
    whole allowance is let in by a full bucket with nothing reserved, and is paid off afterwards.

    A user whose buckets are full again is forgotten: nothing is lost by that. `entries` bounds the memory
    whatever happens, at the price of forgetting those who have been quiet for longest.
    """

    def __init__(self, by_tier: Mapping[Tier, Limits], *, entries: int = 65_536) -> None:
        self._by_tier = by_tier
        self._entries = entries
        self._uses: OrderedDict[str, _Use] = OrderedDict()

    @classmethod
    def of(cls, accounts: Accounts) -> UserLimits:
        """As the profile sets them."""
        return cls(_by_tier(accounts))

    def take_rules(self, accounts: Accounts) -> None:
        """Limit by these from now on. Buckets keep how full they are, in parts of a minute's allowance."""
        self._by_tier = _by_tier(accounts)

    def __len__(self) -> int:
        return len(self._uses)

    def take(self, user_id: str, tier: Tier, tokens: int, now: float) -> int:
        """Let one request in that may use `tokens`; what it reserved, for `settle`.

        Raises OverLimit, and takes nothing, if the requests or tokens of the tier are used up.
        """
        limits = self._by_tier[tier]
        requests, per_minute = limits.requests_per_minute, limits.tokens_per_minute
        if requests is None and per_minute is None:
            return 0
        use = self._use(user_id, now)
        if requests is not None:
            _require_request(use, requests, now)
        if per_minute is not None:
            _require_tokens(use, tokens, per_minute, now)
            use.reserved += tokens
        if requests is not None:
            use.requests_full_at = _after(use.requests_full_at, 1, requests, now)
        return 0 if per_minute is None else tokens

    def settle(self, user_id: str, tier: Tier, *, reserved: int, used: int, now: float) -> None:
        """A request has ended: give back what it reserved, pay for the tokens it used."""
        per_minute = self._by_tier[tier].tokens_per_minute
        if per_minute is None and not reserved:
            return
        use = self._use(user_id, now)
        # Given back also if the limit was lifted meanwhile: it may come again.
        use.reserved = max(0, use.reserved - reserved)
        if per_minute is not None:
            use.tokens_full_at = _after(use.tokens_full_at, used, per_minute, now)

    def _use(self, user_id: str, now: float) -> _Use:
        use = self._uses.get(user_id)
        if use is None:
            use = self._uses[user_id] = _Use()
            self._forget(now)
        else:
            self._uses.move_to_end(user_id)
        return use

    def _forget(self, now: float) -> None:
        """For every user that came, look at the two that have been quiet for longest."""
        for _ in range(2):
            user_id, use = next(iter(self._uses.items()))
            idle = not use.reserved and max(use.requests_full_at, use.tokens_full_at) <= now
            if len(self._uses) <= 1 or not (idle or len(self._uses) > self._entries):
                return
            del self._uses[user_id]


def _by_tier(accounts: Accounts) -> Mapping[Tier, Limits]:
    return {
        Tier.PAID: accounts.limits_paid,
        Tier.FREE: accounts.limits_free,
        Tier.BACKGROUND: accounts.limits_background,
    }


def _require_request(use: _Use, per_minute: int, now: float) -> None:
    over_s = _overdrawn_s(use.requests_full_at, 1, per_minute, now)
    if over_s > _ROUNDING_S:
        raise OverLimit(f"the user's {per_minute} requests a minute are used up", retry_after_s=over_s)


def _require_tokens(use: _Use, tokens: int, per_minute: int, now: float) -> None:
    # For a request larger than the allowance, a full bucket with nothing reserved is enough.
    wanted = use.reserved + tokens if use.reserved else min(tokens, per_minute)
    over_s = _overdrawn_s(use.tokens_full_at, wanted, per_minute, now)
    if over_s > _ROUNDING_S:
        raise OverLimit(f"the user's {per_minute} tokens a minute are used up", retry_after_s=over_s)


def _overdrawn_s(full_at: float, amount: int, per_minute: int, now: float) -> float:
    """How long until a bucket would hold `amount`; a full one holds a minute's allowance."""
    return _after(full_at, amount, per_minute, now) - now - _MINUTE_S


def _after(full_at: float, amount: int, per_minute: int, now: float) -> float:
    """When a bucket is full again that `amount` is taken from."""
    return max(full_at, now) + amount * _MINUTE_S / per_minute
