"""Turns changes of state into incidents: opened when something breaks, closed when it serves again or not."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import psutil

from dreamseed_cli.incidents.book import IncidentBook
from dreamseed_cli.incidents.record import Kind, Outcome
from dreamseed_cli.supervisor.gateway_admin import ReplicaCounts
from dreamseed_cli.supervisor.replica import Reason, Replica, ReplicaState

_BROKEN: Mapping[ReplicaState, Kind] = {
    ReplicaState.DEGRADED: "ejection",
    ReplicaState.HUNG: "ejection",
    ReplicaState.RESTARTING: "restart",
    ReplicaState.FAILED: "crash_loop",
    ReplicaState.QUARANTINED: "gpu",
}
_GIVEN_UP = {ReplicaState.FAILED, ReplicaState.QUARANTINED}

Counts = Callable[[str], ReplicaCounts | None]


class Chronicle:
    """Keeps at most one open incident for each subject. counts: the gateway's newest counts of a replica."""

    def __init__(self, book: IncidentBook, counts: Counts) -> None:
        self._book = book
        self._counts = counts
        self._open: dict[str, str] = {}
        self._before: dict[str, dict[str, int]] = {}

    def replica(self, before: Replica, after: Replica) -> None:
        """A replica changed its state."""
        name = after.name
        if after.state is ReplicaState.READY:
            self._end(name, "recovered", _lost(self._before.pop(name, {}), self._affected(name)))
            return
        if after.reason in {Reason.STOP_REQUESTED, Reason.ENDED}:
            self._end(name, "abandoned", {})
            return
        kind = _BROKEN.get(after.state)
        if name in self._open:
            # Why it starts again was told when it ended.
            detail = "" if after.state is ReplicaState.STARTING else after.detail
            self._act(name, _words(after.state.value, after.reason.value, detail))
        elif kind is not None and after.reason is not Reason.RESTART_REQUESTED:
            self._before[name] = self._affected(name)
            self._begin(kind, name, after.reason.value, after.detail, after.detect_s)
        if after.state in _GIVEN_UP:
            self._end(name, "failed", _lost(self._before.pop(name, {}), self._affected(name)))

    def process(self, kind: Kind, subject: str, state: str, reason: str, detail: str) -> None:
        """The gateway, a service, a card or the help from elsewhere changed its state.

        Opened by `restarting`, `hung`, `suspect` and the like, closed by a state in which it is of use.
        """
        if state in _OF_USE:
            self._end(subject, "recovered", {})
        elif state in _OVER:
            self._end(subject, "abandoned", {})
        elif subject in self._open:
            self._act(subject, _words(state, reason, detail))
        elif state not in _HARMLESS:
            self._begin(kind, subject, reason, detail)
        if state in _LOST:
            self._end(subject, "failed", {})

    def failover(self, state: str, detail: str) -> None:
        """The help from elsewhere changed its state: called, it is an incident until it is home."""
        if state in {"starting", "serving", "returning", "stopping"} and "failover" not in self._open:
            self._begin("failover", "failover", "too_few_replicas", detail)
        elif "failover" in self._open:
            self._act("failover", _words(state, "failover", detail))
        if state == "standby":
            self._end("failover", "recovered", {})
        elif state in {"off", "spent", "failed"}:
            self._end("failover", "failed", {})

    def supervisor_lost(self, what: str) -> None:
        """The one before did not end in order; since when is unknown, so this one's start counts.

        what: what became of its children.
        """
        since = psutil.Process().create_time()
        self._open["supervisor"] = self._book.began(
            "supervisor", "supervisor", cause="killed", detail=what, at=since
        )

    def supervisor_serves(self) -> None:
        """The first replica answers."""
        self._end("supervisor", "recovered", {})

    def close(self) -> None:
        """Write what is left to be written."""
        self._book.close()

    def _begin(
        self, kind: Kind, subject: str, cause: str, detail: str, detect_s: float | None = None
    ) -> None:
        self._open[subject] = self._book.began(kind, subject, cause=cause, detail=detail, detect_s=detect_s)

    def _act(self, subject: str, text: str) -> None:
        self._book.acted(self._open[subject], text)

    def _end(self, subject: str, outcome: Outcome, requests: Mapping[str, int]) -> None:
        incident = self._open.pop(subject, None)
        if incident is not None:
            self._book.ended(incident, outcome, requests=requests)

    def _affected(self, name: str) -> dict[str, int]:
        counts = self._counts(name)
        if counts is None:
            return {}
        return {"moved": counts.moved, "continued": counts.continued, "cut": counts.cut}


_OF_USE = {"serving", "ready", "ok", "standby", "outbox"}
_OVER = {"stopped", "off"}
_HARMLESS = {"starting", "waiting", "draining", "stopping", "returning"}
_LOST = {"quarantined", "lost", "failed", "spent"}


def _words(state: str, reason: str, detail: str) -> str:
    first = detail.splitlines()[0] if detail else ""
    return f"{state} ({reason}){': ' + first if first else ''}"


def _lost(before: Mapping[str, int], now: Mapping[str, int]) -> dict[str, int]:
    """What was added; a gateway that was restarted meanwhile counts from zero again."""
    return {key: max(0, count - before.get(key, 0)) for key, count in now.items()}
