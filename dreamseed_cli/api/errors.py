"""What a client is told when there is no answer, in OpenAI's shape. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

import grpc
import msgspec

from dreamseed_cli.core.errors import DreamseedError

Headers = Sequence[tuple[bytes, bytes]]
_FIELD = re.compile(r"(model|prompt|max_tokens|temperature|top_p|stop|priority|user_id|seed|history)\b")
_OPENAI_NAMES = {"user_id": "user", "history": "messages"}


class ApiError(DreamseedError):
    """An error response. param: the request's field that is to blame. code: a word for programs. reason: the
    label of the request's event, where `code` does not say enough. allow: the methods of a 405, which has to
    name them (RFC 9110, 15.5.6).
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        retry_after_s: float | None = None,
        reason: str | None = None,
        allow: str | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.param = param
        self.retry_after_s = retry_after_s
        self.allow = allow
        # The gateway's word for the same.
        self.reason = "unauthenticated" if status == 401 else reason or code

    @property
    def type(self) -> str:
        """OpenAI's word for the status."""
        if self.status >= 500:
            return "server_error"
        return _TYPES.get(self.status, "invalid_request_error")

    def body(self, **more: object) -> bytes:
        """`{"error": {...}}` as JSON; `more` are further members of the error."""
        error = {"message": self.cause, "type": self.type, "param": self.param, "code": self.code, **more}
        return msgspec.json.encode({"error": error})

    def headers(self) -> Headers:
        """What the status asks for beside the body."""
        if self.status == 401:
            return ((b"www-authenticate", b"Bearer"),)
        if self.allow is not None:
            return ((b"allow", self.allow.encode()),)
        if self.retry_after_s is None:
            return ()
        return (
            (b"retry-after", b"%d" % max(1, math.ceil(self.retry_after_s))),
            (b"retry-after-ms", b"%d" % max(1, math.ceil(self.retry_after_s * 1000))),
        )


_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}


class Failure(msgspec.Struct, frozen=True):
    """How a call to the gateway failed. retry_after_s: from gRPC's RetryInfo, None without it. reason: the
    gateway's label for it, None if the gateway did not say or did not speak at all.
    """

    code: grpc.StatusCode
    details: str
    retry_after_s: float | None = None
    reason: str | None = None


_STATUSES: dict[grpc.StatusCode, tuple[int, str]] = {
    grpc.StatusCode.UNAUTHENTICATED: (401, "invalid_api_key"),
    grpc.StatusCode.PERMISSION_DENIED: (403, "not_permitted"),
    grpc.StatusCode.NOT_FOUND: (404, "not_found"),
    grpc.StatusCode.RESOURCE_EXHAUSTED: (429, "try_later"),
    grpc.StatusCode.UNAVAILABLE: (503, "unavailable"),
    grpc.StatusCode.CANCELLED: (503, "unavailable"),
    grpc.StatusCode.FAILED_PRECONDITION: (503, "unavailable"),
    grpc.StatusCode.UNIMPLEMENTED: (503, "unavailable"),
    grpc.StatusCode.DEADLINE_EXCEEDED: (504, "deadline_exceeded"),
}


def explain(failure: Failure) -> ApiError:
    """The response to a failed call."""
    if failure.code is grpc.StatusCode.INVALID_ARGUMENT:
        return _invalid(failure.details)
    status, code = _STATUSES.get(failure.code, (500, "internal"))
    if status >= 500:
        # gRPC's own words name the gateway's address, which is nobody's business.
        return ApiError(status, _OURS[status], code=code, retry_after_s=1 if status == 503 else None)
    return ApiError(
        status,
        failure.details or failure.code.name,
        code=code,
        retry_after_s=(failure.retry_after_s or 1) if status == 429 else None,
    )


_OURS = {
    500: "the service failed; its log says why",
    503: "the service is not available at the moment",
    504: "there was no complete answer in time",
}


def _invalid(details: str) -> ApiError:
    """The gateway names the field first; an unknown model has OpenAI's status and code."""
    found = _FIELD.match(details)
    field = found.group() if found else None
    if field == "model":
        return ApiError(404, details, code="model_not_found", param="model")
    return ApiError(400, details, code="invalid_value", param=_OPENAI_NAMES.get(field or "", field))
