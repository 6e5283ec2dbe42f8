"""The state machine of the help, with time passed in."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dreamseed_cli.profile.resilience import Failover
from dreamseed_cli.supervisor.failover.policy import (
    LONGEST_PAUSE_S,
    STABLE_S,
    STOPS_AT_END,
    Event,
    Help,
    HelpState,
    Hook,
    HookEnded,
    Observed,
    StopRequested,
    advance,
    begin,
    pause_s,
)

RULES = Failover(urls=("https://help",), below=0.5, after_s=10.0, back_after_s=20.0, ready_within_s=60.0)
LOW, ENOUGH = Observed(1, 3), Observed(2, 3)
STARTED, STOPPED = HookEnded(Hook.START, ok=True), HookEnded(Hook.STOP, ok=True)
SERVES, SERVES_NEEDLESSLY = Observed(1, 3, answering=1), Observed(3, 3, answering=1)
SPENT = Observed(1, 3, spent="nothing is left", answering=1)

CALLED = ((0, LOW), (10, LOW))
SERVING = (*CALLED, (11, STARTED), (12, SERVES))


@dataclass(frozen=True)
class Run:
    """The help after some events, and the hooks that were to be run."""

    help: Help
    hooks: tuple[Hook, ...]


def _run(*events: tuple[float, Event], start: Help | None = None) -> Run:
    current = start or begin(0.0, configured=True)[0]
    hooks: list[Hook] = []
    for now, event in events:
        current, hook = advance(current, event, now, RULES)
        hooks += [hook] if hook else []
    return Run(current, tuple(hooks))


def _state(*events: tuple[float, Event]) -> str:
    return _run(*events).help.state.value


@pytest.mark.parametrize(
    ("events", "state", "hooks"),
    [
        ((), "standby", ()),
        (((0, ENOUGH),), "standby", ()),
        (((0, LOW),), "waiting", ()),
        (((0, LOW), (9, LOW)), "waiting", ()),
        (((0, LOW), (5, ENOUGH), (11, LOW)), "waiting", ()),
        (((0, LOW), (9, ENOUGH)), "standby", ()),
        (((0, LOW), (9, Observed(0, 0))), "standby", ()),
        (CALLED, "starting", ("start",)),
        ((*CALLED, (50, SERVES)), "starting", ("start",)),
        ((*CALLED, (11, STARTED), (12, LOW)), "starting", ("start",)),
        (SERVING, "serving", ("start",)),
        ((*SERVING, (13, SERVES_NEEDLESSLY)), "returning", ("start",)),
        ((*SERVING, (13, SERVES_NEEDLESSLY), (32, SERVES)), "serving", ("start",)),
        ((*SERVING, (13, SERVES_NEEDLESSLY), (33, SERVES_NEEDLESSLY)), "stopping", ("start", "stop")),
        ((*SERVING, (13, SPENT)), "stopping", ("start", "stop")),
        ((*SERVING, (13, SPENT), (14, STOPPED)), "spent", ("start", "stop")),
        (((0, SPENT),), "spent", ()),
        (((0, SPENT), (50, SPENT)), "spent", ()),
        (((0, SPENT), (1, LOW)), "waiting", ()),
        (((0, SPENT), (1, ENOUGH)), "standby", ()),
        ((*CALLED, (11, HookEnded(Hook.START, ok=False))), "stopping", ("start", "stop")),
        ((*CALLED, (11, HookEnded(Hook.START, ok=False)), (12, STOPPED)), "failed", ("start", "stop")),
        ((*CALLED, (11, STARTED), (70, LOW)), "stopping", ("start", "stop")),
        ((*CALLED, (11, STARTED), (12, ENOUGH), (32, ENOUGH)), "stopping", ("start", "stop")),
        ((*SERVING, (13, LOW), (72, LOW)), "serving", ("start",)),
        ((*SERVING, (13, LOW), (73, LOW)), "stopping", ("start", "stop")),
        (((0, StopRequested()),), "off", ()),
        ((*SERVING, (13, StopRequested())), "stopping", ("start", "stop")),
        ((*SERVING, (13, StopRequested()), (14, STOPPED)), "off", ("start", "stop")),
        ((*CALLED, (11, StopRequested())), "stopping", ("start",)),
        ((*CALLED, (11, StopRequested()), (12, STARTED)), "stopping", ("start", "stop")),
        ((*CALLED, (11, StopRequested()), (12, STARTED), (13, STOPPED)), "off", ("start", "stop")),
    ],
)
def test_transitions(events: tuple[tuple[float, Event], ...], state: str, hooks: tuple[str, ...]) -> None:
    """Each course of events leads where an operator would expect, by these hooks."""
    run = _run(*events)
    assert (run.help.state.value, run.hooks) == (state, hooks)


def test_sent_home_it_can_be_called_again() -> None:
    """After a whole round it stands by, owes nothing and has no failure behind it."""
    home = (*SERVING, (13, SERVES_NEEDLESSLY), (33, SERVES_NEEDLESSLY), (34, STOPPED))
    run = _run(*home)
    assert (run.help.state, run.help.ours, run.help.failures) == (HelpState.STANDBY, False, 0)
    assert _run(*home, (35, LOW), (45, LOW)).hooks == (Hook.START, Hook.STOP, Hook.START)


def test_replicas_that_load_their_model_are_no_reason_to_call() -> None:
    """At the start of the stack none is ready for minutes; once they were enough, or late, that counts."""
    loading, _ = begin(0.0, configured=True, patient_until=100.0)
    late = _run((0, LOW), (99, LOW), (101, LOW), (112, LOW), start=loading)
    assert late.hooks == (Hook.START,)
    assert _run((0, LOW), (99, LOW), start=loading).help.state is HelpState.STANDBY
    broke = _run((0, LOW), (5, ENOUGH), (6, LOW), (16, LOW), start=loading)
    assert broke.hooks == (Hook.START,)


def test_failed_calls_are_repeated_after_growing_pauses() -> None:
    """One minute, two, four, up to an hour; each failed start is followed by a stop."""
    current, now, waits = begin(0.0, configured=True)[0], 0.0, []
    current, _ = advance(current, LOW, 0.0, RULES)
    for _ in range(8):
        now = max(now + RULES.after_s, current.retry_at)
        current, hook = advance(current, LOW, now, RULES)
        assert hook is Hook.START
        current, hook = advance(current, HookEnded(Hook.START, ok=False, detail="no quota"), now, RULES)
        assert hook is Hook.STOP
        current, _ = advance(current, STOPPED, now, RULES)
        assert (current.state, current.detail) == (HelpState.FAILED, "no quota")
        waits.append(current.retry_at - now)
        early, hook = advance(current, LOW, current.retry_at - 1, RULES)
        assert (early.state, hook) == (HelpState.FAILED, None)
    assert waits == [60, 120, 240, 480, 960, 1920, 3600, 3600]
    assert pause_s(10_000) == LONGEST_PAUSE_S


def test_help_that_served_for_long_failed_for_the_first_time() -> None:
    """A Spot instance that was taken away after minutes of service is called again soon."""
    serving = _run(*SERVING, (13 + STABLE_S, SERVES)).help
    silent = _run((400, LOW), (460, LOW), (461, STOPPED), start=serving)
    assert (silent.help.state, silent.help.failures) == (HelpState.FAILED, 1)
    assert "no engine of it answered" in silent.help.detail


def test_a_stop_that_fails_is_tried_again_and_the_help_not_forgotten() -> None:
    """It may still run and cost, and the state says so."""
    failed = HookEnded(Hook.STOP, ok=False, detail="no network")
    run = _run(*SERVING, (13, SPENT), (14, failed), (73, LOW), (74, LOW))
    assert run.hooks == (Hook.START, Hook.STOP, Hook.STOP)
    assert (run.help.state, run.help.ours) == (HelpState.STOPPING, True)
    assert run.help.detail == "it may still run and cost: no network"
    assert _run((75, STOPPED), start=run.help).help.state is HelpState.SPENT


def test_when_the_stack_goes_down_the_stop_is_tried_a_bounded_number_of_times() -> None:
    """Then it is off, and what may still run is said."""
    failed = HookEnded(Hook.STOP, ok=False, detail="no network")
    run = _run(*SERVING, (13, StopRequested()), *((14 + tries, failed) for tries in range(STOPS_AT_END)))
    assert run.hooks == (Hook.START, *(Hook.STOP,) * STOPS_AT_END)
    assert (run.help.state, run.help.ours) == (HelpState.OFF, True)
    assert "may still run" in run.help.detail


def test_a_stop_hook_that_runs_when_the_stack_goes_down_is_not_run_twice() -> None:
    """Its end is the end."""
    run = _run(*SERVING, (13, SPENT), (14, StopRequested()), (15, STOPPED))
    assert (run.help.state, run.hooks) == (HelpState.OFF, (Hook.START, Hook.STOP))


def test_help_of_an_earlier_run_is_used_again_or_stopped() -> None:
    """It runs and costs: used while it is configured, by its engines' tokens and without a start hook."""
    found, hook = begin(0.0, configured=True, may_run="left by a killed run")
    assert (found.state, found.ours, hook) == (HelpState.STARTING, True, None)
    assert _run((1, SERVES), start=found).help.state is HelpState.SERVING
    assert _run((1, SPENT), start=found).hooks == (Hook.STOP,)
    assert _run((1, ENOUGH), (21, ENOUGH), start=found).hooks == (Hook.STOP,)
    orphan, hook = begin(0.0, configured=False, may_run="left by a killed run")
    assert (orphan.state, hook) == (HelpState.STOPPING, Hook.STOP)
    assert _run((1, STOPPED), (2, LOW), (99, LOW), start=orphan).help.state is HelpState.OFF


