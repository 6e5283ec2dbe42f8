"""A service the request path can do without: every call bounded in time, and none while it is known down."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import TypeVar

import structlog

from dreamseed_cli.core.breaker import Breaker, State
from dreamseed_cli.core.errors import DreamseedError

_log = structlog.get_logger(__name__)
_Result = TypeVar("_Result")
# From a reply in the socket to the task that waits for it: the poll, the reader, the waiter, one to spare.
_TURNS = 4


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
        self._told = State.CLOSED
        self._timeout_s = timeout_s
        self._on_state = on_state
        self._breaker = Breaker(threshold=threshold, retry_after_s=retry_after_s)

    @property
    def state(self) -> str:
        """`closed`, `opened` or `half-opened`."""
        return self._breaker.state.value

    async def call(self, ask: Callable[[], Awaitable[_Result]], *, timeout_s: float | None = None) -> _Result:
        """What `ask()` gives. Raises DependencyDown for every failure, its own or the breaker's.

        timeout_s: another bound for this call. A cancelled call counts neither for nor against the service.
        """
        bound_s = self._timeout_s if timeout_s is None else timeout_s
        ticket = self._breaker.admit(time.monotonic())
        if ticket is None:
            raise DependencyDown("it failed repeatedly and is left alone for now", place=self.name)
        self._tell()
        try:
            async with time_box(bound_s):
                result = await ask()
        except Exception as error:
            self._breaker.failed(ticket, time.monotonic())
            self._tell(type(error).__name__)
            raise DependencyDown(_cause(error, bound_s), place=self.name) from error
        except BaseException:
            self._breaker.left(ticket)
            raise
        self._breaker.succeeded(ticket)
        self._tell()
        return result

    def _tell(self, cause: str | None = None) -> None:
        state = self._breaker.state
        if state is self._told:
            return
        # One line when it goes and one when it is back, not two for every probe between.
        if State.CLOSED in {state, self._told}:
            _log.warning("dependency", dependency=self.name, breaker=state.value, cause=cause)
        self._told = state
        self._on_state(state.value)


def time_box(timeout_s: float) -> TimeBox:
    """Like asyncio.timeout: TimeoutError if the body takes longer, in seconds; but never while a reply in
    time waits for our own event loop (see Alarm).
    """
    return TimeBox(timeout_s)


class TimeBox:
    """What time_box() gives."""

    __slots__ = ("_alarm", "_timeout", "_timeout_s")

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._timeout = asyncio.timeout(None)

    async def __aenter__(self) -> None:
        await self._timeout.__aenter__()
        self._alarm = Alarm(self._timeout_s, self._end)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._alarm.cancel()
        await self._timeout.__aexit__(kind, error, trace)

    def _end(self) -> None:
        self._timeout.reschedule(0.0)


class Alarm:
    """Calls `ring` after `delay_s` seconds unless cancelled, but never while a reply in time waits for our
    own event loop.

    Under load the loop may run late: a plain timer would then win over a reply that has long arrived, and a
    healthy service would count as dead. So the loop gets some turns first to hand over what is there.
    """

    __slots__ = ("_handle", "_loop", "_ring", "_turns_left")

    def __init__(self, delay_s: float, ring: Callable[[], object]) -> None:
        self._loop = asyncio.get_running_loop()
        self._ring = ring
        self._turns_left = _TURNS
        self._handle: asyncio.Handle = self._loop.call_later(delay_s, self._turn)

    def cancel(self) -> None:
        self._handle.cancel()

    def _turn(self) -> None:
        if self._turns_left:
            self._turns_left -= 1
            self._handle = self._loop.call_soon(self._turn)
        else:
            self._ring()


def _cause(error: Exception, bound_s: float) -> str:
    if isinstance(error, TimeoutError) and not str(error):
        return f"it did not answer within {bound_s * 1000:.0f} ms"
    return str(error) or type(error).__name__
