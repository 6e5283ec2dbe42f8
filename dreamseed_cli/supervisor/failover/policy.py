"""When help is called and when it is sent home: a state machine over plain data with time passed in.

Hooks (the start and the stop command) run elsewhere; here stands which one is to run. Between two starts
there is always a stop: a start that failed may have started something that costs money.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from dreamseed_cli.profile.resilience import Failover

FIRST_PAUSE_S, LONGEST_PAUSE_S = 60.0, 3600.0
"""How long a call that failed, or a stop hook that did, is left alone: doubled with each failure in a row."""
STABLE_S = 300.0
"""Help that served for so long has not failed to start: its failure is a first one again."""
STOPS_AT_END = 2
"""How often the stop hook is tried when the stack goes down; after that an operator is told."""


class HelpState(StrEnum):
    """Where the help stands."""

    OFF = "off"
    """None is configured, or the stack goes down."""
    STANDBY = "standby"
    WAITING = "waiting"
    """Too few replicas are ready; help is called if that lasts."""
    STARTING = "starting"
    """The start hook runs, or no engine there has generated a token yet."""
    SERVING = "serving"
    RETURNING = "returning"
    """It serves, and enough replicas are ready again; it is sent home if that lasts."""
    STOPPING = "stopping"
    """It gets no new requests; the stop hook runs, or is tried again."""
    SPENT = "spent"
    """This month's cap is reached, or what this month cost is not known."""
    FAILED = "failed"
    """It could not be started; tried again at `retry_at`."""


class Hook(StrEnum):
    """The two commands of the profile."""

    START = "start"
    STOP = "stop"


@dataclass(frozen=True, slots=True)
class Observed:
    """How things stand now.

    ready, total: local replicas; a total of 0 says nothing. spent: why no more money may be spent this month
    (empty: it may). answering: engines of the help that generate tokens.
    """

    ready: int
    total: int
    spent: str = ""
    answering: int = 0


@dataclass(frozen=True, slots=True)
class HookEnded:
    """The hook that ran has ended. detail: what to tell people if it failed."""

    hook: Hook
    ok: bool
    detail: str = ""


@dataclass(frozen=True, slots=True)
class StopRequested:
    """The stack is going down."""


Event = Observed | HookEnded | StopRequested


@dataclass(frozen=True, slots=True)
class Help:
    """The help's state and since when. Times are monotonic seconds."""

    state: HelpState
    since: float
    detail: str = ""
    patient_until: float = 0.0
    """Until then replicas that were never enough are loading their model, and no reason to call help."""
    loading: bool = True
    low_since: float | None = None
    """Since when too few replicas are ready without interruption; None: they are not too few."""
    back_since: float | None = None
    """Since when enough of them are."""
    ours: bool = False
    """Whether the help may be running because it was called: it costs, and is to be stopped."""
    hook: Hook | None = None
    """The one that runs now."""
    then: HelpState = HelpState.STANDBY
    """Where `stopping` leads."""
    served_since: float | None = None
    silent_since: float | None = None
    """Since when no engine of a help that served answers."""
    failures: int = 0
    """Calls in a row that failed."""
    retry_at: float = 0.0
    stops_failed: int = 0
    """Stop hooks in a row that failed (once the stack goes down: since then)."""
    stop_again_at: float = 0.0
    ended: bool = False
    """Whether the stack is going down."""

    @property
    def called(self) -> bool:
        """Whether its engines are to be asked for tokens."""
        return self.state in {HelpState.STARTING, HelpState.SERVING, HelpState.RETURNING}


Step = tuple[Help, Hook | None]
"""The help after an event, and the hook that is to be run now."""


def begin(now: float, *, configured: bool, may_run: str = "", patient_until: float = 0.0) -> Step:
    """The help at the start of the stack.

    may_run: why it may be running already, such as that an earlier run was killed; it is used again, or
    stopped where none is configured any more.
    """
    if not may_run:
        return Help(
            HelpState.STANDBY if configured else HelpState.OFF, now, patient_until=patient_until
        ), None
    found = Help(HelpState.STARTING, now, may_run, patient_until=patient_until, ours=True)
    return (found, None) if configured else _leave(found, HelpState.OFF, may_run, now)


def advance(current: Help, event: Event, now: float, rules: Failover) -> Step:
    """The help after an event."""
    if isinstance(event, Observed):
        seen = _with_clocks(current, event, now, rules)
        return _WHEN_OBSERVED[seen.state](seen, event, now, rules)
    if isinstance(event, HookEnded):
        return _hook_ended(current, event, now)
    return _stop_requested(current, now)


def pause_s(failures: int) -> float:
    """How long to wait after that many failures in a row: a minute, doubled, up to an hour."""
    return min(FIRST_PAUSE_S * 2.0 ** min(max(failures, 1) - 1, 20), LONGEST_PAUSE_S)


def _with_clocks(current: Help, seen: Observed, now: float, rules: Failover) -> Help:
    known = seen.total > 0
    enough = known and seen.ready / seen.total >= rules.below
    loading = current.loading and not enough and now < current.patient_until
    return replace(
        current,
        loading=loading,
        low_since=_clock(current.low_since, now, runs=known and not enough and not loading),
        back_since=_clock(current.back_since, now, runs=enough),
    )


def _clock(since: float | None, now: float, *, runs: bool) -> float | None:
    if not runs:
        return None
    return now if since is None else since


