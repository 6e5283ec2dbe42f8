"""The life of one replica as a state machine over plain data, with time passed in; what follows from it is
done elsewhere.

Only `failed` and `quarantined` need an operator; everything else goes on by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from dreamseed_cli.profile.resilience import Supervision
from dreamseed_cli.supervisor.exits import ExitKind


class ReplicaState(StrEnum):
    """Where a replica stands. Ready ones get requests, degraded ones only while no other is ready."""

    STARTING = "starting"
    READY = "ready"
    DEGRADED = "degraded"
    """It answers, but slowly or not always."""
    HUNG = "hung"
    """Ejected: it does not generate. One of ours is killed, one elsewhere asked until it answers."""
    DRAINING = "draining"
    """It finishes what it has, before a restart or the end."""
    RESTARTING = "restarting"
    """Its process ended; it is started again at `retry_at`, or when its card is given back."""
    QUARANTINED = "quarantined"
    """Its card is broken: it is not started before an operator says so."""
    FAILED = "failed"
    """Starting it again would change nothing."""
    STOPPED = "stopped"


class Reason(StrEnum):
    """Why a replica came to stand there: the ends of a process by kind, and what was seen or wished."""

    LAUNCHED = "launched"
    ADOPTED = "adopted"
    ANSWERED = "answered"
    RECOVERED = "recovered"
    SLOW = "slow"
    FAILING = "failing"
    NO_PROGRESS = "no_progress"
    CANARY_FAILED = "canary_failed"
    START_TIMEOUT = "start_timeout"
    NO_ANSWER = "no_answer"
    REFUSED = "refused"
    RESTART_REQUESTED = "restart_requested"
    CARD_FAULT = "card_fault"
    CRASH_LOOP = "crash_loop"
    STOP_REQUESTED = "stop_requested"
    ENDED = "ended"
    OUT_OF_MEMORY = ExitKind.OUT_OF_MEMORY
    CONFIGURATION = ExitKind.CONFIGURATION
    GPU_FAULT = ExitKind.GPU_FAULT
    PORT_TAKEN = ExitKind.PORT_TAKEN
    DISK_FULL = ExitKind.DISK_FULL
    KILLED = ExitKind.KILLED
    EXITED = ExitKind.UNKNOWN


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to a replica; detail says it to people."""

    detail: str = ""


class Launched(Event):
    """Its process has been started."""


class Adopted(Event):
    """Its process was there already: a killed supervisor had left it."""


class Answered(Event):
    """A token was generated."""


@dataclass(frozen=True, slots=True)
class Exited(Event):
    """The process ended, or could not be started.

    kind: as read from its exit code and last lines. jitter: 0 to 1, so that replicas that fail together do
    not start together. held: its card is being looked after, which says when it may start again.
    """

    kind: ExitKind = ExitKind.UNKNOWN
    jitter: float = 0.5
    held: bool = False


class StartTimedOut(Event):
    """No token within the profile's `start_timeout_s`."""


class Refused(Event):
    """The engine answers, but refuses the request: waiting longer would change nothing."""


@dataclass(frozen=True, slots=True)
class Stalled(Event):
    """It had work and generated nothing for so many seconds."""

    seconds: float | None = None


class CanaryFailed(Event):
    """It had no work, and did not generate the one token that it was asked for."""


class Slowed(Event):
    """Its tokens come much more slowly than they used to."""


class Failing(Event):
    """It did not deliver the last answers."""


class Recovered(Event):
    """Its canaries are as they should be again."""


class RestartRequested(Event):
    """An operator wants it restarted, or started again."""


class CardTaken(Event):
    """Its card is being repaired: it ends, and waits until the card is given back."""


class CardReturned(Event):
    """Its card is fit again."""


class Quarantined(Event):
    """Its card is given up."""


class StopRequested(Event):
    """The stack is going down."""


@dataclass(frozen=True, slots=True)
class Replica:
    """A replica's state, why, and since when. Times are seconds since the epoch.

    ours: whether its process is a child. failures: ends and hangs in a row. ready_since: since when this
    process is of use. retry_at: when it is started again; None while its card decides.
    detect_s: how long the newest fault went unnoticed, in seconds; None: unknown.
    """

    name: str
    state: ReplicaState
    reason: Reason
    since: float
    detail: str = ""
    ours: bool = True
    failures: int = 0
    restarts: int = 0
    ready_since: float | None = None
    retry_at: float | None = 0.0
    detect_s: float | None = None

    @classmethod
    def launched(cls, name: str, now: float, *, ours: bool = True) -> Replica:
        return cls(name, ReplicaState.STARTING, Reason.LAUNCHED, now, ours=ours)

    @property
    def serving(self) -> bool:
        """Whether it answers requests, well or not."""
        return self.state in {ReplicaState.READY, ReplicaState.DEGRADED}

    @property
    def coming(self) -> bool:
        """Whether it will be ready by itself, if all goes well."""
        if self.state is ReplicaState.DRAINING:
            return self.reason is Reason.RESTART_REQUESTED
        return self.state in {ReplicaState.STARTING, ReplicaState.HUNG, ReplicaState.RESTARTING}


