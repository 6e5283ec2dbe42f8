"""Whether somebody else tells of a request: it must become one event, whoever saw its end."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import grpc

from dreamseed_cli.gateway.events.ids import EventIds
from dreamseed_cli.gateway.proto import EVENT_ID_KEY, REASON_KEY


class Trail:
    """Filled in as one request proceeds. told: the gateway has made its event, or the fallback's account
    will.

    A gateway that was asked and gave no word may never have heard of the request, or may make its event yet.
    So it is asked with an id for that, and if the front tells of the request, too, then under the same id.
    """

    __slots__ = ("_asked_as", "_ids", "told")

    def __init__(self, ids: EventIds) -> None:
        self._ids = ids
        self._asked_as = ""
        self.told = False

    @property
    def doubtful(self) -> bool:
        """Whether the gateway may know of the request without having said so."""
        return bool(self._asked_as) and not self.told

    def event_id(self) -> str:
        """The id that the front tells of the request under."""
        return self._asked_as or self._ids.next()

    @contextmanager
    def attempt(self) -> Iterator[tuple[str, str]]:
        """The gateway is asked within the block, with this metadata beside the others."""
        event_id = self._ids.next()
        # The first of several: it is the likeliest to have been under way when the gateway died.
        self._asked_as = self._asked_as or event_id
        try:
            yield EVENT_ID_KEY, event_id
        except grpc.aio.AioRpcError as error:
            # The gateway gives a reason for all that it refused or failed at; gRPC gives none.
            self.told |= any(key == REASON_KEY for key, _ in error.trailing_metadata() or ())
            raise
        self.told = True
