"""The gateway's parts, put together from its settings, opened and closed in order.

Nothing here waits for a service: what is away at the start is found when it comes.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import Any

import grpc
from psycopg_pool import AsyncConnectionPool

from dreamseed_cli.core.address import is_loopback
from dreamseed_cli.core.dependency import Dependency
from dreamseed_cli.core.waiting import ended
from dreamseed_cli.gateway.accounts.directory import Directory
from dreamseed_cli.gateway.accounts.gate import Gate
from dreamseed_cli.gateway.accounts.limits import UserLimits
from dreamseed_cli.gateway.accounts.memory import Memory
from dreamseed_cli.gateway.accounts.store import AccountStore
from dreamseed_cli.gateway.cache.answers import CachedAnswers
from dreamseed_cli.gateway.cache.store import AnswerStore
from dreamseed_cli.gateway.call import Call
from dreamseed_cli.gateway.dispatch import Dispatcher
from dreamseed_cli.gateway.doorway import Doorway
from dreamseed_cli.gateway.events.log import EventLog
from dreamseed_cli.gateway.front.callers import FrontCallers
from dreamseed_cli.gateway.front.service import FrontService
from dreamseed_cli.gateway.front.store import FrontStore
from dreamseed_cli.gateway.intake import Intake
from dreamseed_cli.gateway.metrics import GatewayMetrics
from dreamseed_cli.gateway.replicas import Replicas
from dreamseed_cli.gateway.reporter import Reporter
from dreamseed_cli.gateway.security.caller import CallerCheck
from dreamseed_cli.gateway.service import LLMService
from dreamseed_cli.gateway.settings import GatewaySettings
from dreamseed_cli.gateway.tracing import Tracing
from dreamseed_cli.gateway.validation import Validator
from dreamseed_cli.profile.schema import Gateway

_FRONT_CALL_S = 1.0
_FRONT_POOL: dict[str, Any] = {
    # Longer than any call: the call's own bound ends the wait.
    "timeout": 2 * _FRONT_CALL_S,
    "reconnect_timeout": 1.0,
    "kwargs": {"autocommit": True, "connect_timeout": 2, "application_name": "dreamseed-front"},
}


class Assembly:
    """Make it inside a running event loop; open() it before the first call, close() it after the last.

    Raises UsageError or MissingError for settings that cannot work.
    """

    def __init__(self, settings: GatewaySettings) -> None:
        self._settings = settings
        self._services = services = settings.services
        self._dsn = services.dsn() if services else None
        self._closing = AsyncExitStack()
        self.metrics = metrics = GatewayMetrics()
        self.replicas = Replicas(settings)
        self.doorway = Doorway()
        self._callers = CallerCheck(settings.gateway.security, loopback=is_loopback(settings.gateway.host))
        self._tracing = Tracing.from_environment(settings.served_name)
        self._events = EventLog(services, metrics, simulated=settings.simulated) if services else None
        self._kept = AnswerStore.from_addresses(services, metrics.watch_dependency) if services else None
        self._accounts = (
            AccountStore(self._dsn, on_state=metrics.watch_dependency("postgres")) if self._dsn else None
        )
        self._directory = self._make_directory()
        accounts = settings.gateway.accounts
        self._gate = Gate(accounts, self._directory, UserLimits.of(accounts), metrics)
        self._front_pool = self._make_front_pool()
        self._dispatcher = Dispatcher(self.replicas, settings.gateway.admission, metrics)
        self._answers = CachedAnswers(
            self._dispatcher, self._kept, settings, metrics, extend=self._give_more_time
        )

        self._intake = self._make_intake()

    def take_settings(self, gateway: Gateway) -> None:
        """Go by these settings from now on, all at once; calls under way keep what they began with."""
        self._intake.take_settings(gateway)
        self._answers.keep_for(gateway.cache.ttl_s)
        self._dispatcher.take_rules(gateway.admission)

    def journal_bytes(self) -> int:
        """What of the events PostgreSQL does not have yet."""
        return self._events.backlog() if self._events is not None else 0

    def handlers(self) -> tuple[grpc.GenericRpcHandler, ...]:
        """What the server offers beside health and reflection."""
        settings = self._settings
        reporter = Reporter(settings.served_name, self.metrics, self._events, self._tracing)
        llm = LLMService(self._intake, self._answers, reporter, simulated=settings.simulated)
        return llm.handler(), self._front().handler()

    async def open(self) -> None:
        """Begin to connect. FailedError if the journal of events is held by another gateway."""
        closing = self._closing
        if self._tracing is not None:
            closing.push_async_callback(asyncio.to_thread, self._tracing.close)
        if self._events is not None:
            await self._events.open()
            closing.push_async_callback(self._events.close)
        if self._accounts is not None and self._directory is not None:
            await self._accounts.open()
            closing.push_async_callback(self._accounts.close)
            closing.push_async_callback(self._directory.close)
        if self._front_pool is not None:
            await self._front_pool.open()
            closing.push_async_callback(self._front_pool.close, 1.0)
        if self._callers.tokens is not None:
            closing.push_async_callback(ended, asyncio.create_task(self._callers.tokens.watch()))
        if self._kept is not None:
            self._kept.start()
            closing.push_async_callback(self._kept.close)

    async def close(self) -> None:
        """End what is left under way, store what can be stored, close every connection."""
        await self._answers.close()
        await self.replicas.close()
        await self._closing.aclose()

    def _make_intake(self) -> Intake:
        validator = Validator(self._settings)
        timeout_s = self._settings.gateway.default_timeout_s
        return Intake(self._callers, validator, self._gate, self.doorway, default_timeout_s=timeout_s)

    def _make_directory(self) -> Directory | None:
        if self._accounts is None:
            return None
        accounts = self._settings.gateway.accounts
        return Directory(self._accounts, Memory(cache_s=accounts.cache_s, stale_s=accounts.stale_s))

    def _make_front_pool(self) -> AsyncConnectionPool[Any] | None:
        if self._dsn is None:
            return None
        return AsyncConnectionPool(self._dsn, min_size=0, max_size=4, open=False, **_FRONT_POOL)

    def _front(self) -> FrontService:
        store = None
        if self._front_pool is not None:
            state = self.metrics.watch_dependency("postgres-front")
            dependency = Dependency("postgres-front", timeout_s=_FRONT_CALL_S, on_state=state)
            keep_events = self._services is not None and self._services.keep_events
            store = FrontStore(self._front_pool, dependency, keep_events=keep_events)
        callers = FrontCallers(self._callers, self._gate)
        names = (self._settings.served_name,)
        return FrontService(names, callers.trusted, store, check_user=callers.check_user)

    def _give_more_time(self, call: Call, deadline: float) -> None:
        self._dispatcher.hasten(call, priority=call.priority, deadline=deadline)
