"""What became of requests that a front's fallback was asked for, read off the wire. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dreamseed_cli.gateway.call import PriorityClass, workload_of
from dreamseed_cli.gateway.events.record import Outcome, RequestRecord, Source
from dreamseed_cli.gateway.front import MOST_ANSWERS
from dreamseed_cli.gateway.front.fields import WrongField, read_uuid, require_name
from dreamseed_cli.gateway.proto.front_pb2 import FallbackAnswer

_PRIORITIES = frozenset(priority.label for priority in PriorityClass)
_OUTCOMES = {outcome.value: outcome for outcome in (Outcome.FINISHED, Outcome.FAILED, Outcome.CANCELLED)}


@dataclass(frozen=True, slots=True)
class GivenAnswer:
    """A request's record. key_hash: where not empty, whose key that is tells the record's user."""

    record: RequestRecord
    key_hash: bytes


def read_answers(messages: Sequence[FallbackAnswer]) -> list[GivenAnswer]:
    """Raises WrongField. What else may be wrong with them, PostgreSQL says."""
    if len(messages) > MOST_ANSWERS:
        raise WrongField(f"answers are {len(messages)}: at most {MOST_ANSWERS} at a time")
    return [_given(message) for message in messages]


def _given(message: FallbackAnswer) -> GivenAnswer:
    for field in ("request_id", "user_id", "reason", "model", "finish_reason"):
        require_name(f"answers.{field}", getattr(message, field))
    if message.priority not in _PRIORITIES:
        raise WrongField("answers.priority is none of batch, standard, premium")
    outcome = _OUTCOMES.get(message.outcome)
    if outcome is None:
        raise WrongField("answers.outcome is none of finished, failed, cancelled")
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
    return GivenAnswer(record, message.key_hash)
