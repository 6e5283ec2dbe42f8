"""When old rows go: a batch at a time, now and then, off every request's path."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence

from dreamseed_cli.gateway.events.retention import PRUNE_EVERY_S

_NEXT_BATCH_S = 1.0


class Pruning:
    """batches: each deletes some old rows and tells whether there may be more.

    One that has more to do goes on after a second, one that is done or failed after a minute: whoever else
    uses the database, and the journal that waits for the same connection, come in between.
    """

    def __init__(
        self,
        batches: Sequence[Callable[[], Awaitable[bool]]],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._due_at = dict.fromkeys(batches, clock())

    def wait_s(self) -> float:
        """Seconds until there is something to do."""
        return max(0.0, min(self._due_at.values(), default=float("inf")) - self._clock())

    async def run(self) -> None:
        """One batch of each that is due. Raises what they raise."""
        for batch, due_at in list(self._due_at.items()):
            if self._clock() >= due_at:
                self._due_at[batch] = self._clock() + PRUNE_EVERY_S
                if await batch():
                    self._due_at[batch] = self._clock() + _NEXT_BATCH_S
