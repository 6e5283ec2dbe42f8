"""Which gRPC status a failure is, and what the caller is told. Pure."""

from __future__ import annotations

import re

from google.protobuf.any_pb2 import Any
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from grpc import StatusCode

from dreamseed_cli.core.errors import DreamseedError
from dreamseed_cli.engine.types import EngineBusy, EngineRefused, EngineTimeout
from dreamseed_cli.gateway.refusals import NotPermitted, Refusal, TryLater, Unauthenticated
from dreamseed_cli.gateway.validation import InvalidArgument

DETAILS_KEY = "grpc-status-details-bin"
"""Where clients look for google.rpc.Status."""


def grpc_status(error: DreamseedError) -> tuple[StatusCode, str]:
    """Code and message: the cause and the remedy; never an engine's address, which is ours alone."""
    return _code(error), f"{error.cause}. {error.remedy}" if error.remedy else error.cause


def retry_details(error: DreamseedError) -> tuple[tuple[str, bytes], ...]:
    """Trailing metadata with google.rpc.RetryInfo, for a failure that says when to try again."""
    if not isinstance(error, TryLater):
        return ()
    code, message = grpc_status(error)
    delay = Duration()
    delay.FromMilliseconds(max(1, round(error.retry_after_s * 1000)))
    details = Any()
    details.Pack(RetryInfo(retry_delay=delay))
    status = Status(code=code.value[0], message=message, details=[details])
    return ((DETAILS_KEY, status.SerializeToString()),)


def reason(error: DreamseedError) -> str:
    """The failure's label in metrics and events: a refusal's own, else the class's name in snake case."""
    if isinstance(error, Refusal):
        return error.reason
    return _REASONS.get(type(error)) or _WORD.sub("_", type(error).__name__).lower()


_WORD = re.compile(r"(?<!^)(?=[A-Z])")
_REASONS: dict[type[DreamseedError], str] = {EngineTimeout: "deadline_exceeded"}

_CODES: tuple[tuple[type[DreamseedError], StatusCode], ...] = (
    (InvalidArgument, StatusCode.INVALID_ARGUMENT),
    (Unauthenticated, StatusCode.UNAUTHENTICATED),
    (NotPermitted, StatusCode.PERMISSION_DENIED),
    (TryLater, StatusCode.RESOURCE_EXHAUSTED),
    (EngineTimeout, StatusCode.DEADLINE_EXCEEDED),
    (EngineBusy, StatusCode.RESOURCE_EXHAUSTED),
)


def _code(error: DreamseedError) -> StatusCode:
    if isinstance(error, EngineRefused):
        # 404: the engine does not know the model that this service gave it. Not the caller's fault.
        return StatusCode.UNAVAILABLE if error.status == 404 else StatusCode.INVALID_ARGUMENT
    return next((code for kind, code in _CODES if isinstance(error, kind)), StatusCode.UNAVAILABLE)
