"""How a request ended, from what Locust's clients say of it. Pure."""

from __future__ import annotations

import errno
import socket

from dreamseed_cli.bench.records import Ending
from dreamseed_cli.bench.target.judge import OWN_LIMITS, UNSEEN_TOKENS

_NO_CONNECTION = {errno.ECONNREFUSED, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ETIMEDOUT}


def cause_of(error: BaseException) -> BaseException:
    """What geventhttpclient wraps into its RetriesExceeded, though nothing was retried."""
    original = getattr(error, "original", None)
    return original if isinstance(original, BaseException) else error


def of_failure(error: BaseException) -> Ending:
    """Of an exchange over HTTP that came to no whole answer."""
    error = cause_of(error)
    if isinstance(error, socket.gaierror):
        return Ending.UNREACHABLE
    if isinstance(error, OSError) and error.errno in OWN_LIMITS:
        return Ending.UNSENT
    if isinstance(error, OSError) and error.errno in _NO_CONNECTION:
        return Ending.UNREACHABLE
    if isinstance(error, TimeoutError) or "timed out" in str(error):
        return Ending.STALLED
    if type(error).__name__ == "HTTPParseError":
        return Ending.BROKEN
    return Ending.CUT


def of_answer(tokens: int, wanted: int | None, *, text: bool = True) -> Ending:
    """Of a whole generation. wanted: the length that was forced, if one was. text: whether any came."""
    if tokens <= 0 or (tokens > UNSEEN_TOKENS and not text):
        return Ending.MISCOUNTED
    return Ending.WRONG_LENGTH if wanted is not None and tokens != wanted else Ending.COMPLETE
