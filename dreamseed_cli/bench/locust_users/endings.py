"""How a request ended, from what Locust's clients and gRPC say of it. Pure."""

from __future__ import annotations

import errno
import socket
from typing import TYPE_CHECKING

from dreamseed_cli.bench.records import Ending

if TYPE_CHECKING:
    import grpc

_NO_ROOM = {429, 503}
_NO_CONNECTION = {errno.ECONNREFUSED, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ETIMEDOUT}
_WRONG = {
    "INVALID_ARGUMENT",
    "UNAUTHENTICATED",
    "PERMISSION_DENIED",
    "NOT_FOUND",
    "FAILED_PRECONDITION",
    "UNIMPLEMENTED",
    "OUT_OF_RANGE",
}


def of_status(status: int) -> Ending:
    """Of a whole HTTP answer."""
    if status in _NO_ROOM:
        return Ending.REFUSED
    if status >= 500:
        return Ending.SERVER_ERROR
    return Ending.REJECTED if status >= 400 else Ending.COMPLETE


def cause_of(error: BaseException) -> BaseException:
    """What geventhttpclient wraps into its RetriesExceeded, though nothing was retried."""
    original = getattr(error, "original", None)
    return original if isinstance(original, BaseException) else error


def of_failure(error: BaseException) -> Ending:
    """Of an exchange over HTTP that came to no whole answer."""
    error = cause_of(error)
    if isinstance(error, socket.gaierror):
        return Ending.UNREACHABLE
    if isinstance(error, OSError) and error.errno in _NO_CONNECTION:
        return Ending.UNREACHABLE
    if isinstance(error, TimeoutError) or "timed out" in str(error):
        return Ending.STALLED
    if type(error).__name__ == "HTTPParseError":
        return Ending.BROKEN
    return Ending.CUT


def of_code(code: grpc.StatusCode, *, begun: bool, reasoned: bool) -> Ending:
    """Of a call that failed. begun: text had come; reasoned: the gateway itself said why."""
    name = code.name
    if name == "RESOURCE_EXHAUSTED" or (name == "UNAVAILABLE" and reasoned):
        return Ending.REFUSED
    if name == "UNAVAILABLE":
        return Ending.CUT if begun else Ending.UNREACHABLE
    if name == "DEADLINE_EXCEEDED":
        return Ending.TIMED_OUT
    if name in _WRONG:
        return Ending.REJECTED
    return Ending.CUT if name == "CANCELLED" else Ending.SERVER_ERROR


def of_answer(tokens: int, wanted: int | None) -> Ending:
    """Of a whole generation. wanted: the length that was forced, if one was."""
    if tokens <= 0:
        return Ending.MISCOUNTED
    return Ending.WRONG_LENGTH if wanted is not None and tokens != wanted else Ending.COMPLETE
