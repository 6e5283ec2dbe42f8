"""Who asks and how, from a request's headers. Pure."""

from __future__ import annotations

import itertools
import re
import uuid
from collections.abc import Iterable

import msgspec

from dreamseed_cli.api.errors import ApiError
from dreamseed_cli.api.http import Header
from dreamseed_cli.gateway.security.credentials import API_KEY_PREFIX

_KEY = re.compile(rb"[!-~]{1,512}")
_TRACEPARENT = re.compile(rb"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
_FRESH = (b"no-cache", b"no-store")
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:-]{1,128}")


class Caller(msgspec.Struct, frozen=True):
    """key: the bearer token, for the gateway to judge; never logged. fresh: wants no cached answer.
    traceparent: the trace that the request belongs to (W3C Trace Context), if it names one.
    """

    key: str | None
    fresh: bool
    traceparent: str | None = None

    def __repr__(self) -> str:
        return "Caller(...)"


def read_caller(headers: Iterable[Header], *, allow_anonymous: bool) -> Caller:
    """Raises ApiError 401 without a usable key, unless anonymous callers are allowed.

    Clients that cannot do without a key make one up: where none is needed, what is no key of ours is none.
    """
    key = None
    traceparent = None
    fresh = False
    for name, value in headers:
        if name == b"authorization":
            if key is not None:
                raise ApiError(401, "two Authorization headers: send one", code="invalid_api_key")
            key = _bearer(value)
        elif name == b"cache-control":
            fresh = fresh or any(word in value.lower() for word in _FRESH)
        elif name == b"traceparent" and _TRACEPARENT.fullmatch(value):
            traceparent = value.decode()
    if key is None and not allow_anonymous:
        raise ApiError(401, "no API key: send it as `Authorization: Bearer ds_...`", code="invalid_api_key")
    if key is not None and allow_anonymous and not key.startswith(API_KEY_PREFIX):
        key = None
    return Caller(key, fresh, traceparent)


def _bearer(value: bytes) -> str:
    scheme, _, key = value.partition(b" ")
    key = key.strip()
    if scheme.lower() != b"bearer" or not _KEY.fullmatch(key):
        raise ApiError(401, "Authorization must be `Bearer` and an API key", code="invalid_api_key")
    return key.decode()


class RequestIds:
    """Names requests that bring no name. Unique over all fronts and their restarts, and cheap."""

    def __init__(self) -> None:
        self._prefix = uuid.uuid4().hex[:12]
        self._numbers = itertools.count(1)

    def name(self, headers: Iterable[Header]) -> str:
        """The id that a request brings in `x-request-id`, if it is in order; else one of ours."""
        for name, value in headers:
            if name == b"x-request-id" and _REQUEST_ID.fullmatch(value):
                return value.decode()
        return f"{self._prefix}-{next(self._numbers)}"
