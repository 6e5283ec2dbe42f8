"""The state machine of one replica, with time passed in."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dreamseed_cli.profile.resilience import Supervision
from dreamseed_cli.supervisor.exits import ExitKind
from dreamseed_cli.supervisor.replica import (
    Adopted,
    Answered,
    CanaryFailed,
    CardReturned,
    CardTaken,
    Event,
    Exited,
    Failing,
    Launched,
    Quarantined,
    Reason,
    Recovered,
    Refused,
    Replica,
    ReplicaState,
    RestartRequested,
    Slowed,
    Stalled,
    StartTimedOut,
    StopRequested,
    advance,
    backoff_s,
)

RULES = Supervision(most_failures=3, stable_after_s=100.0)
CRASH = Exited("x", kind=ExitKind.KILLED)
LOST_CARD = Exited("x", kind=ExitKind.GPU_FAULT, held=True)


def _after(*events: Event, ours: bool = True) -> Replica:
    replica = Replica.launched("r0", 0.0, ours=ours)
    for moment, event in enumerate(events, start=1):
        replica = advance(replica, event, float(moment), RULES)
    return replica


def test_a_launched_replica_is_starting() -> None:
    """It takes no requests before it has generated a token."""
    replica = _after()
    assert (replica.state, replica.reason, replica.since) == (ReplicaState.STARTING, Reason.LAUNCHED, 0.0)
    assert not replica.serving


@pytest.mark.parametrize(
    ("events", "state", "reason"),
    [
        ((Answered(),), ReplicaState.READY, Reason.ANSWERED),
        ((Adopted("x"),), ReplicaState.STARTING, Reason.ADOPTED),
        ((CRASH,), ReplicaState.RESTARTING, Reason.KILLED),
        ((Exited("x"),), ReplicaState.RESTARTING, Reason.EXITED),
        ((Exited("x", kind=ExitKind.CONFIGURATION),), ReplicaState.FAILED, Reason.CONFIGURATION),
        ((StartTimedOut("x"),), ReplicaState.HUNG, Reason.START_TIMEOUT),
        ((Refused("x"),), ReplicaState.FAILED, Reason.REFUSED),
        ((Answered(), CRASH), ReplicaState.RESTARTING, Reason.KILLED),
        ((Answered(), Stalled("x")), ReplicaState.HUNG, Reason.NO_PROGRESS),
        ((Answered(), CanaryFailed("x")), ReplicaState.HUNG, Reason.CANARY_FAILED),
        ((Answered(), Slowed("x")), ReplicaState.DEGRADED, Reason.SLOW),
        ((Answered(), Failing("x")), ReplicaState.DEGRADED, Reason.FAILING),
        ((Answered(), Failing("x"), Recovered("y")), ReplicaState.READY, Reason.RECOVERED),
        ((Answered(), Slowed("x"), Stalled("y")), ReplicaState.HUNG, Reason.NO_PROGRESS),
        ((Answered(), RestartRequested("x")), ReplicaState.DRAINING, Reason.RESTART_REQUESTED),
        ((Answered(), CardTaken("x")), ReplicaState.HUNG, Reason.CARD_FAULT),
        ((Answered(), Quarantined("x")), ReplicaState.QUARANTINED, Reason.CARD_FAULT),
        ((CRASH, CardTaken("x")), ReplicaState.RESTARTING, Reason.CARD_FAULT),
        ((StopRequested("x"),), ReplicaState.DRAINING, Reason.STOP_REQUESTED),
        ((CRASH, StopRequested("x")), ReplicaState.DRAINING, Reason.STOP_REQUESTED),
        ((Answered(), StopRequested(), Exited("x")), ReplicaState.STOPPED, Reason.ENDED),
    ],
)
def test_transitions(events: tuple[Event, ...], state: ReplicaState, reason: Reason) -> None:
    """Each event leads where an operator would expect, and says why."""
    replica = _after(*events)
    assert (replica.state, replica.reason) == (state, reason)
    assert replica.since == float(len(events))


@pytest.mark.parametrize(
    "events",
    [
        (Answered(), Answered()),
        (Answered(), StartTimedOut("late")),
        (Answered(), Refused("late")),
        (StartTimedOut("first"), Stalled("second")),
        (Exited("first", kind=ExitKind.CONFIGURATION), Exited("second")),
        (Exited("first", kind=ExitKind.CONFIGURATION), CardTaken("second")),
        (CRASH, Answered()),
        (CRASH, CanaryFailed("of the process before")),
        (StopRequested(), Answered()),
        (StopRequested(), RestartRequested()),
        (StopRequested(), Exited(), Launched()),
        (Recovered(),),
        (Launched(),),
    ],
)
def test_late_events_change_nothing(events: tuple[Event, ...]) -> None:
    """A late answer revives no dead replica, and the first cause of a failure stays."""
    before = _after(*events[:-1])
    assert advance(before, events[-1], 99.0, RULES) is before


def test_a_restart_keeps_its_cause_until_the_first_token() -> None:
    """While it starts again an operator can still read why; ready, that is past."""
    again = _after(Answered(), CRASH, Launched())
    assert (again.state, again.detail, again.restarts) == (ReplicaState.STARTING, "x", 1)
    assert advance(again, Answered(), 9.0, RULES).detail == ""


def test_a_hang_is_the_cause_of_the_kill_that_follows() -> None:
    """The process was killed by us: what counts is why."""
    replica = _after(Answered(), Stalled("nothing for 10 s"), CRASH)
    assert (replica.reason, replica.detail) == (Reason.NO_PROGRESS, "nothing for 10 s")
    assert replica.failures == 1


def test_a_crash_loop_is_failed_with_its_last_cause() -> None:
    """Not an endless loop; an operator's wish starts it afresh."""
    replica = _after(CRASH, Launched(), CRASH, Launched(), CRASH)
    assert (replica.state, replica.reason) == (ReplicaState.FAILED, Reason.CRASH_LOOP)
    assert replica.detail == "3 failures in a row, the last one: killed: x"
    again = advance(replica, RestartRequested("by hand"), 50.0, RULES)
    assert (again.state, again.failures, again.retry_at) == (ReplicaState.RESTARTING, 0, 50.0)


