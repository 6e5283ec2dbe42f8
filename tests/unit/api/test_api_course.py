"""What is told of a request to the fallback: never its texts, nor its caller's key."""

from __future__ import annotations

import time
from typing import Any

import msgspec
import pytest

from dreamseed_cli.api.fallback.course import Course, Order, Usage
from dreamseed_cli.api.protocol import TextRequest
from dreamseed_cli.api.trail import Trail
from dreamseed_cli.api.translate import ask_text
from dreamseed_cli.gateway.accounts.keys import new_key
from dreamseed_cli.gateway.events.ids import EventIds
from dreamseed_cli.gateway.events.record import Outcome
from dreamseed_cli.gateway.proto.front_pb2 import EndedRequest


def _order(key: str | None = None, **fields: Any) -> Order:
    asked = ask_text(TextRequest(model="m", prompt="a secret prompt", **fields))
    asked.message.request_id = "r1"
    return Order(asked, key, time.perf_counter(), Trail(EventIds()))


def _ended(course: Course, order: Order, outcome: Outcome = Outcome.FINISHED) -> EndedRequest:
    return course.ended(order, EventIds(), "other", outcome)


def test_an_answer_becomes_its_event_without_its_texts() -> None:
    """The key goes as the hash that the gateway finds its user by."""
    key = new_key()
    order, course = _order(key.text, priority="batch", workload="feedback"), Course()
    course.streams()
    course.note(None, [msgspec.Raw(b'{"text": "a secret answer", "finish_reason": null}')])
    course.note(None, [msgspec.Raw(b'{"text": "", "finish_reason": "length"}')])
    course.note(Usage(7, 9), [])
    answer = _ended(course, order)
    assert (answer.request_id, answer.key_hash, answer.user_id) == ("r1", key.hash, "")
    assert (answer.outcome, answer.finish_reason, answer.model) == ("finished", "length", "other")
    assert (answer.priority, answer.workload) == ("batch", "feedback")
    assert (answer.prompt_tokens, answer.completion_tokens) == (7, 9)
    assert 0 <= answer.ttft_s <= answer.duration_s
    assert answer.arrived_at + answer.duration_s == pytest.approx(time.time(), abs=60)
    wire = answer.SerializeToString()
    assert b"secret" not in wire
    assert key.text.encode() not in wire


def test_every_end_has_an_id_of_its_own() -> None:
    """From the ids of one front."""
    ids, order = EventIds(), _order()
    made = {Course().ended(order, ids, "m", Outcome.FAILED).event_id for _ in range(3)}
    assert len(made) == 3


def test_what_is_not_known_is_not_told() -> None:
    """A failure has a reason, and no tokens that nobody counted."""
    answer = _ended(Course(), _order("sk-a-key-of-somebody-elses", user="u1"), Outcome.FAILED)
    assert (answer.outcome, answer.reason, answer.key_hash) == ("failed", "fallback_failed", b"")
    for field in ("prompt_tokens", "completion_tokens", "finish_reason", "ttft_s"):
        assert not answer.HasField(field), field


def test_without_a_key_the_user_is_whom_the_client_names() -> None:
    """Unless the gateway would not have taken that name."""
    assert _ended(Course(), _order(user="u1")).user_id == "u1"
    for wrong in ("x" * 257, "a\nb"):
        assert _ended(Course(), _order(user=wrong)).user_id == ""


@pytest.mark.parametrize("choice", [b'{"finish_reason": "my whole answer"}', b'{"finish_reason": 7}', b"[]"])
def test_words_and_numbers_of_the_provider_are_not_trusted(choice: bytes) -> None:
    """Neither what it ended for, nor what it counted, can keep an event from being stored."""
    course = Course()
    course.note(Usage(-5, 10**30), [msgspec.Raw(choice)])
    answer = _ended(course, _order())
    assert not answer.HasField("finish_reason")
    assert (answer.prompt_tokens, answer.completion_tokens) == (0, 2**31 - 1)
