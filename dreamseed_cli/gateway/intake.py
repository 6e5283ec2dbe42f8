"""Which messages become calls: in order, from somebody who may, within what that user may use."""

from __future__ import annotations

import math
import time
import uuid
from collections.abc import Iterable
from contextlib import suppress

import grpc
from google.protobuf.message import DecodeError

from dreamseed_cli.gateway.accounts.gate import Gate
from dreamseed_cli.gateway.accounts.limits import estimate_tokens
from dreamseed_cli.gateway.call import Call
from dreamseed_cli.gateway.doorway import Doorway
from dreamseed_cli.gateway.journey import Journey
from dreamseed_cli.gateway.proto import EVENT_ID_KEY
from dreamseed_cli.gateway.proto.llm_pb2 import GenerateRequest, GenerateResponse
from dreamseed_cli.gateway.security.caller import CallerCheck
from dreamseed_cli.gateway.validation import InvalidArgument, Validator
from dreamseed_cli.profile.schema import Gateway

Context = grpc.aio.ServicerContext[bytes, GenerateResponse]


class Intake:
    """default_timeout_s: the deadline of a call that brings none, in seconds."""

    def __init__(
        self,
        callers: CallerCheck,
        validator: Validator,
        gate: Gate,
        doorway: Doorway,
        *,
        default_timeout_s: float,
    ) -> None:
        self._doorway = doorway
        self._callers = callers
        self._validator = validator
        self._gate = gate
        self._default_timeout_s = default_timeout_s

    def take_settings(self, gateway: Gateway) -> None:
        """Let new calls in by these settings."""
        self._default_timeout_s = gateway.default_timeout_s
        self._validator.take_rules(gateway.generation)
        self._gate.take_rules(gateway.accounts)

    async def let_in(self, message: bytes, context: Context, journey: Journey) -> Call:
        """The call, noted in the journey step by step. Raises InvalidArgument or a Refusal.

        Once it returned, `settle` must follow when the call has ended.
        """
        self._doorway.refuse_all()
        metadata = context.invocation_metadata() or ()
        journey.traceparent = _traceparent(metadata)
        deadline = time.monotonic() + self._budget_s(context)
        credentials = self._callers.credentials(context, metadata)
        if credentials.trusted:
            journey.event_id = _event_id(metadata)
        wish = journey.wish = self._validator.check(_parsed(message))
        tokens = estimate_tokens(wish.request)
        grant = await self._gate.admit(credentials, wish.user_id, wish.priority, tokens=tokens)
        journey.grant = grant
        self._doorway.enter(grant.priority)
        journey.call = Call(
            request=wish.request,
            priority=grant.priority,
            deadline=deadline,
            user_id=grant.user_id,
            workload=wish.workload,
            use_cache=wish.use_cache,
        )
        return journey.call

    def settle(self, journey: Journey) -> None:
        """The request has ended, however it did: its user pays for the tokens the engines spent on it."""
        if journey.call is not None:
            self._doorway.leave()
        if journey.grant is not None:
            used = 0 if journey.cache_hit else journey.tokens + (journey.prompt_tokens or 0)
            self._gate.settle(journey.grant, used)

    def _budget_s(self, context: Context) -> float:
        """What the caller's deadline leaves, in seconds; the profile's default for one without."""
        remaining = context.time_remaining()
        return remaining if remaining is not None and math.isfinite(remaining) else self._default_timeout_s


def _parsed(message: bytes) -> GenerateRequest:
    try:
        return GenerateRequest.FromString(message)
    except DecodeError as error:
        raise InvalidArgument("the message", "is not a GenerateRequest") from error


def _traceparent(metadata: Iterable[tuple[str, str | bytes]]) -> str | None:
    """The caller's trace, by the W3C's Trace Context."""
    for key, value in metadata:
        if key == "traceparent":
            return value if isinstance(value, str) else None
    return None


def _event_id(metadata: Iterable[tuple[str, str | bytes]]) -> str:
    """The id that the caller chose for the request's event; empty if there is none, or it is no UUID."""
    for key, value in metadata:
        if key == EVENT_ID_KEY:
            with suppress(ValueError):
                return str(uuid.UUID(str(value)))
    return ""
