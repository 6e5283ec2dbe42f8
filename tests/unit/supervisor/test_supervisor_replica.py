"""The state machine of one replica, with time passed in."""

from __future__ import annotations

import pytest

from dreamseed_cli.supervisor.replica import (
    Answered,
    Event,
    Exited,
    Reason,
    Refused,
    Replica,
    ReplicaState,
    StartTimedOut,
    StopRequested,
    advance,
)


def _after(*events: Event) -> Replica:
    replica = Replica.launched("r0", 0.0)
    for moment, event in enumerate(events, start=1):
        replica = advance(replica, event, float(moment))
    return replica


def test_a_launched_replica_is_starting() -> None:
    """It takes no requests before it has generated a token."""
    replica = _after()
    assert (replica.state, replica.reason, replica.since) == (ReplicaState.STARTING, Reason.LAUNCHED, 0.0)


@pytest.mark.parametrize(
    ("events", "state", "reason"),
    [
        ((Answered(),), ReplicaState.READY, Reason.ANSWERED),
        ((Exited("x"),), ReplicaState.FAILED, Reason.EXITED),
        ((StartTimedOut("x"),), ReplicaState.FAILED, Reason.START_TIMEOUT),
        ((Refused("x"),), ReplicaState.FAILED, Reason.REFUSED),
        ((StopRequested(),), ReplicaState.DRAINING, Reason.STOP_REQUESTED),
        ((Answered(), Exited("x")), ReplicaState.FAILED, Reason.EXITED),
        ((Answered(), StopRequested()), ReplicaState.DRAINING, Reason.STOP_REQUESTED),
        ((Answered(), StopRequested(), Exited()), ReplicaState.STOPPED, Reason.ENDED),
        ((StopRequested(), Exited()), ReplicaState.STOPPED, Reason.ENDED),
    ],
)
def test_transitions(events: tuple[Event, ...], state: ReplicaState, reason: Reason) -> None:
    """Each event leads where an operator would expect, and says why."""
    replica = _after(*events)
    assert (replica.state, replica.reason) == (state, reason)
    assert replica.since == float(len(events))
    assert replica.detail == events[-1].detail


@pytest.mark.parametrize(
    "events",
    [
        (Answered(), Answered()),
        (Answered(), StartTimedOut("late")),
        (Exited("first"), Exited("second")),
        (Exited("first"), StopRequested()),
        (Exited("first"), Answered()),
        (StopRequested(), Answered()),
        (StopRequested(), Exited(), Answered()),
    ],
)
def test_late_events_change_nothing(events: tuple[Event, ...]) -> None:
    """A late answer revives no dead replica, and the first cause of a failure stays."""
    before = _after(*events[:-1])
    assert advance(before, events[-1], 99.0) is before
