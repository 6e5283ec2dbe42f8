"""Requests that ended at a front, read off the wire: answers of its fallback, and its refusals. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dreamseed_cli.gateway.call import PriorityClass, workload_of
from dreamseed_cli.gateway.events.record import UNKNOWN_PRIORITY, Outcome, RequestRecord, Source
from dreamseed_cli.gateway.front import MOST_AT_ONCE
from dreamseed_cli.gateway.front.fields import WrongField, read_uuid, require_name
from dreamseed_cli.gateway.proto.front_pb2 import EndedRequest

_NAMES = ("request_id", "user_id", "reason", "model", "finish_reason")
_PRIORITIES = tuple(priority.label for priority in PriorityClass)
_ANSWERED = {outcome.value: outcome for outcome in (Outcome.FINISHED, Outcome.FAILED, Outcome.CANCELLED)}
_REFUSED = {outcome.value: outcome for outcome in (Outcome.REJECTED, Outcome.FAILED, Outcome.CANCELLED)}


@dataclass(frozen=True, slots=True)
class GivenRequest:
    """A request's record. key_hash: where not empty, whose key that is tells the record's user."""

    record: RequestRecord
    key_hash: bytes


def read_answers(messages: Sequence[EndedRequest]) -> list[GivenRequest]:
    """Raises WrongField. What else may be wrong with them, PostgreSQL says."""
    _require_few("answers", messages)
    return [_answer(message) for message in messages]


def read_refusals(messages: Sequence[EndedRequest], model: str) -> list[GivenRequest]:
    """model: the gateway's, as of all requests that it might have answered. A refusal's user is known by a
    key or not at all. Raises WrongField, as `read_answers`.
    """
    _require_few("refusals", messages)
    return [_refusal(message, model) for message in messages]


def _require_few(name: str, messages: Sequence[EndedRequest]) -> None:
    if len(messages) > MOST_AT_ONCE:
        raise WrongField(f"{name} are {len(messages)}: at most {MOST_AT_ONCE} at a time")


def _answer(message: EndedRequest) -> GivenRequest:
    outcome = _checked("answers", message, _ANSWERED, _PRIORITIES)
    record = RequestRecord(
        event_id=str(read_uuid("answers.event_id", message.event_id)),
        request_id=message.request_id,
        user_id=message.user_id,
        outcome=outcome,
        reason=message.reason or None,
        arrived_at=message.arrived_at,
        duration_s=message.duration_s,
        priority=message.priority,
        workload=workload_of(message.workload).value,
        model=message.model,
        prompt_tokens=message.prompt_tokens if message.HasField("prompt_tokens") else None,
        completion_tokens=message.completion_tokens if message.HasField("completion_tokens") else None,
        finish_reason=message.finish_reason or None,
        ttft_s=message.ttft_s if message.HasField("ttft_s") else None,
        source=Source.FALLBACK,
    )
    return GivenRequest(record, message.key_hash)


def _refusal(message: EndedRequest, model: str) -> GivenRequest:
    outcome = _checked("refusals", message, _REFUSED, (*_PRIORITIES, UNKNOWN_PRIORITY))
    count = message.count if message.HasField("count") else 1
    if count < 1:
        raise WrongField("refusals.count is below 1")
    record = RequestRecord(
        event_id=str(read_uuid("refusals.event_id", message.event_id)),
        request_id=message.request_id,
        user_id="",
        outcome=outcome,
        reason=message.reason or None,
        arrived_at=message.arrived_at,
        duration_s=message.duration_s,
        priority=message.priority,
        workload=workload_of(message.workload).value,
        model=model,
        source=Source.FRONT,
        count=count,
    )
    return GivenRequest(record, message.key_hash)


def _checked(
    name: str, message: EndedRequest, outcomes: Mapping[str, Outcome], priorities: Sequence[str]
) -> Outcome:
    """The outcome, once names, priority and it are in order."""
    for field in _NAMES:
        require_name(f"{name}.{field}", getattr(message, field))
    if message.priority not in priorities:
        raise WrongField(f"{name}.priority is none of {', '.join(priorities)}")
    outcome = outcomes.get(message.outcome)
    if outcome is None:
        raise WrongField(f"{name}.outcome is none of {', '.join(outcomes)}")
    return outcome
