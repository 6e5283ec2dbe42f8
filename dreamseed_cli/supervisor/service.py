"""The life of one service beside the engines, as a state machine over plain data with time passed in.

Whatever happens to a service, the stack goes on without it: no state here is final but `stopped`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

START_TIMEOUT_S = 120.0
"""How long a service of ours may take to its first answer. PostgreSQL's recovery answers from the first
second on, so it does not run into this."""
MISSES = 3
"""Probes in a row without an answer after which a service counts as hung."""
_FIRST_WAIT_S, _LONGEST_WAIT_S = 1.0, 60.0
_STABLE_S = 60.0


class ServiceState(StrEnum):
    """Where a service stands. Only a ready one is of use."""

    STARTING = "starting"
    READY = "ready"
    UNUSABLE = "unusable"
    """It answers, but its schema or its cluster is not there."""
    HUNG = "hung"
    """Ours, and does not answer: it is killed, and started anew."""
    UNREACHABLE = "unreachable"
    """Another's, and does not answer."""
    RESTARTING = "restarting"
    """It ended, and is started again at `retry_at`."""
    STOPPING = "stopping"
    STOPPED = "stopped"


class Reason(StrEnum):
    """Why a service came to stand there."""

    LAUNCHED = "launched"
    ANSWERED = "answered"
    NOT_USABLE = "not_usable"
    NO_ANSWER = "no_answer"
    EXITED = "exited"
    CANNOT_START = "cannot_start"
    STOP_REQUESTED = "stop_requested"
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to a service; detail says it to people."""

    detail: str = ""


class Launched(Event):
    """Its process has been started."""


class Answered(Event):
    """It can be used."""


class NotUsable(Event):
    """It answers, and cannot be used yet, or any more."""


class Silent(Event):
    """A probe got no answer."""


class Exited(Event):
    """Its process has ended."""


class CannotStart(Event):
    """Its process could not be started, or what it needs could not be prepared."""


class StopRequested(Event):
    """The stack is going down."""


@dataclass(frozen=True, slots=True)
class Service:
    """A service's state, why, and since when. Times are monotonic seconds."""

    name: str
    ours: bool
    """Whether the supervisor starts it."""
    state: ServiceState
    reason: Reason
    since: float
    detail: str = ""
    misses: int = 0
    """Probes without an answer since the last answer."""
    failures: int = 0
    """Ends in a row, none of them after a stable minute."""
    restarts: int = 0
    ready_since: float | None = None
    """Since when this process of it has been of use."""
    retry_at: float = 0.0

    @classmethod
    def configured(cls, name: str, now: float, *, ours: bool) -> Service:
        return cls(name, ours, ServiceState.STARTING, Reason.LAUNCHED, now)


def advance(service: Service, event: Event, now: float) -> Service:
    """The service after an event."""
    if service.state is ServiceState.STOPPED:
        return service
    if service.state is ServiceState.STOPPING and not isinstance(event, Exited | CannotStart):
        return service
    return _HANDLERS[type(event)](service, event, now)


def wait_s(failures: int) -> float:
    """How long to wait before the next start, after that many failures in a row: 1 s, doubled, up to 60 s."""
    return min(_FIRST_WAIT_S * 2.0 ** min(failures - 1, 10), _LONGEST_WAIT_S)


def _stop_requested(service: Service, event: Event, now: float) -> Service:
    state = ServiceState.STOPPING if service.ours else ServiceState.STOPPED
    return _enter(service, state, Reason.STOP_REQUESTED, event.detail, now)


def _launched(service: Service, _: Event, now: float) -> Service:
    if service.state is not ServiceState.RESTARTING:
        return service
    # Why it was started again stays to be read until it is ready.
    entered = _enter(service, ServiceState.STARTING, Reason.LAUNCHED, service.detail, now)
    return replace(entered, misses=0, restarts=service.restarts + 1)


def _answered(service: Service, _: Event, now: float) -> Service:
    ready_since = now if service.ready_since is None else service.ready_since
    entered = _enter(service, ServiceState.READY, Reason.ANSWERED, "", now)
    return replace(entered, misses=0, ready_since=ready_since)


def _not_usable(service: Service, event: Event, now: float) -> Service:
    patient = service.ours and now - service.since <= START_TIMEOUT_S
    if service.state is ServiceState.STARTING and patient:
        return replace(service, detail=event.detail, misses=0)
    entered = _enter(service, ServiceState.UNUSABLE, Reason.NOT_USABLE, event.detail, now)
    return replace(entered, misses=0)


def _silent(service: Service, event: Event, now: float) -> Service:
    counted = replace(service, misses=service.misses + 1)
    starting = service.ours and service.state is ServiceState.STARTING
    if now - service.since <= START_TIMEOUT_S if starting else counted.misses < MISSES:
        return counted
    state = ServiceState.HUNG if service.ours else ServiceState.UNREACHABLE
    return _enter(counted, state, Reason.NO_ANSWER, event.detail, now)


def _ended(service: Service, event: Event, now: float) -> Service:
    if service.state is ServiceState.STOPPING:
        return _enter(service, ServiceState.STOPPED, Reason.ENDED, "", now)
    stable = service.ready_since is not None and now - service.ready_since >= _STABLE_S
    failures = 1 if stable else service.failures + 1
    reason, detail = _why(service, event)
    entered = _enter(service, ServiceState.RESTARTING, reason, detail, now)
    return replace(entered, failures=failures, ready_since=None, retry_at=now + wait_s(failures), misses=0)


def _why(service: Service, event: Event) -> tuple[Reason, str]:
    if service.state is ServiceState.HUNG:
        return Reason.NO_ANSWER, f"it hung and was killed: {service.detail}"
    return (Reason.CANNOT_START if isinstance(event, CannotStart) else Reason.EXITED), event.detail


def _enter(service: Service, state: ServiceState, reason: Reason, detail: str, now: float) -> Service:
    since = service.since if service.state is state else now
    return replace(service, state=state, reason=reason, detail=detail, since=since)


_HANDLERS: Mapping[type[Event], Callable[[Service, Event, float], Service]] = {
    Launched: _launched,
    Answered: _answered,
    NotUsable: _not_usable,
    Silent: _silent,
    Exited: _ended,
    CannotStart: _ended,
    StopRequested: _stop_requested,
}
