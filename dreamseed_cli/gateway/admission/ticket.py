"""One request on its way to an engine, as the scheduler sees it: lengths and rights, never its text."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from dreamseed_cli.gateway.call import PriorityClass

if TYPE_CHECKING:
    from dreamseed_cli.gateway.slot import Slot, Weights


class TicketState(Enum):
    """Where a ticket is. It is nobody's (OUT) before its first wait, between two, and after its end."""

    OUT = "out"
    WAITING = "waiting"
    SEATED = "seated"


@dataclass(slots=True, eq=False)
class Ticket:
    """A request's claim to a place. Lengths are estimates in tokens, times are monotonic seconds.

    deadline: when it leaves the queue unserved.
    whole: a cut answer to it begins anew. prefixes: keys of its beginnings, the longest first.
    excluded: names of replicas that failed it. weights: those that may go on with its answer; None: any.
    """

    priority: PriorityClass
    prompt_tokens: int
    answer_tokens: int
    deadline: float
    user_id: str = ""
    whole: bool = False
    prefixes: tuple[int, ...] = ()
    excluded: frozenset[str] = frozenset()
    weights: Weights | None = None
    state: TicketState = TicketState.OUT
    slot: Slot | None = None
    """Its replica, from the grant on."""
    queued_at: float = 0.0
    seated_at: float = 0.0
    waited_s: float = 0.0
    """All its time in the queue, until it was last granted a place."""
    remaining: int = 0
    """What its replica still has to do for it."""
    prefilling: bool = False
    """Whether it has a replica and no token from it yet."""
    holds_place: bool = False
    aged: bool = False
    """Whether it got its place by its class's share, past a higher class."""

    @property
    def cost(self) -> int:
        """Its work: prompt and longest answer."""
        return self.prompt_tokens + self.answer_tokens

    @property
    def premium(self) -> bool:
        return self.priority is PriorityClass.PREMIUM

    @property
    def engine_priority(self) -> int:
        """vLLM's number for it. The engine knows no aging: one that got its place by its class's share would
        wait behind PREMIUM there for ever.
        """
        return (PriorityClass.PREMIUM if self.aged else self.priority).engine_priority

    def accepts(self, slot: Slot) -> bool:
        """Whether this replica may answer it."""
        return slot.name not in self.excluded and self.weights in (None, slot.weights)
