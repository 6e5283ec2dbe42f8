"""The bounded list of what became of the fallback's answers."""

from __future__ import annotations

from dreamseed_cli.api.fallback.unsent import Unsent
from dreamseed_cli.gateway.proto.front_pb2 import EndedRequest


def _answer(number: int) -> EndedRequest:
    return EndedRequest(event_id=f"e{number}")


def _ids(answers: list[EndedRequest]) -> list[str]:
    return [answer.event_id for answer in answers]


def test_when_it_is_full_the_oldest_is_dropped_and_counted() -> None:
    """Whichever lease it belongs to."""
    lost: list[int] = []
    unsent = Unsent(lost.append, most=3)
    for number in range(5):
        unsent.add("a" if number < 2 else "b", _answer(number))
    assert unsent.of("a", 10) == []
    assert _ids(unsent.of("b", 10)) == ["e2", "e3", "e4"]
    assert (len(unsent), sum(lost)) == (3, 2)


def test_a_lease_has_its_own_answers_oldest_first() -> None:
    """No more than asked for, and none of another lease's."""
    unsent = Unsent(lambda _: None)
    for number in range(6):
        unsent.add("even" if number % 2 == 0 else "odd", _answer(number))
    assert _ids(unsent.of("odd", 2)) == ["e1", "e3"]
    assert unsent.of("none", 2) == []


def test_what_was_sent_is_gone_and_not_lost() -> None:
    """Even if it was dropped meanwhile: a drop is counted once."""
    lost: list[int] = []
    unsent = Unsent(lost.append, most=2)
    for number in range(2):
        unsent.add("a", _answer(number))
    under_way = unsent.of("a", 2)
    unsent.add("a", _answer(2))
    unsent.sent(under_way)
    assert (_ids(unsent.of("a", 2)), lost) == (["e2"], [1])


def test_what_was_refused_is_lost() -> None:
    """Counted, and not sent again."""
    lost: list[int] = []
    unsent = Unsent(lost.append)
    for number in range(3):
        unsent.add("a", _answer(number))
    unsent.refused(unsent.of("a", 2))
    assert (_ids(unsent.of("a", 3)), lost) == (["e2"], [2])
