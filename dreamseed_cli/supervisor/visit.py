"""A stack of one's own that lasts as long as one piece of work: started, used once it is ready, and ended."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from rich.console import Console

from dreamseed_cli.core.errors import DreamseedError, FailedError
from dreamseed_cli.core.paths import StateDir
from dreamseed_cli.profile.resilience import Failover
from dreamseed_cli.profile.schema import Kafka, Postgres, Profile, Redis, Security, Services
from dreamseed_cli.profile.select import Choice
from dreamseed_cli.supervisor.live import log_to, show_live
from dreamseed_cli.supervisor.replica import ReplicaState
from dreamseed_cli.supervisor.session import Session
from dreamseed_cli.supervisor.snapshot import ReplicaSnapshot, StackSnapshot

_POLL_S = 0.2
_STILL_EVERY_S = 10.0
_GIVEN_UP = frozenset({ReplicaState.FAILED.value, ReplicaState.QUARANTINED.value})

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Host:
    """The ready stack, as the work on it sees it.

    snapshots: the stack as it stands at the moment of the call. interrupted: set by Ctrl-C or SIGTERM during
    the work.
    """

    snapshots: Callable[[], StackSnapshot]
    ready_after_s: float
    interrupted: asyncio.Event


Work = Callable[[Host], Awaitable[_T]]


def with_own_stack(
    choice: Choice,
    state: StateDir,
    work: Work[_T],
    console: Console,
    *,
    services: bool = False,
    lets_finish: bool = False,
) -> _T:
    """Start the stack of a profile beside whatever runs, wait until all of it is ready, work, and stop it.

    It takes a free port on loopback, without TLS, and no help from elsewhere, which would cost money.
    services: a private PostgreSQL and Valkey cluster; else none, so that nothing but the engines starts and
    answers. What is waited for is shown on `console`. lets_finish: the first Ctrl-C, or a closed terminal
    (not under nohup), only sets `Host.interrupted`, and the work comes to its end by itself; otherwise, and
    at the second Ctrl-C, it is cancelled.

    Raises what the work raises, KeyboardInterrupt if it was interrupted before it had a result, and as
    `Session.run` if the stack cannot start or fails. In every case nothing is left running.
    """
    state.create()
    session = Session(replace(choice, profile=own_profile(choice.profile, services=services)), state)
    visit = _Visit(session, state, work, console, lets_finish=lets_finish)
    session.run(visit, start_log=lambda: log_to(state.log("supervisor")))
    return visit.outcome()


def own_profile(profile: Profile, *, services: bool) -> Profile:
    """The profile for a stack that nobody else uses. Its engines are the same."""
    gateway = {"host": "127.0.0.1", "port": 0, "metrics_port": None, "security": Security()}
    off = Services(postgres=Postgres(mode="off"), redis=Redis(mode="off"), kafka=Kafka(mode="off"))
    return profile.model_copy(
        update={
            "gateway": profile.gateway.model_copy(update=gateway),
            "services": Services() if services else off,
            "failover": Failover(),
        }
    )


class _Visit(Generic[_T]):
    """A viewer of a session (see `supervisor.session`) that works on it once and then ends it."""

    def __init__(
        self, session: Session, state: StateDir, work: Work[_T], console: Console, *, lets_finish: bool
    ) -> None:
        self._session = session
        self._state = state
        self._lets_finish = lets_finish
        self._work = work
        self._console = console
        self._result: list[_T] = []
        self._failure: Exception | None = None
        # The session takes the signal, and it could not be told any more that nohup had it ignored.
        self._may_hang_up = signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN

    async def __call__(self, snapshots: Callable[[], StackSnapshot]) -> None:
        try:
            self._result.append(await self._use(snapshots))
        except Exception as failure:  # noqa: BLE001 - handed to whoever asked for the work
            self._failure = failure
        finally:
            self._session.end()

    def outcome(self) -> _T:
        """What the work gave, once the session is over."""
        if self._failure is not None:
            raise _first(self._failure)
        if not self._result:
            raise KeyboardInterrupt
        return self._result[0]

    async def _use(self, snapshots: Callable[[], StackSnapshot]) -> _T:
        start = time.monotonic()
        await self._until_ready(snapshots)
        host = Host(snapshots, time.monotonic() - start, asyncio.Event())
        working = asyncio.ensure_future(self._work(host))
        loop = asyncio.get_running_loop()

        def interrupt() -> None:
            if host.interrupted.is_set() or not self._lets_finish:
                working.cancel()
            host.interrupted.set()

        for signum in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(signum, interrupt)
        if self._lets_finish and self._may_hang_up:
            loop.add_signal_handler(signal.SIGHUP, host.interrupted.set)
        try:
            return await working
        finally:
            working.cancel()
            # Whatever the work did with the signals: from here on they hasten the end of the stack.
            self._session.listen()

    async def _until_ready(self, snapshots: Callable[[], StackSnapshot]) -> None:
        """Wait until every replica and service is ready, showing what is waited for. FailedError if a replica
        was given up.
        """
        shows = show_live(snapshots, self._console) if self._console.is_terminal else self._tell(snapshots)
        showing = asyncio.create_task(shows)
        try:
            while not _ready(now := snapshots()):
                for replica in now.replicas:
                    self._require_hope(replica)
                await asyncio.sleep(_POLL_S)
        finally:
            showing.cancel()
            await asyncio.gather(showing, return_exceptions=True)

    def _require_hope(self, replica: ReplicaSnapshot) -> None:
        if replica.state in _GIVEN_UP:
            raise FailedError(
                f"{replica.name} cannot be started ({replica.reason}): {replica.detail}",
                place="engine",
                remedy=f"See its log: {self._state.log(replica.name)}.",
            )

    async def _tell(self, snapshots: Callable[[], StackSnapshot]) -> None:
        """Where no live view can be drawn: a line for each step, and a sign of life in between."""
        said, at = "", time.monotonic()
        while True:
            now = snapshots()
            if now.activity != said:
                said, at = now.activity, time.monotonic()
                self._say(f"{said} ...")
            elif time.monotonic() - at >= _STILL_EVERY_S:
                at = time.monotonic()
                self._say(f"  {_still(now)} ({now.uptime_s:.0f} s)")
            await asyncio.sleep(_POLL_S)

    def _say(self, text: str) -> None:
        # Unstyled and unwrapped: a log line is not ours to mark up.
        self._console.file.write(f"{text}\n")
        self._console.file.flush()


def _ready(stack: StackSnapshot) -> bool:
    engines = bool(stack.replicas) and stack.ready == len(stack.replicas)
    services = not any(service.away for service in stack.services)
    return engines and services and stack.gateway.address is not None


def _still(stack: StackSnapshot) -> str:
    starting = [replica for replica in stack.replicas if replica.state != ReplicaState.READY.value]
    away = [service for service in stack.services if service.away]
    if starting:
        last = starting[0].last_log
        names = ", ".join(replica.name for replica in starting)
        return f"waiting for {names} to generate a token" + (f"; its log: {last[:80]}" if last else "")
    if away:
        return "waiting for " + ", ".join(f"{service.name} ({service.detail})" for service in away)
    return f"still {stack.activity}"


def _first(failure: BaseException) -> BaseException:
    """Concurrent work fails as a group; an operator needs one cause. A mistake of ours goes first."""
    if not isinstance(failure, BaseExceptionGroup):
        return failure
    singles = [_first(one) for one in failure.exceptions]
    return next((one for one in singles if not isinstance(one, DreamseedError)), singles[0])
