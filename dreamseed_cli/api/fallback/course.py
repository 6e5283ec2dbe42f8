"""The course that one request to the fallback takes, and what is told of it at its end."""

from __future__ import annotations

import time
from collections.abc import Sequence

import msgspec

from dreamseed_cli.api.ended import ended_request
from dreamseed_cli.api.trail import Trail
from dreamseed_cli.api.translate import Asked
from dreamseed_cli.gateway.events.ids import EventIds
from dreamseed_cli.gateway.events.record import Outcome
from dreamseed_cli.gateway.front.fields import LONGEST_NAME
from dreamseed_cli.gateway.proto.front_pb2 import EndedRequest

_MOST_TOKENS = 2**31 - 1
# OpenAI's. Another word is the provider's own, and might be anything.
_FINISH_REASONS = frozenset({"stop", "length", "content_filter", "tool_calls", "function_call"})


class Order(msgspec.Struct, frozen=True):
    """A request for the fallback. key: what its caller showed, if anything. began: perf_counter seconds.
    trail: where it is noted that the account tells of it.
    """

    asked: Asked
    key: str | None
    began: float
    trail: Trail

    def __repr__(self) -> str:
        return "Order(...)"


class Usage(msgspec.Struct, frozen=True):
    """Tokens as the fallback counted them."""

    prompt_tokens: int
    completion_tokens: int


class _Choice(msgspec.Struct, frozen=True):
    finish_reason: str | None = None


class Course:
    """Filled in as the answer comes."""

    def __init__(self) -> None:
        self.usage: Usage | None = None
        self._first: float | None = None
        self._choice: msgspec.Raw | None = None

    def streams(self) -> None:
        """A part of a streamed answer is passed on."""
        if self._first is None:
            self._first = time.perf_counter()

    def note(self, usage: Usage | None, choices: Sequence[msgspec.Raw]) -> None:
        """What the fallback told."""
        self.usage = usage or self.usage
        if choices:
            self._choice = choices[-1]

    def ended(self, order: Order, ids: EventIds, model: str, outcome: Outcome) -> EndedRequest:
        """Its event, with an id of its own."""
        elapsed_s = time.perf_counter() - order.began
        message = order.asked.message
        answer = ended_request(ids.next(), message.request_id, order.key, order.asked, elapsed_s, outcome)
        answer.user_id = _named(message.user_id)
        answer.model = model[:LONGEST_NAME]
        if outcome is Outcome.FAILED:
            answer.reason = "fallback_failed"
        finish_reason = self._finish_reason() if outcome is Outcome.FINISHED else None
        if finish_reason is not None:
            answer.finish_reason = finish_reason
        if self._first is not None:
            answer.ttft_s = self._first - order.began
        if self.usage is not None:
            answer.prompt_tokens = _count(self.usage.prompt_tokens)
            answer.completion_tokens = _count(self.usage.completion_tokens)
        return answer

    def _finish_reason(self) -> str | None:
        if self._choice is None:
            return None
        try:
            reason = msgspec.json.decode(self._choice, type=_Choice).finish_reason
        except msgspec.MsgspecError:
            return None
        return reason if reason in _FINISH_REASONS else None


def _count(tokens: int) -> int:
    """What an event can hold of a number that somebody else wrote."""
    return min(max(tokens, 0), _MOST_TOKENS)


def _named(user_id: str) -> str:
    """Whom the client named, as far as the gateway would have taken it."""
    return user_id if len(user_id) <= LONGEST_NAME and user_id.isprintable() else ""
