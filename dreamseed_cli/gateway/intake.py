"""Which messages become calls: in order, from somebody who may, within what that user may use."""

from __future__ import annotations

import math
import time

import grpc
from google.protobuf.message import DecodeError

from dreamseed_cli.gateway.call import Call
from dreamseed_cli.gateway.journey import Journey
from dreamseed_cli.gateway.proto.llm_pb2 import GenerateRequest, GenerateResponse
from dreamseed_cli.gateway.validation import InvalidArgument, Validator

Context = grpc.aio.ServicerContext[bytes, GenerateResponse]


class Intake:
    """default_timeout_s: the deadline of a call that brings none, in seconds."""

    def __init__(self, validator: Validator, *, default_timeout_s: float) -> None:
        self._validator = validator
        self._default_timeout_s = default_timeout_s

    async def let_in(self, message: bytes, context: Context, journey: Journey) -> Call:
        """The call, noted in the journey step by step. Raises InvalidArgument or a Refusal."""
        journey.traceparent = _value(context, "traceparent")
        try:
            parsed = GenerateRequest.FromString(message)
        except DecodeError as error:
            raise InvalidArgument("the message", "is not a GenerateRequest") from error
        wish = journey.wish = self._validator.check(parsed)
        call = Call(
            request=wish.request,
            priority=wish.priority,
            deadline=time.monotonic() + self._budget_s(context),
            user_id=wish.user_id,
            workload=wish.workload,
            use_cache=wish.use_cache,
        )
        journey.call = call
        return call

    def _budget_s(self, context: Context) -> float:
        """What the caller's deadline leaves, in seconds; the profile's default for one without."""
        remaining = context.time_remaining()
        return remaining if remaining is not None and math.isfinite(remaining) else self._default_timeout_s


def _value(context: Context, wanted: str) -> str | None:
    """One key of the call's metadata."""
    for key, value in context.invocation_metadata() or ():
        if key == wanted:
            return value if isinstance(value, str) else None
    return None
