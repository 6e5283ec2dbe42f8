"""Ending a stack from outside its supervisor."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass

from dreamseed_cli.core.errors import DreamseedError, FailedError
from dreamseed_cli.core.paths import StateDir
from dreamseed_cli.core.processes import end_all
from dreamseed_cli.supervisor.control import fetch_snapshot
from dreamseed_cli.supervisor.orphans import end_orphans, find_orphans, remove_stale_sockets
from dreamseed_cli.supervisor.service_plan import POSTGRES, RELAY
from dreamseed_cli.supervisor.state import (
    ChildRecord,
    SupervisorRecord,
    forget,
    only_supervisor,
    read_supervisor,
)
from dreamseed_cli.supervisor.winding import PartEnded, StackPart

_POLL_S = 0.1
_KILL_WAIT_S = 5.0
_ASK_EVERY_S = 1.0


@dataclass(frozen=True, slots=True)
class Ended:
    """What was there to end, and a sentence about it."""

    was_running: bool
    what: tuple[str, ...]
    sentence: str


def end_stack(state: StateDir, *, progress: Callable[[str], None]) -> Ended:
    """End the supervisor and with it the stack, or the orphans of a dead one; waits, within bounds.

    progress: told every second what is waited for. FailedError if it does not end in time.
    """
    record = read_supervisor(state)
    if record is not None and record.alive():
        seconds = _end_supervisor(state, record, progress)
        return Ended(
            was_running=True,
            what=("supervisor",),
            sentence=f"Stopped profile '{record.profile}' (pid {record.identity.pid}) in {seconds:.1f} s.",
        )
    if not find_orphans(state):
        return Ended(was_running=False, what=(), sentence=f"Nothing was running in {state.root}.")
    with only_supervisor(state):
        orphans = find_orphans(state)
        progress("ending what a killed run left")
        end_orphans(orphans)
        remove_stale_sockets(state)
        forget(state)
    what = tuple(str(orphan) for orphan in orphans)
    return Ended(
        was_running=True, what=what, sentence=f"Ended what a killed run had left: {', '.join(what)}."
    )


def kill_supervisor(state: StateDir) -> None:
    """At once, one that does not answer: what it watched lives on. Blocks until it is gone, within bounds."""
    record = read_supervisor(state)
    if record is not None and record.alive():
        end_all([record.identity], grace_s=_KILL_WAIT_S, ask=signal.SIGKILL)


def end_left(state: StateDir, part: StackPart, within_s: float) -> PartEnded | None:
    """End what a dead supervisor left of a part, in order for so long, then at once; None if it left none.

    FailedError if processes outlive even SIGKILL, UsageError if a supervisor runs here. Blocks.
    """
    began = time.monotonic()
    with only_supervisor(state):
        left = [orphan for orphan in find_orphans(state) if _part(orphan.record) is part]
        if not left:
            return None
        end_orphans(left, grace_s=within_s)
    took_s = time.monotonic() - began
    return PartEnded(part.value, round(took_s, 3), forced=took_s >= within_s)


def _part(record: ChildRecord) -> StackPart:
    if record.role != "service":
        return StackPart.ENGINES if record.role == "engine" else StackPart.GATEWAY
    return {RELAY: StackPart.RELAY, POSTGRES: StackPart.POSTGRES}.get(record.name, StackPart.REDIS)


def _end_supervisor(state: StateDir, record: SupervisorRecord, progress: Callable[[str], None]) -> float:
    start = time.monotonic()
    os.kill(record.identity.pid, signal.SIGTERM)
    asked = start
    while record.identity.alive():
        now = time.monotonic()
        if now - start > record.stop_bound_s:
            raise FailedError(
                f"the supervisor (pid {record.identity.pid}) has not ended after {record.stop_bound_s:.0f} s",
                place=str(state.root),
                remedy=f"End it with: kill -9 {record.identity.pid}; then run `dreamseed stop` again.",
            )
        if now - asked >= _ASK_EVERY_S:
            asked = now
            progress(f"{_activity(state)} ({now - start:.0f} s)")
        time.sleep(_POLL_S)
    return time.monotonic() - start


def _activity(state: StateDir) -> str:
    try:
        return fetch_snapshot(state).activity
    except DreamseedError:
        return "stopping"
