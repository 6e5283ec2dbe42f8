"""The users as the gateway knows them: PostgreSQL's answers behind a short-lived memory."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import structlog

from dreamseed_cli.core.dependency import DependencyDown
from dreamseed_cli.gateway.accounts.lookups import Lookups, Outcome
from dreamseed_cli.gateway.accounts.memory import Age, Memory, Who
from dreamseed_cli.gateway.accounts.types import Account

_log = structlog.get_logger(__name__)
_ASK_AGAIN_S = 1.0


class Source(Protocol):
    """What is asked when memory does not know. A user that is not in an answer is not registered."""

    @property
    def available(self) -> bool:
        """Whether asking is likely to be worth the wait."""
        ...

    async def by_keys(self, hashes: Sequence[bytes]) -> Mapping[bytes, Account]:
        """The accounts that keys belong to. Raises DependencyDown."""
        ...

    async def by_ids(self, user_ids: Sequence[str]) -> Mapping[str, Account]:
        """Registered users. Raises DependencyDown."""
        ...


class Directory:
    """Finds accounts by key hash or user id.

    What PostgreSQL says now counts `cache_s` later at the latest, provided that it answers: a revoked key is
    then refused, a new tier holds. An account in use is asked about in the background before that, so that
    its requests hardly ever wait; one that was not used for longer is asked about first. While PostgreSQL is
    away, what it said is believed for `stale_s`, and it is tried once a second.

    A request that has to ask waits for its query, and at most for the one under way before it. The source
    bounds each (20 ms); when one fails, all who wait are told.
    """

    def __init__(
        self,
        source: Source,
        memory: Memory,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._source = source
        self._memory = memory
        self._clock = clock
        self._keys = Lookups(source.by_keys, learn=memory.learn, tell=self._ended, clock=clock)
        self._names = Lookups(source.by_ids, learn=memory.learn, tell=self._ended, clock=clock)
        self._failed_at = -_ASK_AGAIN_S
        self._away = False

    async def find(self, who: Who) -> Account | None:
        """The account; None: PostgreSQL knows nobody by it. DependencyDown if nothing is known.

        Does not give way to other tasks when memory has the answer.
        """
        recalled = self._memory.recall(who, self._clock())
        if recalled is None:
            return await self._ask(who)
        age, account = recalled
        if age is Age.FRESH:
            return account
        if age is Age.AGEING or not self._source.available:
            self._refresh(who)
            return account
        try:
            return await self._ask(who)
        except DependencyDown:
            return account

    async def close(self) -> None:
        """End the lookups under way."""
        await self._keys.close()
        await self._names.close()

    def _refresh(self, who: Who) -> None:
        """Ask in the background, but not so soon after a failure."""
        if self._clock() - self._failed_at >= _ASK_AGAIN_S:
            self._want(who)

    async def _ask(self, who: Who) -> Account | None:
        # A caller that leaves ends its own wait, not that of the others.
        outcome = await asyncio.shield(self._want(who))
        if isinstance(outcome, DependencyDown):
            # Each caller its own: a traceback grows with every raise.
            raise DependencyDown(outcome.cause, place=outcome.place) from outcome
        return outcome

    def _want(self, who: Who) -> asyncio.Future[Outcome]:
        return self._keys.want(who) if isinstance(who, bytes) else self._names.want(who)

    def _ended(self, error: DependencyDown | None) -> None:
        """Log the first failure with its cause, and the first success after it."""
        if error is not None:
            self._failed_at = self._clock()
        if error is not None and not self._away:
            _log.warning("users cannot be looked up", cause=str(error))
        elif error is None and self._away:
            _log.info("users are looked up again")
        self._away = error is not None
