"""The state machine of one service, with time passed in."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dreamseed_cli.supervisor.service import (
    MISSES,
    START_TIMEOUT_S,
    Answered,
    CannotStart,
    Event,
    Exited,
    Launched,
    NotUsable,
    Reason,
    Service,
    ServiceState,
    Silent,
    StopRequested,
    advance,
    wait_s,
)

_RESTARTED = (Exited("x"), Launched())


def _after(*events: Event, ours: bool = True, step_s: float = 1.0) -> Service:
    service = Service.configured("postgres", 0.0, ours=ours)
    for moment, event in enumerate(events, start=1):
        service = advance(service, event, moment * step_s)
    return service


@pytest.mark.parametrize(
    ("events", "state", "reason"),
    [
        ((), ServiceState.STARTING, Reason.LAUNCHED),
        ((Launched(),), ServiceState.STARTING, Reason.LAUNCHED),
        ((NotUsable("x"),), ServiceState.STARTING, Reason.LAUNCHED),
        ((Silent("x"),) * 50, ServiceState.STARTING, Reason.LAUNCHED),
        ((Answered(),), ServiceState.READY, Reason.ANSWERED),
        ((Answered(), NotUsable("x")), ServiceState.UNUSABLE, Reason.NOT_USABLE),
        ((Answered(), NotUsable("x"), Answered()), ServiceState.READY, Reason.ANSWERED),
        ((Answered(), *(Silent("x"),) * (MISSES - 1)), ServiceState.READY, Reason.ANSWERED),
        ((Answered(), *(Silent("x"),) * MISSES), ServiceState.HUNG, Reason.NO_ANSWER),
        ((CannotStart("x"),), ServiceState.RESTARTING, Reason.CANNOT_START),
        ((Exited("x"),), ServiceState.RESTARTING, Reason.EXITED),
        (_RESTARTED, ServiceState.STARTING, Reason.LAUNCHED),
        ((*_RESTARTED, Answered()), ServiceState.READY, Reason.ANSWERED),
        ((Answered(), StopRequested()), ServiceState.STOPPING, Reason.STOP_REQUESTED),
        ((StopRequested(), Exited()), ServiceState.STOPPED, Reason.ENDED),
        ((Exited("x"), StopRequested(), Launched(), Exited()), ServiceState.STOPPED, Reason.ENDED),
        ((StopRequested(), Exited(), Exited("late")), ServiceState.STOPPED, Reason.ENDED),
    ],
)
def test_transitions(events: tuple[Event, ...], state: ServiceState, reason: Reason) -> None:
    """Each event leads where an operator would expect, and says why."""
    service = _after(*events)
    assert (service.state, service.reason) == (state, reason)


def test_one_answer_forgives_what_was_missed() -> None:
    """Only probes in a row count."""
    silence = (Silent("x"),) * (MISSES - 1)
    assert _after(Answered(), *silence, Answered(), *silence).state is ServiceState.READY


def test_a_start_without_an_answer_ends_once_its_time_is_over() -> None:
    """It hangs, whatever it does: it is killed and started again."""
    service = _after(Silent("x"), Silent("no connection"), step_s=START_TIMEOUT_S * 0.75)
    assert (service.state, service.detail) == (ServiceState.HUNG, "no connection")
    killed = advance(service, Exited("killed by signal 9"), 1000.0)
    assert (killed.state, killed.reason) == (ServiceState.RESTARTING, Reason.NO_ANSWER)
    assert "no connection" in killed.detail


def test_a_start_that_answers_for_long_without_being_of_use_says_so() -> None:
    """Nobody is served by ending it."""
    service = _after(NotUsable("x"), NotUsable("newer schema"), step_s=START_TIMEOUT_S)
    assert (service.state, service.detail) == (ServiceState.UNUSABLE, "newer schema")


def test_anothers_service_is_unreachable_and_never_hung() -> None:
    """Three misses from the start on; nothing of it is killed or restarted."""
    service = _after(*(Silent("refused"),) * MISSES, ours=False)
    assert (service.state, service.detail) == (ServiceState.UNREACHABLE, "refused")
    assert advance(service, Answered(), 9.0).state is ServiceState.READY
    assert _after(NotUsable("its schema is behind"), ours=False).state is ServiceState.UNUSABLE
    assert advance(service, StopRequested(), 9.0).state is ServiceState.STOPPED


def test_waits_double_up_to_a_minute() -> None:
    """A service that cannot start takes no more of the machine than that."""
    service = _after()
    waits = []
    now = 0.0
    for _ in range(9):
        service = advance(service, Exited("x"), now)
        waits.append(service.retry_at - now)
        now = service.retry_at
        service = advance(service, Launched(), now)
    assert waits == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0, 60.0]
    assert service.restarts == 9
    assert wait_s(10_000) == 60.0


def test_a_stable_minute_makes_the_next_end_a_first_one() -> None:
    """A minute of being of use; shorter ones do not count."""
    crashed_often = _after(*_RESTARTED * 4)
    ready = advance(crashed_often, Answered(), 100.0)
    assert advance(ready, Exited("x"), 159.0).failures == 5
    assert advance(ready, Exited("x"), 160.0).failures == 1


def test_why_it_was_restarted_stays_to_be_read_until_it_is_ready() -> None:
    """`status` shows the cause while it comes back."""
    assert _after(Exited("out of disk"), Launched()).detail == "out of disk"
    assert _after(Exited("out of disk"), Launched(), Answered()).detail == ""


def test_since_is_when_the_state_began() -> None:
    """Not when it was last confirmed."""
    service = _after(Answered(), Answered(), Silent("x"), Answered())
    assert (service.state, service.since) == (ServiceState.READY, 1.0)


_EVENTS = st.sampled_from(
    [Launched(), Answered(), NotUsable("n"), Silent("s"), Exited("e"), CannotStart("c")]
)


@given(st.lists(st.tuples(_EVENTS, st.floats(0, 100)), max_size=60), st.booleans())
def test_whatever_happens_it_can_still_become_ready_and_be_stopped(
    events: list[tuple[Event, float]],
    ours: bool,
) -> None:
    """No state but `stopped` is final, waits are bounded, and a stop always ends it."""
    service, now = Service.configured("s", 0.0, ours=ours), 0.0
    for event, passed in events:
        now += passed
        service = advance(service, event, now)
        assert service.since <= now
        assert service.retry_at <= now + 60.0
    ready = service
    for event in (Exited("x"), Launched(), Answered()):
        ready = advance(ready, event, now)
    assert ready.state is ServiceState.READY
    stopped = advance(advance(service, StopRequested(), now), Exited(), now)
    assert stopped.state is ServiceState.STOPPED
    assert advance(stopped, Answered(), now) is stopped
