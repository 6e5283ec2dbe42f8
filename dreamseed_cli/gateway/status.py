"""Which gRPC status a failure is, and what the caller is told. Pure."""

from __future__ import annotations

import re

from google.protobuf.any_pb2 import Any
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status
from grpc import StatusCode

from dreamseed_cli.core.errors import DreamseedError
from dreamseed_cli.engine.types import EngineBusy, EngineRefused, EngineTimeout
from dreamseed_cli.gateway.continuation import AnswerCut
from dreamseed_cli.gateway.refusals import Closing, NotPermitted, Refusal, TryLater, Unauthenticated
from dreamseed_cli.gateway.validation import InvalidArgument

DETAILS_KEY = "grpc-status-details-bin"
"""Where clients look for google.rpc.Status."""
_DOMAIN = "dreamseed"
_MOST_EMITTED_BYTES = 4096
"""gRPC's clients take 8 KiB of metadata, in base64; more would cost them the status itself."""


def grpc_status(error: DreamseedError) -> tuple[StatusCode, str]:
    """Code and message: the cause and the remedy; never an engine's address, which is ours alone."""
    return _code(error), f"{error.cause}. {error.remedy}" if error.remedy else error.cause


def error_details(error: DreamseedError) -> tuple[tuple[str, bytes], ...]:
    """Trailing metadata with google.rpc.Status, for a failure of which more is known than its cause.

    RetryInfo says when to try again. ErrorInfo (ANSWER_CUT) says what had been emitted of an answer that
    broke off: `emitted_tokens`, and `emitted_text` as a whole or, where it is too long for a header, not at
    all: a stream's caller has it, message by message.
    """
    detail = _detail(error)
    if detail is None:
        return ()
    code, message = grpc_status(error)
    packed = Any()
    packed.Pack(detail)
    status = Status(code=code.value[0], message=message, details=[packed])
    return ((DETAILS_KEY, status.SerializeToString()),)


def _detail(error: DreamseedError) -> RetryInfo | ErrorInfo | None:
    if isinstance(error, TryLater):
        delay = Duration()
        delay.FromMilliseconds(max(1, round(error.retry_after_s * 1000)))
        return RetryInfo(retry_delay=delay)
    if isinstance(error, AnswerCut):
        emitted = {"emitted_tokens": str(error.tokens)}
        if len(error.emitted.encode()) <= _MOST_EMITTED_BYTES:
            emitted["emitted_text"] = error.emitted
        return ErrorInfo(reason="ANSWER_CUT", domain=_DOMAIN, metadata=emitted)
    return None


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
    (Closing, StatusCode.UNAVAILABLE),
    (TryLater, StatusCode.RESOURCE_EXHAUSTED),
    (EngineTimeout, StatusCode.DEADLINE_EXCEEDED),
    (EngineBusy, StatusCode.RESOURCE_EXHAUSTED),
)


def _code(error: DreamseedError) -> StatusCode:
    if isinstance(error, EngineRefused):
        # 404: the engine does not know the model that this service gave it. Not the caller's fault.
        return StatusCode.UNAVAILABLE if error.status == 404 else StatusCode.INVALID_ARGUMENT
    return next((code for kind, code in _CODES if isinstance(error, kind)), StatusCode.UNAVAILABLE)
