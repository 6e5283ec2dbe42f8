"""Answers of the fallback, and refusals, as a front tells them."""

from __future__ import annotations

from typing import Any

import pytest

from dreamseed_cli.gateway.events.record import Outcome, Source
from dreamseed_cli.gateway.front import MOST_AT_ONCE
from dreamseed_cli.gateway.front.ended import read_answers, read_refusals
from dreamseed_cli.gateway.front.fields import WrongField
from dreamseed_cli.gateway.proto.front_pb2 import EndedRequest

_ID = "01a2074f-7cb3-7a05-bb3b-3a05b3b3625a"
_FIELDS: dict[str, Any] = {
    "event_id": _ID,
    "request_id": "r1",
    "user_id": "u1",
    "outcome": "finished",
    "priority": "premium",
    "workload": "question",
    "model": "other",
    "arrived_at": 1.5,
    "duration_s": 0.5,
}


def test_an_answer_becomes_a_record_of_the_fallback() -> None:
    """What is unset is null; an unknown workload is `other`, as for the gateway's requests."""
    (given,) = read_answers([EndedRequest(**_FIELDS | {"workload": "mine"}, completion_tokens=0)])
    record = given.record
    assert (record.event_id, record.outcome, record.source) == (_ID, Outcome.FINISHED, Source.FALLBACK)
    assert (record.workload, record.priority, record.arrived_at) == ("other", "premium", 1.5)
    assert (record.prompt_tokens, record.completion_tokens) == (None, 0)
    assert (record.reason, record.finish_reason, record.ttft_s, record.replica) == (None, None, None, None)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("event_id", "seven"),
        ("request_id", "a\0b"),
        ("user_id", "x" * 257),
        ("outcome", "rejected"),
        ("outcome", ""),
        ("priority", "highest"),
        ("model", "x" * 257),
        ("reason", "x" * 257),
    ],
)
def test_an_answer_that_is_not_in_order_is_named(field: str, value: str) -> None:
    """By its field."""
    with pytest.raises(WrongField, match=field):
        read_answers([EndedRequest(**_FIELDS | {field: value})])


def test_no_more_come_at_a_time_than_one_transaction_takes() -> None:
    """A front sends the rest with another call."""
    answers = [EndedRequest(**_FIELDS)] * MOST_AT_ONCE
    assert len(read_answers(answers)) == MOST_AT_ONCE
    with pytest.raises(WrongField, match="at most"):
        read_answers([*answers, answers[0]])


_REFUSAL = _FIELDS | {"outcome": "rejected", "reason": "invalid_json", "priority": "unknown"}


def test_a_refusal_becomes_a_record_of_the_front() -> None:
    """The model is the gateway's, and the user nobody until a key tells it: names are not believed."""
    (given,) = read_refusals([EndedRequest(**_REFUSAL, key_hash=b"k", count=7)], "ours")
    record = given.record
    assert (record.event_id, record.outcome, record.source) == (_ID, Outcome.REJECTED, Source.FRONT)
    assert (record.user_id, record.model, record.reason) == ("", "ours", "invalid_json")
    assert (record.priority, record.count, given.key_hash) == ("unknown", 7, b"k")
    (one,) = read_refusals([EndedRequest(**_REFUSAL)], "ours")
    assert one.record.count == 1


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("event_id", "seven"),
        ("outcome", "finished"),
        ("priority", "highest"),
        ("reason", "x" * 257),
        ("count", 0),
        ("count", -5),
    ],
)
def test_a_refusal_that_is_not_in_order_is_named(field: str, value: object) -> None:
    """By its field."""
    with pytest.raises(WrongField, match=f"refusals.{field}"):
        read_refusals([EndedRequest(**_REFUSAL | {field: value})], "ours")


def test_no_more_refusals_come_at_a_time_either() -> None:
    """The same bound."""
    with pytest.raises(WrongField, match="at most"):
        read_refusals([EndedRequest(**_REFUSAL)] * (MOST_AT_ONCE + 1), "ours")
