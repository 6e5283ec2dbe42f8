"""What is known of a request on its way."""

from __future__ import annotations

from dreamseed_cli.gateway.accounts.types import Grant, Tier
from dreamseed_cli.gateway.call import Delta, PriorityClass
from dreamseed_cli.gateway.events.record import Outcome
from dreamseed_cli.gateway.journey import Journey


def test_an_answer_that_begins_anew_is_its_own() -> None:
    """One that came along with another call, which was cut, is no cache hit once it is generated itself."""
    journey = Journey()
    journey.add(Delta("a", "r0", None, None, 1, simulated=True, cache_hit=True))
    assert journey.whole("a").cache_hit
    journey.begin_anew()
    journey.add(Delta("b", "r1", "stop", 3, 1, simulated=True))
    assert not journey.whole("b").cache_hit


def test_a_refused_request_has_its_user_in_the_event() -> None:
    """If that was known: an event's key is its user."""
    journey = Journey()
    assert journey.record(Outcome.REJECTED, "invalid_argument", "m").user_id == ""
    journey.refused_user_id = "u1"
    assert journey.record(Outcome.REJECTED, "over_limit", "m").user_id == "u1"


def test_a_request_is_nobodys_until_the_gate_knows_whose() -> None:
    """Let in, even without a name, or refused by its user's own limits, it is somebody's."""
    journey, granted, refused = Journey(), Journey(), Journey()
    granted.grant = Grant("", Tier.FREE, PriorityClass.BATCH, clamped=False, reserved_tokens=0)
    refused.refused_user_id = "u1"
    assert [each.nobodys for each in (journey, granted, refused)] == [True, False, False]
