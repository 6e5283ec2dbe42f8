"""GET /v1/questions/{id}: nine of ten requests that reach the front (§A2), so plain ASGI, too.

A front with more to do than it can answers none of it in time. So only so many questions are asked for at
once: the others are refused in a fraction of what an answer takes, and those that are let in stay quick, as
do the answers of the models.
"""

from __future__ import annotations

import datetime as dt
import hashlib

import msgspec
import structlog

from dreamseed_cli.api.errors import ApiError
from dreamseed_cli.api.http import JSON, PRIVATE, Header, Scope, Send, respond
from dreamseed_cli.api.library import Library
from dreamseed_cli.api.metrics import ApiMetrics
from dreamseed_cli.gateway.proto.front_pb2 import Question

PREFIX = "/v1/questions/"
_ROUTE = f"{PREFIX}{{question_id}}"
# §C2: the CDN answers for five minutes; that a question is missing it believes for a shorter time.
_KEPT: Header = (b"cache-control", b"public, max-age=300")
_ABSENCE_KEPT: Header = (b"cache-control", b"public, max-age=30")
_EPOCH = dt.datetime.fromtimestamp(0, dt.UTC)
_log = structlog.get_logger(__name__)


class Questions:
    """An ASGI application for paths below PREFIX. at_once: how many may be asked for at a time.

    Without a key: what the CDN keeps it hands to everybody.
    """

    def __init__(self, library: Library, metrics: ApiMetrics, *, at_once: int) -> None:
        self._library = library
        self._metrics = metrics
        self._at_once = at_once
        self._under_way = 0

    async def __call__(self, scope: Scope, send: Send) -> None:
        """Answer one request; every failure becomes a response."""
        status = 500
        try:
            status, headers, body = await self._answer(scope)
        except ApiError as error:
            status, headers, body = _refused(error)
        except Exception:  # noqa: BLE001 - the last resort: a request never ends without a response
            _log.exception("request failed by a mistake of ours", route=_ROUTE)
            _, headers, body = _refused(ApiError(500, "the front failed; its log says why", code="internal"))
        finally:
            self._metrics.requests.labels(_ROUTE, str(status), "front").inc()
        await respond(send, status, headers, body)

    async def _answer(self, scope: Scope) -> tuple[int, list[Header], bytes]:
        question_id = scope["path"].removeprefix(PREFIX)
        if not question_id or "/" in question_id:
            raise ApiError(404, f"Not Found: {scope['method']} {scope['path']}")
        if scope["method"] not in {"GET", "HEAD"}:
            raise ApiError(405, "use GET", code="method_not_allowed", allow="GET, HEAD")
        body = _encoded(await self._question(question_id))
        etag = f'"{hashlib.sha256(body).hexdigest()}"'
        headers = [_KEPT, (b"etag", etag.encode()), (b"x-content-type-options", b"nosniff")]
        tags = b",".join(value for name, value in scope["headers"] if name == b"if-none-match")
        if _matches(tags.decode("latin-1"), etag):
            return 304, headers, b""
        return 200, [*headers, JSON], body

    async def _question(self, question_id: str) -> Question:
        if self._under_way >= self._at_once:
            raise ApiError(
                503, "too many questions are asked for at once", code="overloaded", retry_after_s=1
            )
        self._under_way += 1
        try:
            return await self._library.question(question_id)
        finally:
            self._under_way -= 1


def _refused(error: ApiError) -> tuple[int, list[Header], bytes]:
    kept = (_ABSENCE_KEPT,) if error.code == "not_found" else PRIVATE
    return error.status, [*error.headers(), *kept, JSON], error.body()


def _matches(if_none_match: str, etag: str) -> bool:
    """RFC 9110's weak comparison: a cache on the way may have made the validator weak."""
    tags = (tag.strip().removeprefix("W/") for tag in if_none_match.split(","))
    return any(tag in {etag, "*"} for tag in tags)


def _encoded(question: Question) -> bytes:
    """The same bytes for the same question on every front, since they are its ETag."""
    updated_at = _EPOCH + dt.timedelta(microseconds=question.updated_at_us)
    return msgspec.json.encode(
        {"id": question.id, "updated_at": updated_at, "content": msgspec.Raw(question.content)}
    )
