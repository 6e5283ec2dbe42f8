"""Questions about many users as one query at a time, however many requests wait for an answer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from itertools import islice
from typing import Generic, TypeVar

from dreamseed_cli.core.dependency import DependencyDown
from dreamseed_cli.gateway.accounts.types import Account

_Who = TypeVar("_Who", str, bytes)
_MOST_IN_A_QUERY = 256

Outcome = Account | DependencyDown | None
"""None: PostgreSQL knows nobody by it."""


class Lookups(Generic[_Who]):
    """Asks about users of one kind, by name or by key.

    One query is under way at a time, about at most 256 users; who comes meanwhile is in the next. So neither
    the start of a busy hour nor a flood of invented keys is more to PostgreSQL than one session's work, and
    nobody waits behind so many others that the server seems dead. A failure is everybody's who waits.
    """

    def __init__(
        self,
        ask: Callable[[Sequence[_Who]], Awaitable[Mapping[_Who, Account]]],
        *,
        learn: Callable[[_Who, Account | None, float], None],
        tell: Callable[[DependencyDown | None], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """learn: told every answer and when it was asked for. tell: told how every query ended."""
        self._ask: Callable[[Sequence[_Who]], Awaitable[Mapping[_Who, Account]]] = ask
        self._learn: Callable[[_Who, Account | None, float], None] = learn
        self._tell = tell
        self._clock = clock
        self._waiting: dict[_Who, asyncio.Future[Outcome]] = {}
        self._asked: dict[_Who, asyncio.Future[Outcome]] = {}
        self._task: asyncio.Task[None] | None = None

    def want(self, who: _Who) -> asyncio.Future[Outcome]:
        """The answer to come; shared, so await it shielded. It holds a failure as a value."""
        future = self._asked.get(who) or self._waiting.get(who)
        if future is None:
            future = self._waiting[who] = asyncio.get_running_loop().create_future()
            if self._task is None:
                self._task = asyncio.create_task(self._work())
        return future

    async def close(self) -> None:
        """End the query under way; whoever waits is told so."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _work(self) -> None:
        try:
            while self._waiting:
                await self._next_query()
        finally:
            self._task = None
            self._fail(DependencyDown("the gateway stops", place="postgres"))

    async def _next_query(self) -> None:
        self._asked = dict(islice(self._waiting.items(), _MOST_IN_A_QUERY))
        for who in self._asked:
            del self._waiting[who]
        asked_at = self._clock()
        try:
            found = await self._ask(list(self._asked))
        except DependencyDown as error:
            self._fail(error)
            self._tell(error)
            return
        answered, self._asked = self._asked, {}
        for who, future in answered.items():
            account = found.get(who)
            self._learn(who, account, asked_at)
            future.set_result(account)
        self._tell(None)

    def _fail(self, error: DependencyDown) -> None:
        """Those who wait for the next query would only be told the same, later."""
        futures = [*self._asked.values(), *self._waiting.values()]
        self._asked, self._waiting = {}, {}
        for future in futures:
            future.set_result(error)
