"""One rehearsal: find what to strike, strike it, watch, and say how it went."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from dreamseed_cli.chaos.faults import Fault
from dreamseed_cli.chaos.inject import heal, inject
from dreamseed_cli.chaos.story import Observation, Step, Verdict, judge, story
from dreamseed_cli.chaos.target import Target, find_target
from dreamseed_cli.chaos.watch import Watch
from dreamseed_cli.core.errors import DreamseedError
from dreamseed_cli.core.paths import StateDir
from dreamseed_cli.incidents.read import read_incidents
from dreamseed_cli.incidents.record import incidents_file
from dreamseed_cli.supervisor.control import fetch_snapshot
from dreamseed_cli.supervisor.running import nothing_runs
from dreamseed_cli.supervisor.snapshot import StackSnapshot
from dreamseed_cli.supervisor.state import read_supervisor

_INCIDENTS_LOOKED_AT = 100


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """What happened. Times in seconds since the fault; all of it is simulated."""

    fault: Fault
    subjects: tuple[str, ...]
    faulted_at: float
    """Seconds since the epoch."""
    watched_s: float
    steps: tuple[Step, ...]
    verdict: Verdict
    calls_failed: int | None
    """Calls that failed on a replica meanwhile; None if the gateway that counted them is gone."""
    incidents: tuple[str, ...]
    """The ids of what was recorded about it."""


def rehearse(
    state: StateDir,
    fault: Fault,
    replica: str | None,
    *,
    wait_s: float,
    tell: Callable[[Observation], None] = lambda _: None,
) -> Rehearsal:
    """Strike, and watch for at most `wait_s`; tell: given every observation as it comes.

    MissingError if nothing runs or what it is for does not; UsageError if it would not be harmless.
    Interrupted, it ends the fault.
    """
    supervisor = read_supervisor(state)
    if supervisor is None or not supervisor.alive():
        raise nothing_runs(state)
    before = fetch_snapshot(state)
    target = find_target(state, before, fault, replica)
    watch = Watch(state, supervisor, before, fault_at=time.time())
    try:
        inject(fault, target.children)
        for observation in watch.until(lambda: _over(watch, target, fault), wait_s=wait_s):
            tell(observation)
    except KeyboardInterrupt:
        _undo(fault, target)
        raise
    return Rehearsal(
        fault=fault,
        subjects=target.names,
        faulted_at=watch.fault_at,
        watched_s=time.time() - watch.fault_at,
        steps=tuple(story(watch.observations)),
        verdict=_verdict(watch, target, fault),
        calls_failed=_calls_failed(before, watch.latest),
        incidents=_incidents(state, target.names, watch.fault_at),
    )


def _verdict(watch: Watch, target: Target, fault: Fault) -> Verdict:
    return judge(watch.observations, target.names, target.healthy, must_leave=not fault.heals)


def _over(watch: Watch, target: Target, fault: Fault) -> bool:
    verdict = _verdict(watch, target, fault)
    return verdict.given_up or verdict.recover_s is not None


def _undo(fault: Fault, target: Target) -> None:
    if fault.where == "engine":
        for child in target.children:
            with suppress(DreamseedError):  # one that was killed needs no healing
                heal(child)


def _calls_failed(before: StackSnapshot, after: StackSnapshot) -> int | None:
    if before.gateway.pid != after.gateway.pid:
        return None
    failed = [sum(replica.failed for replica in stack.replicas) for stack in (before, after)]
    return max(0, failed[1] - failed[0])


def _incidents(state: StateDir, names: tuple[str, ...], since: float) -> tuple[str, ...]:
    """Those of the named parts since the fault; none where none can be read."""
    try:
        found = read_incidents(incidents_file(state), _INCIDENTS_LOOKED_AT)
    except DreamseedError:
        return ()
    return tuple(one.id for one in found if one.subject in names and one.began_at >= since)