def test_nothing_configured_is_off_and_stays_off() -> None:
    """Whatever the replicas do."""
    off, _ = begin(0.0, configured=False)
    run = _run((0, LOW), (99, LOW), (100, StopRequested()), start=off)
    assert (run.help.state, run.hooks) == (HelpState.OFF, ())


def test_since_is_when_the_state_began() -> None:
    """Not when it was last confirmed."""
    assert _run(*SERVING, (20, SERVES), (30, SERVES)).help.since == 12


_WORLD = st.lists(
    st.tuples(
        st.floats(0.1, 30.0),
        st.integers(0, 3),
        st.sampled_from(["", "", "", "", "nothing is left"]),
        st.integers(0, 1),
        st.sampled_from([None, True, True, False]),
    ),
    max_size=80,
)
"""Seconds that pass, ready replicas of 3, why no money is left, engines that answer, how a hook ends."""


@given(_WORLD)
def test_laws(world: list[tuple[float, int, str, int, bool | None]]) -> None:
    """Whatever happens: one start between two stops, only while capacity is low, never beyond the cap."""
    current, now = begin(0.0, configured=True)[0], 0.0
    running: Hook | None = None
    owed = 0
    low_since: float | None = None
    back_since: float | None = None
    for passed, ready, spent, answering, ends in world:
        now += passed
        events: list[Event] = [HookEnded(running, ok=ends)] if running and ends is not None else []
        enough = ready / 3 >= RULES.below
        low_since = None if enough else now if low_since is None else low_since
        back_since = None if not enough else now if back_since is None else back_since
        for event in (*events, Observed(ready, 3, spent, answering)):
            if isinstance(event, HookEnded):
                running = None
                owed = 0 if event.hook is Hook.STOP and event.ok else owed
            current, hook = advance(current, event, now, RULES)
            if hook is Hook.START:
                assert low_since is not None
                assert now - low_since >= RULES.after_s
                assert not spent
                assert owed == 0
                owed = 1
            if hook is not None:
                assert running is None
                assert owed == 1
                running = hook
            assert current.hook is running
            assert current.ours == (owed == 1)
        if running is not Hook.START:
            sent_home = back_since is not None and now - back_since >= RULES.back_after_s
            assert not (current.called and (spent or sent_home))
        assert current.state not in {HelpState.SERVING, HelpState.RETURNING} or not spent
    _ends_in_order(current, running, now)


def _ends_in_order(current: Help, running: Hook | None, now: float) -> None:
    """A stack that goes down stops what it called."""
    current, hook = advance(current, StopRequested(), now, RULES)
    running = hook or running
    for _ in range(3):
        if running is not None:
            current, running = advance(current, HookEnded(running, ok=True), now, RULES)
    assert (current.state, current.ours, running) == (HelpState.OFF, False, None)
