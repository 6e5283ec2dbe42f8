"""What became of the fallback's answers, until the gateway has it. In memory alone, and bounded. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import islice

from dreamseed_cli.gateway.proto.front_pb2 import EndedRequest

MOST = 10_000
"""Some 10 MiB, if every client makes its names as long as can be."""


class Unsent:
    """on_lost: told how many were dropped: the oldest, when there are more than `most`, or those refused."""

    def __init__(self, on_lost: Callable[[int], None], *, most: int = MOST) -> None:
        self._on_lost = on_lost
        self._most = most
        self._held: dict[str, tuple[str, EndedRequest]] = {}

    def __len__(self) -> int:
        return len(self._held)

    def add(self, lease_id: str, answer: EndedRequest) -> None:
        """An answer ended that money of this lease was set aside for."""
        self._held[answer.event_id] = (lease_id, answer)
        if len(self._held) > self._most:
            del self._held[next(iter(self._held))]
            self._on_lost(1)

    def of(self, lease_id: str, most: int) -> list[EndedRequest]:
        """The lease's oldest ones."""
        return list(islice((answer for of, answer in self._held.values() if of == lease_id), most))

    def sent(self, answers: Iterable[EndedRequest]) -> None:
        """The gateway has them."""
        self._pop(answers)

    def refused(self, answers: Iterable[EndedRequest]) -> None:
        """The gateway is there and will never take them."""
        self._on_lost(self._pop(answers))

    def _pop(self, answers: Iterable[EndedRequest]) -> int:
        """How many of them were still held."""
        return sum(self._held.pop(answer.event_id, None) is not None for answer in answers)
