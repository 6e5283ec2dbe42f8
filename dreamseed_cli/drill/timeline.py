"""What happened when in a drill, and what that says about RPO and RTO. Pure: callers bring the time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final


class Step(StrEnum):
    """What a drill passes through; a scenario leaves out what it does not have."""

    BEGUN = "begun"
    PREPARED = "prepared"
    """A copy to lose is there, or the content to compare with is noted."""
    HEARTBEAT = "heartbeat"
    LOSS = "loss"
    """From here on RTO counts."""
    DETECTED = "detected"
    READ_ONLY = "read-only"
    """Reads are answered again, by a standby."""
    CHOSEN = "backup chosen"
    REFUSED = "backup refused"
    RESTORED = "restored"
    PROMOTED = "promoted"
    ANSWERED = "first verified answer"
    """Until here RTO counts."""
    COMPARED = "compared"
    RETURNED = "returned"
    """The work is back where it was before the disaster."""
    CLEANED = "cleaned up"


class Outcome(StrEnum):
    """How a drill ended."""

    PASSED = "passed"
    MISSED = "missed"
    """Everything came back, later or less of it than the targets allow."""
    FAILED = "failed"
    """It did not come back, not as it was, or nothing that was compared shows that it did."""


RPO_NEEDS_A_HEARTBEAT: Final = "nothing that was recovered has a moment, so that all may be lost"


@dataclass(frozen=True, slots=True)
class Event:
    """at_s: seconds since the drill began, of a clock that nobody sets. at: the same moment in UTC."""

    at_s: float
    at: datetime
    step: Step
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Targets:
    """Seconds. §E3: 900 and 3600."""

    rpo_s: float
    rto_s: float


BACKUP_BEGAN = "the moment at which the backup began"
"""Proof of a heartbeat where no WAL was archived after it."""


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """The newest moment that was recovered for sure, and what proves it."""

    at: datetime
    proof: str

    @property
    def by_chance(self) -> bool:
        """Only the backup itself came back: how old it was at the loss says nothing of the next loss."""
        return self.proof == BACKUP_BEGAN


@dataclass(frozen=True, slots=True)
class Check:
    """Something that was compared. passed None: it could not be done, and the detail says why."""

    name: str
    passed: bool | None
    detail: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """Seconds, measured; None: never reached. misses: every reason not to be content, for people."""

    outcome: Outcome
    rpo_s: float | None
    rto_s: float | None
    misses: tuple[str, ...] = ()


def judge(
    events: Iterable[Event],
    recovered: Heartbeat | None,
    checks: Sequence[Check],
    targets: Targets,
    failure: str | None = None,
) -> Verdict:
    """RPO: from the newest heartbeat recovered to the loss; RTO: from the loss to the first verified answer.

    failure: what ended the drill early. A target is met by a time equal to it.
    """
    first = _first_of_each(events)
    loss, answered = first.get(Step.LOSS), first.get(Step.ANSWERED)
    rto_s = answered.at_s - loss.at_s if loss and answered else None
    # A heartbeat of the very moment of the loss may carry a later time stamp than the declaration.
    rpo_s = max((loss.at - recovered.at).total_seconds(), 0.0) if loss and recovered else None
    broken = [] if failure is None else [failure]
    if failure is None and rto_s is None:
        broken.append("no answer was verified")
    broken += [f"{check.name}: {check.detail}" for check in checks if check.passed is False]
    if broken:
        return Verdict(Outcome.FAILED, rpo_s, rto_s, tuple(broken))
    missed = [*_over("RPO", rpo_s, targets.rpo_s), *_over("RTO", rto_s, targets.rto_s)]
    return Verdict(Outcome.MISSED if missed else Outcome.PASSED, rpo_s, rto_s, tuple(missed))


def _over(name: str, found_s: float | None, target_s: float) -> list[str]:
    if found_s is None:
        return [f"{name}: {RPO_NEEDS_A_HEARTBEAT}"]
    return [f"{name}: {found_s:.1f} s, the target is {target_s:g} s"] if found_s > target_s else []


def _first_of_each(events: Iterable[Event]) -> dict[Step, Event]:
    found: dict[Step, Event] = {}
    for event in events:
        found.setdefault(event.step, event)
    return found