def advance(replica: Replica, event: Event, now: float, rules: Supervision) -> Replica:
    """The replica after an event; the same object if the event says nothing new."""
    if replica.state is ReplicaState.STOPPED:
        return replica
    if _ending(replica) and not isinstance(event, Exited):
        return replica
    return _HANDLERS[type(event)](replica, event, now, rules)


def backoff_s(failures: int, jitter: float, rules: Supervision) -> float:
    """The wait after that many failures in a row: doubled each time, half of it at random (jitter 0 to 1)."""
    if failures < 1:
        return 0.0
    whole = min(rules.first_backoff_s * 2.0 ** min(failures - 1, 30), rules.longest_backoff_s)
    return whole * (0.5 + 0.5 * jitter)


def _ending(replica: Replica) -> bool:
    return replica.state is ReplicaState.DRAINING and replica.reason is Reason.STOP_REQUESTED


def _enter(replica: Replica, state: ReplicaState, reason: Reason, detail: str, now: float) -> Replica:
    return replace(replica, state=state, reason=reason, detail=detail, since=now)


def _launched(replica: Replica, event: Event, now: float, _: Supervision) -> Replica:
    if replica.state is not ReplicaState.RESTARTING:
        return replica
    # Why it was started again stays to be read until it is ready.
    entered = _enter(replica, ReplicaState.STARTING, Reason.LAUNCHED, replica.detail, now)
    return replace(entered, restarts=replica.restarts + 1)


def _adopted(replica: Replica, event: Event, now: float, _: Supervision) -> Replica:
    return _enter(replica, ReplicaState.STARTING, Reason.ADOPTED, event.detail, now)


def _answered(replica: Replica, event: Event, now: float, _: Supervision) -> Replica:
    waited_for = {ReplicaState.STARTING} if replica.ours else {ReplicaState.STARTING, ReplicaState.HUNG}
    if replica.state not in waited_for:
        return replica
    entered = _enter(replica, ReplicaState.READY, Reason.ANSWERED, "", now)
    return replace(entered, ready_since=now, detect_s=None)


def _exited(replica: Replica, event: Event, now: float, rules: Supervision) -> Replica:
    assert isinstance(event, Exited)  # noqa: S101 - the table below says so
    if _ending(replica):
        return _enter(replica, ReplicaState.STOPPED, Reason.ENDED, event.detail, now)
    if replica.state in {ReplicaState.FAILED, ReplicaState.QUARANTINED}:
        return replica
    if replica.reason in {Reason.RESTART_REQUESTED, Reason.CARD_FAULT}:
        held = replica.reason is Reason.CARD_FAULT
        entered = _enter(replica, ReplicaState.RESTARTING, replica.reason, replica.detail, now)
        return replace(entered, ready_since=None, retry_at=None if held else now)
    return _failed_once(replica, event, now, rules)


def _failed_once(replica: Replica, event: Exited, now: float, rules: Supervision) -> Replica:
    reason, detail = Reason(event.kind), event.detail
    if replica.state is ReplicaState.HUNG:
        reason, detail = replica.reason, replica.detail
    if reason is Reason.CONFIGURATION:
        return _enter(replica, ReplicaState.FAILED, reason, detail, now)
    stable = replica.ready_since is not None and now - replica.ready_since >= rules.stable_after_s
    failures = 1 if stable else replica.failures + 1
    # An end is told by the kernel at once; a hang was noticed earlier, or when nobody knows.
    detect_s = replica.detect_s if replica.state is ReplicaState.HUNG else 0.0
    counted = replace(replica, failures=failures, ready_since=None, detect_s=detect_s)
    if failures >= rules.most_failures and not event.held:
        told = f"{failures} failures in a row, the last one: {reason.value}: {detail}"
        return _enter(counted, ReplicaState.FAILED, Reason.CRASH_LOOP, told, now)
    entered = _enter(counted, ReplicaState.RESTARTING, reason, detail, now)
    return replace(entered, retry_at=None if event.held else now + backoff_s(failures, event.jitter, rules))


