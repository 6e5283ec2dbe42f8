"""Looks at the running stack, again and again, until a rehearsal is over."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from dreamseed_cli.chaos.story import ENDED, SUPERVISOR, Observation, Seen
from dreamseed_cli.core.errors import FailedError
from dreamseed_cli.core.paths import StateDir
from dreamseed_cli.supervisor.control import fetch_snapshot
from dreamseed_cli.supervisor.snapshot import StackSnapshot
from dreamseed_cli.supervisor.state import SupervisorRecord

_POLL_S = 0.1
_SETTLE_S = 1.5
"""How long to look on after the recovery: counts of calls and the incident's end come a second later."""


@dataclass(slots=True)
class Watch:
    """Observations of one stack. fault_at: the fault's moment, in seconds since the epoch."""

    state: StateDir
    supervisor: SupervisorRecord
    latest: StackSnapshot
    fault_at: float
    observations: list[Observation] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.observations.append(observed(self.latest, self.fault_at, at_s=0.0))

    def until(self, over: Callable[[], bool], *, wait_s: float) -> Iterator[Observation]:
        """Observe until it is over and a little longer, or for `wait_s`; every observation as it comes."""
        end = time.monotonic() + wait_s
        settled = False
        while time.monotonic() < end:
            yield self._look()
            if not settled and over():
                settled, end = True, time.monotonic() + _SETTLE_S
            if self.observations[-1].of(SUPERVISOR) == Seen(SUPERVISOR, ENDED):
                return
            time.sleep(_POLL_S)

    def _look(self) -> Observation:
        try:
            self.latest = fetch_snapshot(self.state)
        except FailedError as error:
            at_s = time.time() - self.fault_at
            silent = Seen(SUPERVISOR, "silent", detail=error.cause)
            seen = silent if self.supervisor.alive() else Seen(SUPERVISOR, ENDED)
            self.observations.append(Observation(at_s, (seen,)))
        else:
            at_s = time.time() - self.fault_at
            self.observations.append(observed(self.latest, self.fault_at, at_s=at_s))
        return self.observations[-1]


def observed(snapshot: StackSnapshot, fault_at: float, *, at_s: float) -> Observation:
    """A snapshot as an observation."""
    gateway = snapshot.gateway
    replicas = (
        Seen(known.name, known.state, known.reason, known.detail, known.since - fault_at, known.pid)
        for known in snapshot.replicas
    )
    parts = (*replicas, Seen("gateway", gateway.state, pid=gateway.pid), Seen(SUPERVISOR, "running"))
    return Observation(at_s, parts)
