"""b2sdk's HTTP layer, held to our limits: one try a request, bounded, and no answer but B2's own believed."""

from __future__ import annotations

import io
import math
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import requests
from b2sdk.v3 import B2Http, B2HttpApiConfig, B2Session, HttpCallback, InMemoryAccountInfo
from b2sdk.v3.exception import B2HttpCallbackPostRequestException, ClockSkew
from urllib3.exceptions import HTTPError

from dreamseed_cli.backup.store.base import CHUNK, Limits

MOST_SKEW_S = 600
"""B2's own SDK draws the line here."""


class NotB2Answer(B2HttpCallbackPostRequestException):  # type: ignore[misc] # b2sdk has no types
    """An answer that B2 never gives."""

    def __str__(self) -> str:
        return str(self.args[0])


def session(limits: Limits) -> B2Session:
    """A session of the SDK that keeps tokens and upload addresses, for use by several threads.

    Its own retries are off (they would sleep for minutes, and turn a lacking right into "too many tries"),
    and so are its waits of up to 20 minutes.
    """
    config = B2HttpApiConfig(
        http_session_factory=lambda: _BoundedRequests(limits),
        # The SDK's own check of the clock changes the process's locale, under the feet of other threads.
        install_clock_skew_hook=False,
        user_agent_append="dreamseed",
    )
    return _Session(InMemoryAccountInfo(), api_config=config)


class _BoundedRequests(requests.Session):
    def __init__(self, limits: Limits) -> None:
        super().__init__()
        self._timeout = (limits.connect_s, limits.call_s)

    def request(self, method: str, url: str | bytes, *args: Any, **kwargs: Any) -> requests.Response:
        streamed = kwargs.pop("stream", False)
        # B2 never redirects: whoever does is a portal, which should not see the authorisation either.
        kwargs |= {"timeout": self._timeout, "allow_redirects": False, "stream": True}
        response = super().request(method, url, *args, **kwargs)
        if not streamed:
            # From its headers on: what went before was sending, and a slow line may take its time for that.
            response.raw = io.BytesIO(b"".join(pieces(response, time.monotonic() + self._timeout[1])))
        return response


def pieces(response: requests.Response, end: float = math.inf) -> Iterator[bytes]:
    """The answer's body as it comes, in pieces of at most CHUNK. Not after `end`, of time.monotonic().

    A socket's limit is one of silence: who sends a byte now and then would never reach it.
    """
    try:
        while piece := response.raw.read1(CHUNK, decode_content=False):
            if time.monotonic() > end:
                raise requests.ReadTimeout("the answer does not end")
            yield piece
    except HTTPError as error:
        raise requests.ConnectionError(f"the answer broke off: {error}") from error


class _OneTryHttp(B2Http):  # type: ignore[misc] # b2sdk has no types
    def __init__(self, config: B2HttpApiConfig) -> None:
        super().__init__(config)
        self.add_callback(_AnswerCheck())

    def request(self, method: str, url: str, **kwargs: Any) -> requests.Response:
        kwargs["try_count"] = 1
        response: requests.Response = super().request(method, url, **kwargs)
        return response


class _Session(B2Session):  # type: ignore[misc] # b2sdk has no types
    B2HTTP_CLASS: Callable[..., B2Http] = staticmethod(_OneTryHttp)


class _AnswerCheck(HttpCallback):  # type: ignore[misc] # b2sdk has no types
    def post_request(
        self, method: str, url: str, headers: dict[str, str], response: requests.Response
    ) -> None:
        status = response.status_code
        overloaded = status == requests.codes.too_many_requests or status >= 500
        kind = response.headers.get("Content-Type", "")
        if not overloaded and (kind.startswith("text/html") or 300 <= status < 400):
            response.close()
            raise NotB2Answer(f"HTTP {status} with {kind or 'no content type'}")
        skew_s = _skew_s(response.headers.get("Date"))
        if abs(skew_s) > MOST_SKEW_S:
            response.close()
            raise ClockSkew(skew_s)


def _skew_s(date: str | None) -> float:
    """How far this machine's clock is ahead of the answer's, in seconds; 0 if the answer has no date."""
    if date is None:
        return 0.0
    try:
        there = parsedate_to_datetime(date)
    except ValueError as error:
        raise NotB2Answer(f"a date that is none: {date[:40]}") from error
    return (datetime.now(UTC) - there.replace(tzinfo=UTC)).total_seconds()
