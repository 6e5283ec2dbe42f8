"""Who tells of a request: the gateway, the front, or the one of them that comes first."""

from __future__ import annotations

import uuid
from contextlib import suppress

import grpc

from dreamseed_cli.api.trail import Trail
from dreamseed_cli.gateway.events.ids import EventIds
from dreamseed_cli.gateway.proto import EVENT_ID_KEY, REASON_KEY


def _fail(trail: Trail, *trailer: tuple[str, str]) -> str:
    """A call that fails with this trailer; the id it was made under."""
    code, empty = grpc.StatusCode.UNAVAILABLE, grpc.aio.Metadata()
    with suppress(grpc.aio.AioRpcError), trail.attempt() as (key, event_id):
        assert key == EVENT_ID_KEY
        raise grpc.aio.AioRpcError(code, empty, grpc.aio.Metadata(*trailer))
    return event_id


def test_a_request_that_the_gateway_was_not_asked_is_the_fronts() -> None:
    """Under an id of the front's, which nobody else uses."""
    trail = Trail(EventIds())
    assert (trail.told, trail.doubtful) == (False, False)
    assert uuid.UUID(trail.event_id()).version == 7


def test_a_gateway_that_gave_no_word_may_tell_of_it_under_the_same_id() -> None:
    """That of the first call: each has its own, since the gateway makes an event of each."""
    trail = Trail(EventIds())
    first, second = _fail(trail), _fail(trail)
    assert first != second
    assert (trail.told, trail.doubtful, trail.event_id()) == (False, True, first)


def test_a_gateway_that_gave_a_reason_or_an_answer_has_told() -> None:
    """Whatever becomes of further calls."""
    refused, answered = Trail(EventIds()), Trail(EventIds())
    _fail(refused, (REASON_KEY, "queue_full"))
    _fail(refused)
    with answered.attempt():
        pass
    for trail in (refused, answered):
        assert (trail.told, trail.doubtful) == (True, False)