def test_stable_uptime_forgives_earlier_failures() -> None:
    """A crash a day is no crash loop."""
    replica = _after(CRASH, Launched(), CRASH, Launched(), Answered())
    crashed = advance(replica, CRASH, 5.0 + RULES.stable_after_s, RULES)
    assert (crashed.state, crashed.failures) == (ReplicaState.RESTARTING, 1)
    soon = advance(replica, CRASH, 6.0, RULES)
    assert soon.state is ReplicaState.FAILED


def test_a_restart_by_wish_is_no_failure_and_waits_for_nothing() -> None:
    """It is started again as soon as its process has ended."""
    replica = _after(Answered(), RestartRequested("x"), Exited())
    assert (replica.state, replica.failures, replica.retry_at) == (ReplicaState.RESTARTING, 0, 3.0)


def test_a_faulty_card_holds_its_replica_until_it_is_given_back() -> None:
    """Neither time nor the number of failures starts or fails it; the card's keeper does."""
    held = _after(Answered(), LOST_CARD)
    assert (held.state, held.reason, held.retry_at) == (ReplicaState.RESTARTING, Reason.GPU_FAULT, None)
    assert _after(*[LOST_CARD, CardReturned(), Launched()] * 5).state is ReplicaState.STARTING
    back = advance(held, CardReturned(), 9.0, RULES)
    assert back.retry_at == 9.0
    given_up = advance(held, Quarantined("twice"), 9.0, RULES)
    assert given_up.state is ReplicaState.QUARANTINED
    assert advance(given_up, RestartRequested(), 10.0, RULES).state is ReplicaState.RESTARTING


def test_a_replica_elsewhere_is_asked_until_it_answers() -> None:
    """It cannot be restarted from here: hung, it comes back by answering."""
    hung = _after(StartTimedOut("x"), ours=False)
    assert (hung.state, hung.reason) == (ReplicaState.HUNG, Reason.NO_ANSWER)
    assert advance(hung, Answered(), 9.0, RULES).state is ReplicaState.READY
    assert advance(hung, RestartRequested(), 9.0, RULES) is hung
    assert _after(StartTimedOut("x"), Answered()).state is ReplicaState.HUNG


@given(failures=st.integers(1, 200), jitter=st.floats(0, 1))
def test_the_wait_grows_within_its_bounds(failures: int, jitter: float) -> None:
    """From half of the first to the longest, never shorter after one more failure at the same jitter."""
    wait = backoff_s(failures, jitter, RULES)
    assert RULES.first_backoff_s / 2 <= wait <= RULES.longest_backoff_s
    assert backoff_s(failures + 1, jitter, RULES) >= wait


_EVENTS = st.sampled_from(
    [
        Launched(),
        Answered(),
        CRASH,
        LOST_CARD,
        Exited("x", kind=ExitKind.CONFIGURATION),
        StartTimedOut(),
        Refused(),
        Stalled(),
        CanaryFailed(),
        Slowed(),
        Failing(),
        Recovered(),
        RestartRequested(),
        CardTaken(),
        CardReturned(),
        Quarantined(),
    ]
)


@given(st.lists(_EVENTS, max_size=40))
def test_whatever_happens_a_stop_ends_it(events: list[Event]) -> None:
    """After a stop was wished and the process ended it is stopped, and stays so."""
    replica = advance(_after(*events), StopRequested(), 50.0, RULES)
    replica = advance(replica, Exited(), 51.0, RULES)
    assert replica.state is ReplicaState.STOPPED
    for event in events:
        assert advance(replica, event, 60.0, RULES) is replica


@given(st.lists(_EVENTS, max_size=40))
def test_only_a_first_token_makes_it_serve(events: list[Event]) -> None:
    """Ready is entered by an answer, or from degraded; never by anything else."""
    replica = Replica.launched("r0", 0.0)
    for event in events:
        after = advance(replica, event, 1.0, RULES)
        if after.serving and not replica.serving:
            assert isinstance(event, Answered)
        replica = after
