"""What was seen, made into a timeline and a verdict. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

_GIVEN_UP = {"failed", "quarantined"}
SUPERVISOR = "supervisor"
ENDED = "ended"


@dataclass(frozen=True, slots=True)
class Seen:
    """One part of the stack at one moment: a replica, the gateway, the supervisor."""

    name: str
    state: str
    reason: str = ""
    detail: str = ""
    since_s: float | None = None
    """When it came into this state, in seconds since the fault (negative: before); None if untold."""
    pid: int | None = None

    def is_still(self, before: Seen) -> bool:
        """Whether nothing happened to it in between; it may have gone and come back unseen."""
        replaced = None not in {self.pid, before.pid} and self.pid != before.pid
        told = (self.state, self.reason, self.since_s)
        return told == (before.state, before.reason, before.since_s) and not replaced


@dataclass(frozen=True, slots=True)
class Observation:
    """The stack at one moment. Parts that could not be seen are left out."""

    at_s: float
    """Seconds since the fault; the first observation is from before it."""
    parts: tuple[Seen, ...]

    def of(self, name: str) -> Seen | None:
        """One part of it."""
        return next((part for part in self.parts if part.name == name), None)


@dataclass(frozen=True, slots=True)
class Step:
    """A part of the stack came into a state, so many seconds after the fault."""

    at_s: float
    subject: str
    state: str
    reason: str = ""
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Seconds from the fault until it was noticed and until all was well again; None if neither was seen.

    given_up: it will not be well again by itself.
    """

    detect_s: float | None = None
    recover_s: float | None = None
    given_up: bool = False


def story(observations: Sequence[Observation]) -> list[Step]:
    """Every change since the first observation, in the order of time."""
    last = {part.name: part for part in observations[0].parts} if observations else {}
    steps = []
    for observation in observations[1:]:
        for part in observation.parts:
            before = last.get(part.name)
            if before is None or not part.is_still(before):
                at_s = _entered_at(part, observation)
                steps.append(Step(at_s, part.name, part.state, part.reason, part.detail))
            last[part.name] = part
    return sorted(steps, key=lambda step: step.at_s)


def judge(
    observations: Sequence[Observation], names: Sequence[str], healthy: str, *, must_leave: bool = True
) -> Verdict:
    """How it went with the named parts.

    must_leave: they were well before the fault, so that being well counts once they have not been.
    """
    first = {part.name: part for part in observations[0].parts} if observations else {}
    detect_s: float | None = None
    for observation, parts in _complete(observations[1:], names):
        hurt = [
            part for part in parts if part.state != healthy or not part.is_still(first.get(part.name, part))
        ]
        if hurt and detect_s is None:
            detect_s = min(_entered_at(part, observation) for part in hurt)
        well = all(part.state == healthy for part in parts)
        if well and (detect_s is not None or not must_leave):
            recover_s = max(_entered_at(part, observation) for part in parts)
            return Verdict(detect_s if must_leave else None, recover_s)
        if any(part.state in _GIVEN_UP for part in parts):
            return Verdict(detect_s, None, given_up=True)
    ended = bool(observations) and observations[-1].of(SUPERVISOR) == Seen(SUPERVISOR, ENDED)
    return Verdict(detect_s if must_leave else None, None, given_up=ended)


def _complete(
    observations: Sequence[Observation], names: Sequence[str]
) -> Iterator[tuple[Observation, list[Seen]]]:
    """The observations in which all the named parts could be seen."""
    for observation in observations:
        parts = [part for part in observation.parts if part.name in names]
        if len(parts) == len(names):
            yield observation, parts


def _entered_at(part: Seen, observation: Observation) -> float:
    """The part's own word, if it is about something since the fault; else when it was seen."""
    own = part.since_s
    return own if own is not None and 0.0 <= own <= observation.at_s else observation.at_s