def _idle(current: Help, seen: Observed, now: float, rules: Failover) -> Step:
    if seen.spent:
        return _enter(current, HelpState.SPENT, seen.spent, now)
    if current.state is HelpState.FAILED and now < current.retry_at:
        return current, None
    if current.low_since is None:
        return _enter(current, HelpState.STANDBY, "", now)
    if now - current.low_since < rules.after_s or now < current.retry_at:
        few = f"{seen.ready} of {seen.total} replicas are ready, fewer than {rules.below:.0%}"
        return _enter(current, HelpState.WAITING, few, now)
    called, _ = _enter(current, HelpState.STARTING, "", now)
    return replace(called, ours=True, hook=Hook.START, served_since=None, silent_since=None), Hook.START


def _starting(current: Help, seen: Observed, now: float, rules: Failover) -> Step:
    if current.hook is not None:
        return current, None
    if (left := _leave_by_plan(current, seen, now, rules)) is not None:
        return left
    if seen.answering:
        return _serving(replace(current, served_since=now), seen, now, rules)
    if now - current.since < rules.ready_within_s:
        return current, None
    return _fail(current, f"no token within {rules.ready_within_s:.0f} s (failover.ready_within_s)", now)


def _serving(current: Help, seen: Observed, now: float, rules: Failover) -> Step:
    if (left := _leave_by_plan(current, seen, now, rules)) is not None:
        return left
    silent = _clock(current.silent_since, now, runs=not seen.answering)
    current = replace(current, silent_since=silent)
    if silent is not None and now - silent >= rules.ready_within_s:
        return _fail(current, f"no engine of it answered for {rules.ready_within_s:.0f} s", now)
    state = HelpState.SERVING if current.back_since is None else HelpState.RETURNING
    return _enter(current, state, "no engine of it answers" if silent is not None else "", now)


def _leave_by_plan(current: Help, seen: Observed, now: float, rules: Failover) -> Step | None:
    if seen.spent:
        return _leave(current, HelpState.SPENT, seen.spent, now)
    if current.back_since is not None and now - current.back_since >= rules.back_after_s:
        return _leave(current, HelpState.STANDBY, "enough replicas are ready again", now)
    return None


def _stopping(current: Help, _: Observed, now: float, __: Failover) -> Step:
    if current.hook is not None or now < current.stop_again_at:
        return current, None
    return replace(current, hook=Hook.STOP), Hook.STOP


def _off(current: Help, _: Observed, __: float, ___: Failover) -> Step:
    return current, None


def _hook_ended(current: Help, event: HookEnded, now: float) -> Step:
    if current.hook is not event.hook:
        return current, None
    current = replace(current, hook=None)
    if event.hook is Hook.STOP:
        return _stopped(current, now) if event.ok else _not_stopped(current, event.detail, now)
    if current.ended:
        return _leave(current, HelpState.OFF, "the stack goes down", now)
    return (current, None) if event.ok else _fail(current, event.detail, now)


def _stopped(current: Help, now: float) -> Step:
    gone = replace(current, ours=False, stops_failed=0, served_since=None, silent_since=None)
    if gone.then is HelpState.FAILED:
        gone = replace(gone, retry_at=now + pause_s(gone.failures))
    elif gone.then is HelpState.STANDBY:
        gone = replace(gone, failures=0, retry_at=0.0)
    detail = gone.detail if gone.then in {HelpState.FAILED, HelpState.SPENT} else ""
    return _enter(gone, gone.then, detail, now)


def _not_stopped(current: Help, detail: str, now: float) -> Step:
    """It may still run: tried again, for as long as the stack runs."""
    failed = replace(current, stops_failed=current.stops_failed + 1)
    if not failed.ended:
        again = replace(failed, stop_again_at=now + pause_s(failed.stops_failed))
        return replace(again, detail=f"it may still run and cost: {detail}"), None
    if failed.stops_failed < STOPS_AT_END:
        return replace(failed, hook=Hook.STOP), Hook.STOP
    return _enter(failed, HelpState.OFF, f"it may still run and cost: {detail}", now)


def _stop_requested(current: Help, now: float) -> Step:
    ending = replace(current, ended=True, stops_failed=0)
    if not ending.ours:
        return _enter(ending, HelpState.OFF, "", now)
    if ending.hook is None:
        return _leave(ending, HelpState.OFF, "the stack goes down", now)
    # The hook that runs is ended, or awaited, by whoever runs it.
    waiting, _ = _enter(ending, HelpState.STOPPING, "the stack goes down", now)
    return replace(waiting, then=HelpState.OFF), None


def _fail(current: Help, detail: str, now: float) -> Step:
    stable = current.served_since is not None and now - current.served_since >= STABLE_S
    failed = replace(current, failures=1 if stable else current.failures + 1)
    return _leave(failed, HelpState.FAILED, detail, now)


def _leave(current: Help, then: HelpState, detail: str, now: float) -> Step:
    left, _ = _enter(current, HelpState.STOPPING, detail, now)
    return replace(left, then=then, hook=Hook.STOP, stop_again_at=now), Hook.STOP


def _enter(current: Help, state: HelpState, detail: str, now: float) -> Step:
    since = current.since if current.state is state else now
    return replace(current, state=state, detail=detail, since=since), None


_WHEN_OBSERVED: Mapping[HelpState, Callable[[Help, Observed, float, Failover], Step]] = {
    HelpState.OFF: _off,
    HelpState.STANDBY: _idle,
    HelpState.WAITING: _idle,
    HelpState.FAILED: _idle,
    HelpState.SPENT: _idle,
    HelpState.STARTING: _starting,
    HelpState.SERVING: _serving,
    HelpState.RETURNING: _serving,
    HelpState.STOPPING: _stopping,
}
