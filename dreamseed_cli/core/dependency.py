"""A service the request path can do without: every call bounded in time, and none while it is known down."""

from __future__ import annotations

import asyncio
from asyncio import CancelledError
from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog
from purgatory import AsyncCircuitBreakerFactory
from purgatory.domain.messages.base import Event
from purgatory.domain.messages.events import ContextChanged
from purgatory.domain.model import OpenedState
from purgatory.service._async.circuitbreaker import AsyncCircuitBreaker

from dreamseed_cli.core.errors import DreamseedError

_log = structlog.get_logger(__name__)
_Result = TypeVar("_Result")


class DependencyDown(DreamseedError):
    """It failed, was too slow, or has failed so often that it was not asked."""


class Dependency:
    """Calls to one service behind a circuit breaker.

    timeout_s: the longest a call may take, in seconds. threshold: failures in a row after which it is not
    asked any more for `retry_after_s` seconds. on_state: told `closed`, `opened` or `half-opened`.
    """

    def __init__(
        self,
        name: str,
        *,
        timeout_s: float,
        threshold: int = 5,
        retry_after_s: float = 1.0,
        on_state: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.name = name
        self.state = "closed"
        self._timeout_s = timeout_s
        self._on_state = on_state
        self._breaker: AsyncCircuitBreaker | None = None
        # A caller that leaves says nothing about the service.
        self._breakers = AsyncCircuitBreakerFactory(
            default_threshold=threshold, default_ttl=retry_after_s, exclude=[CancelledError]
        )
        self._breakers.add_listener(self._changed)

    async def call(self, ask: Callable[[], Awaitable[_Result]]) -> _Result:
        """What `ask()` gives. Raises DependencyDown for every failure, its own or the breaker's."""
        if self._breaker is None:
            self._breaker = await self._breakers.get_breaker(self.name)
        try:
            async with self._breaker, asyncio.timeout(self._timeout_s):
                return await ask()
        except OpenedState as error:
            raise DependencyDown("it failed repeatedly and is left alone for now", place=self.name) from error
        except Exception as error:
            raise DependencyDown(str(error) or type(error).__name__, place=self.name) from error

    def _changed(self, name: str, kind: str, event: Event) -> None:
        if isinstance(event, ContextChanged) and event.state != self.state:
            self.state = event.state
            _log.warning("dependency", dependency=name, breaker=event.state)
            self._on_state(event.state)