def _start_timed_out(replica: Replica, event: Event, now: float, _: Supervision) -> Replica:
    if replica.state is not ReplicaState.STARTING:
        return replica
    reason = Reason.START_TIMEOUT if replica.ours else Reason.NO_ANSWER
    return _enter(replica, ReplicaState.HUNG, reason, event.detail, now)


def _refused(replica: Replica, event: Event, now: float, _: Supervision) -> Replica:
    if replica.state is not ReplicaState.STARTING:
        return replica
    return _enter(replica, ReplicaState.FAILED, Reason.REFUSED, event.detail, now)


def _stalled(replica: Replica, event: Event, now: float, _: Supervision) -> Replica:
    if not replica.serving:
        return replica
    assert isinstance(event, Stalled)  # noqa: S101 - the table below says so
    hung = _enter(replica, ReplicaState.HUNG, Reason.NO_PROGRESS, event.detail, now)
    return replace(hung, detect_s=event.seconds)


def _canary_failed(replica: Replica, event: Event, now: float, _: Supervision) -> Replica:
    if not replica.serving:
        return replica
    return _enter(replica, ReplicaState.HUNG, Reason.CANARY_FAILED, event.detail, now)


def _slowed(replica: Replica, event: Event, now: float, _: Supervision) -> Replica:
    if replica.state is not ReplicaState.READY:
        return replica
    return _enter(replica, ReplicaState.DEGRADED, Reason.SLOW, event.detail, now)


def _failing(replica: Replica, event: Event, now: float, _: Supervision) -> Replica:
    if replica.state is not ReplicaState.READY:
        return replica
    return _enter(replica, ReplicaState.DEGRADED, Reason.FAILING, event.detail, now)


def _recovered(replica: Replica, event: Event, now: float, _: Supervision) -> Replica:
    if replica.state is not ReplicaState.DEGRADED:
        return replica
    return _enter(replica, ReplicaState.READY, Reason.RECOVERED, event.detail, now)


def _restart_requested(replica: Replica, event: Event, now: float, _: Supervision) -> Replica:
    if not replica.ours or replica.state is ReplicaState.DRAINING:
        return replica
    fresh = replace(replica, failures=0)
    if replica.state in {ReplicaState.FAILED, ReplicaState.QUARANTINED, ReplicaState.RESTARTING}:
        entered = _enter(fresh, ReplicaState.RESTARTING, Reason.RESTART_REQUESTED, event.detail, now)
        return replace(entered, retry_at=now)
    return _enter(fresh, ReplicaState.DRAINING, Reason.RESTART_REQUESTED, event.detail, now)


def _card_taken(replica: Replica, event: Event, now: float, _: Supervision) -> Replica:
    if replica.state in {ReplicaState.FAILED, ReplicaState.QUARANTINED}:
        return replica
    if replica.state is ReplicaState.RESTARTING:
        entered = _enter(replica, ReplicaState.RESTARTING, Reason.CARD_FAULT, event.detail, now)
        return replace(entered, retry_at=None)
    return _enter(replica, ReplicaState.HUNG, Reason.CARD_FAULT, event.detail, now)


def _card_returned(replica: Replica, event: Event, now: float, _: Supervision) -> Replica:
    if replica.state not in {ReplicaState.RESTARTING, ReplicaState.QUARANTINED}:
        return replica
    entered = _enter(replica, ReplicaState.RESTARTING, replica.reason, replica.detail, now)
    return replace(entered, retry_at=now)


def _quarantined(replica: Replica, event: Event, now: float, _: Supervision) -> Replica:
    if replica.state is ReplicaState.QUARANTINED:
        return replica
    return _enter(replica, ReplicaState.QUARANTINED, Reason.CARD_FAULT, event.detail, now)


def _stop_requested(replica: Replica, event: Event, now: float, _: Supervision) -> Replica:
    return _enter(replica, ReplicaState.DRAINING, Reason.STOP_REQUESTED, event.detail, now)


_HANDLERS: Mapping[type[Event], Callable[[Replica, Event, float, Supervision], Replica]] = {
    Launched: _launched,
    Adopted: _adopted,
    Answered: _answered,
    Exited: _exited,
    StartTimedOut: _start_timed_out,
    Refused: _refused,
    Stalled: _stalled,
    CanaryFailed: _canary_failed,
    Slowed: _slowed,
    Failing: _failing,
    Recovered: _recovered,
    RestartRequested: _restart_requested,
    CardTaken: _card_taken,
    CardReturned: _card_returned,
    Quarantined: _quarantined,
    StopRequested: _stop_requested,
}
