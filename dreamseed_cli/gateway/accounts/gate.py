"""Who a call is for, and what it may have: its user, its tier, its priority, its share of the minute."""

from __future__ import annotations

import time
from collections.abc import Callable
from enum import StrEnum
from typing import NoReturn

import msgspec
from prometheus_client import Counter

from dreamseed_cli.core.dependency import DependencyDown
from dreamseed_cli.gateway.accounts.directory import Directory
from dreamseed_cli.gateway.accounts.keys import key_hash
from dreamseed_cli.gateway.accounts.limits import UserLimits
from dreamseed_cli.gateway.accounts.types import Account, Grant, Tier
from dreamseed_cli.gateway.call import PriorityClass
from dreamseed_cli.gateway.metrics import GatewayMetrics
from dreamseed_cli.gateway.refusals import CannotVerify, NotPermitted, Refusal, Unauthenticated
from dreamseed_cli.gateway.security.credentials import Credentials
from dreamseed_cli.profile.schema import Accounts


class Known(StrEnum):
    """How a user's tier came about."""

    REGISTERED = "registered"
    UNREGISTERED = "unregistered"
    """Nobody registered it, or it has no name: the profile's `unknown_user_tier`."""
    ASSUMED = "assumed"
    """PostgreSQL is away and did not tell before: `unknown_user_tier` until it is back."""
    NO_ACCOUNTS = "no_accounts"
    """PostgreSQL is off: nobody has a tier, `unknown_user_tier` only chooses the limits."""


class Standing(msgspec.Struct, frozen=True, gc=False):
    """Whom a call is for."""

    user_id: str
    tier: Tier
    known: Known


class Gate:
    """Every call passes here.

    With an API key, the user is the key's, and naming another one is not permitted. Without one, a trusted
    caller names its user, or none; everybody else is refused. The tier bounds the priority. Limits hold for
    every named user; calls without a user_id, which only trusted callers can make, are not limited.

    directory: None with PostgreSQL off. Then there are no keys and no tiers: trusted callers get the priority
    they ask for.
    """

    def __init__(
        self,
        settings: Accounts,
        directory: Directory | None,
        limits: UserLimits,
        metrics: GatewayMetrics,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._directory = directory
        self._limits = limits
        self._clock = clock
        self._set_tiers(settings)
        self._grants: Counter = metrics.grants
        self._counters: dict[tuple[Tier, Known, bool], Counter] = {}

    def take_rules(self, settings: Accounts) -> None:
        """Go by these tiers and limits from now on; what a user has used of its minute counts on."""
        self._set_tiers(settings)
        self._limits.take_rules(settings)

    def _set_tiers(self, settings: Accounts) -> None:
        unknown = settings.unknown_user_tier
        self._unknown_tier = None if unknown == "refuse" else Tier(unknown)
        self._refuse_above = settings.above_tier == "refuse"

    async def admit(
        self, credentials: Credentials, user_id: str, asked: PriorityClass, *, tokens: int = 0
    ) -> Grant:
        """What the call may have. Waits only for users that memory does not know.

        tokens: what it may use (limits.estimate_tokens). Raises Unauthenticated, NotPermitted, CannotVerify
        or OverLimit.
        """
        if credentials.api_key is not None:
            standing = await self.bearer(credentials.api_key, user_id)
        elif credentials.trusted:
            standing = await self._of_name(user_id)
        else:
            raise Unauthenticated("no credentials were shown", remedy="Send an API key as a bearer token")
        reserved = 0
        try:
            priority = granted_priority(asked, standing, refuse_above=self._refuse_above)
            if standing.user_id:
                reserved = self._limits.take(standing.user_id, standing.tier, tokens, self._clock())
        except Refusal as refusal:
            refusal.user_id = standing.user_id
            raise
        clamped = priority < asked
        self._count(standing, clamped=clamped)
        return Grant(standing.user_id, standing.tier, priority, clamped, reserved)

    def settle(self, grant: Grant, used_tokens: int) -> None:
        """The call has ended, however it did: once for every grant. used_tokens: prompt and answer."""
        if grant.user_id:
            self._limits.settle(
                grant.user_id,
                grant.tier,
                reserved=grant.reserved_tokens,
                used=used_tokens,
                now=self._clock(),
            )

    async def bearer(self, api_key: str, user_id: str = "") -> Standing:
        """Whose key it is; takes nothing of the user's limits. Raises Unauthenticated, NotPermitted (also for
        another `user_id` than the key's) or CannotVerify.
        """
        hashed = key_hash(api_key)
        if hashed is None or self._directory is None:
            _unknown_key()
        try:
            account = await self._directory.find(hashed)
        except DependencyDown as error:
            raise CannotVerify(
                "the key cannot be looked up at the moment", remedy="Try again in a few seconds"
            ) from error
        if account is None or _expired(account):
            _unknown_key()
        if user_id not in {"", account.user_id}:
            refusal = NotPermitted("user_id names another user than the key's", remedy="Leave user_id empty")
            refusal.user_id = account.user_id
            raise refusal
        return _enabled(account)

    async def _of_name(self, user_id: str) -> Standing:
        if self._directory is None:
            return self._unknown(user_id, Known.NO_ACCOUNTS)
        if not user_id:
            return self._unknown(user_id, Known.UNREGISTERED)
        try:
            account = await self._directory.find(user_id)
        except DependencyDown as error:
            if self._unknown_tier is None:
                raise CannotVerify(
                    "the user cannot be looked up at the moment", remedy="Try again in a few seconds"
                ) from error
            return self._unknown(user_id, Known.ASSUMED)
        return self._unknown(user_id, Known.UNREGISTERED) if account is None else _enabled(account)

    def _unknown(self, user_id: str, known: Known) -> Standing:
        if self._unknown_tier is None:
            raise NotPermitted("this service answers registered users only")
        return Standing(user_id, self._unknown_tier, known)

    def _count(self, standing: Standing, *, clamped: bool) -> None:
        labels = (standing.tier, standing.known, clamped)
        counter = self._counters.get(labels)
        if counter is None:
            counter = self._grants.labels(standing.tier.value, standing.known.value, str(clamped).lower())
            self._counters[labels] = counter
        counter.inc()


def granted_priority(asked: PriorityClass, standing: Standing, *, refuse_above: bool) -> PriorityClass:
    """The class asked for, or the tier's best if that is lower; NotPermitted instead if `refuse_above`.

    A tier that is only assumed refuses nothing: the user may well have a better one.
    """
    if standing.known is Known.NO_ACCOUNTS or asked <= standing.tier.highest:
        return asked
    if refuse_above and standing.known is not Known.ASSUMED:
        raise NotPermitted(
            f"priority {asked.name} is above the user's tier '{standing.tier}'",
            remedy=f"Ask for {standing.tier.highest.name} at most",
        )
    return standing.tier.highest


def _enabled(account: Account) -> Standing:
    if account.disabled:
        refusal = NotPermitted("the user is disabled")
        refusal.user_id = account.user_id
        raise refusal
    return Standing(account.user_id, account.tier, Known.REGISTERED)


def _expired(account: Account) -> bool:
    """By this host's clock: what is remembered must end on time, too."""
    return account.expires_at is not None and account.expires_at <= time.time()


def _unknown_key() -> NoReturn:
    raise Unauthenticated("the API key is not valid", remedy="Check it, or ask for a new one")
