"""Whether anybody is let in at all: a box that is about to stop refuses new work, and ends what it has."""

from __future__ import annotations

import time
from collections.abc import Callable
from enum import StrEnum

from dreamseed_cli.gateway.call import PriorityClass
from dreamseed_cli.gateway.refusals import Closing, Paused
from dreamseed_cli.profile.part import Part, Positive


class Letting(StrEnum):
    """Who is let in."""

    ALL = "all"
    NO_BATCH = "no_batch"
    NOBODY = "nobody"


class DoorOrder(Part):
    """What `PUT /doorway` takes. It must be renewed: when whoever gave it is gone, the door opens again."""

    letting: Letting
    retry_after_s: Positive = 60.0
    """What refused callers are told."""
    for_s: Positive = 30.0
    """How long it holds."""


class Doorway:
    """Counts those inside. clock: monotonic seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.calls = 0
        """Calls that were let in and have not ended."""
        self._clock = clock
        self._order = DoorOrder(letting=Letting.ALL)
        self._until = 0.0

    def take(self, order: DoorOrder) -> None:
        """Go by it until it ends or another one comes."""
        self._order = order
        self._until = self._clock() + order.for_s

    @property
    def letting(self) -> Letting:
        """Who is let in now."""
        return self._order.letting if self._clock() < self._until else Letting.ALL

    def refuse_all(self) -> None:
        """Raises Closing while nobody is let in."""
        if self.letting is Letting.NOBODY:
            raise Closing("this service is about to stop", retry_after_s=self._order.retry_after_s)

    def enter(self, priority: PriorityClass) -> None:
        """Let a call in; `leave` must follow. Raises Paused or Closing."""
        self.refuse_all()
        if priority is PriorityClass.BATCH and self.letting is Letting.NO_BATCH:
            raise Paused("background work rests for now", retry_after_s=self._order.retry_after_s)
        self.calls += 1

    def leave(self) -> None:
        """A call that was let in has ended."""
        self.calls -= 1
