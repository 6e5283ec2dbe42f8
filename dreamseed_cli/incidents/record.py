"""One incident as plain data: what broke, why, what was done about it, whom it hurt and how it ended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

from dreamseed_cli.core.paths import StateDir
from dreamseed_cli.core.result import Provenance

Kind = Literal["ejection", "restart", "crash_loop", "gpu", "failover", "gateway", "supervisor", "service"]
Outcome = Literal["open", "recovered", "failed", "abandoned"]
KINDS: tuple[str, ...] = get_args(Kind)

LONGEST_DETAIL = 4000
"""Characters of an incident's detail that are kept."""
LONGEST_WORDS = 300
"""Characters that are kept of everything else that is text."""


class Action(NamedTuple):
    """Something that was done about an incident."""

    at: float
    """Seconds since the epoch."""
    text: str


@dataclass(frozen=True, slots=True)
class Incident:
    """One incident. Times are seconds since the epoch, None stands for what is not known (yet)."""

    id: str
    kind: str
    """One of `KINDS`."""
    subject: str
    """What it happened to: `r0`, `gateway`, `card 1`."""
    began_at: float
    """When it was noticed."""
    cause: str
    """A reason code, such as `killed`, `hung` or `out_of_gpu_memory`."""
    ended_at: float | None = None
    detail: str = ""
    actions: tuple[Action, ...] = ()
    """What was done, oldest first."""
    outcome: str = "open"
    """`open`, `recovered`, `failed`, or `abandoned` by a supervisor that ended before it did."""
    detect_s: float | None = None
    """Seconds from the fault until it was noticed."""
    requests: Mapping[str, int] = field(default_factory=dict)
    """Requests it touched: `moved` to another replica, `continued` there, `cut`, `refused`."""
    simulated: bool = False
    """Whether the engines were emulated: no time in it was measured on a card."""

    @property
    def recover_s(self) -> float | None:
        """Seconds from the fault to the recovery; from its detection if the fault's moment is unknown."""
        if self.ended_at is None or self.outcome != "recovered":
            return None
        return max(0.0, self.ended_at - self.began_at + (self.detect_s or 0.0))

    @property
    def provenance(self) -> Provenance:
        """How its times came about."""
        return Provenance.SIMULATED if self.simulated else Provenance.MEASURED

    def to_data(self) -> dict[str, Any]:
        """The incident as it stands in a JSON envelope."""
        recover_s = self.recover_s
        return {
            "id": self.id,
            "kind": self.kind,
            "subject": self.subject,
            "began_at": self.began_at,
            "ended_at": self.ended_at,
            "cause": self.cause,
            "detail": self.detail,
            "actions": [action._asdict() for action in self.actions],
            "outcome": self.outcome,
            "detect_s": self.detect_s,
            "recover_s": None if recover_s is None else round(recover_s, 3),
            "requests": dict(self.requests),
            "provenance": self.provenance.value,
        }


def incidents_file(state: StateDir) -> Path:
    """Where the incidents of a state folder are kept."""
    return state.root / "incidents.sqlite"


def bounded(text: str, longest: int = LONGEST_WORDS) -> str:
    """Text as it is kept: no control characters (an engine's last words may hold any), and not too long."""
    clean = "".join(
        character if character.isprintable() or character == "\n" else " " if character == "\t" else "�"
        for character in text[: longest + 1]
    )
    return clean if len(clean) <= longest else clean[: longest - 1] + "…"
