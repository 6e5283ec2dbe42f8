"""The life of one replica as a state machine over plain data; what follows from it is done elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum


class ReplicaState(StrEnum):
    """Where a replica stands. Only a ready one gets requests."""

    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"
    STOPPED = "stopped"
    FAILED = "failed"


class Reason(StrEnum):
    """Why a replica came to stand there."""

    LAUNCHED = "launched"
    ANSWERED = "answered"
    EXITED = "exited"
    START_TIMEOUT = "start_timeout"
    REFUSED = "refused"
    STOP_REQUESTED = "stop_requested"
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to a replica; detail says it to people."""

    detail: str = ""


class Answered(Event):
    """/health said yes and a token was generated."""


class Exited(Event):
    """The process ended, or could not be started."""


class StartTimedOut(Event):
    """No token within the profile's `start_timeout_s`."""


class Refused(Event):
    """The engine answers, but refuses the request: waiting longer would change nothing."""


class StopRequested(Event):
    """The stack is going down."""


@dataclass(frozen=True, slots=True)
class Replica:
    """A replica's state, why, and since when (seconds since the epoch)."""

    name: str
    state: ReplicaState
    reason: Reason
    since: float
    detail: str = ""

    @classmethod
    def launched(cls, name: str, now: float) -> Replica:
        return cls(name, ReplicaState.STARTING, Reason.LAUNCHED, now)


_TRANSITIONS: Mapping[tuple[ReplicaState, type[Event]], tuple[ReplicaState, Reason]] = {
    (ReplicaState.STARTING, Answered): (ReplicaState.READY, Reason.ANSWERED),
    (ReplicaState.STARTING, StartTimedOut): (ReplicaState.FAILED, Reason.START_TIMEOUT),
    (ReplicaState.STARTING, Refused): (ReplicaState.FAILED, Reason.REFUSED),
    (ReplicaState.STARTING, Exited): (ReplicaState.FAILED, Reason.EXITED),
    (ReplicaState.STARTING, StopRequested): (ReplicaState.DRAINING, Reason.STOP_REQUESTED),
    (ReplicaState.READY, Exited): (ReplicaState.FAILED, Reason.EXITED),
    (ReplicaState.READY, StopRequested): (ReplicaState.DRAINING, Reason.STOP_REQUESTED),
    (ReplicaState.DRAINING, Exited): (ReplicaState.STOPPED, Reason.ENDED),
}


def advance(replica: Replica, event: Event, now: float) -> Replica:
    """The replica after an event; the same object if the event says nothing new."""
    entered = _TRANSITIONS.get((replica.state, type(event)))
    if entered is None:
        return replica
    state, reason = entered
    return replace(replica, state=state, reason=reason, since=now, detail=event.detail)
