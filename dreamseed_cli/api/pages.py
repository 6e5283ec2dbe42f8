"""What is asked for seldom: models, questions, readiness, metrics (FastAPI)."""

from __future__ import annotations

import datetime as dt
import hashlib
import hmac
from collections.abc import Awaitable, Callable
from typing import Annotated

import msgspec
from fastapi import FastAPI, Header, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.exceptions import HTTPException

from dreamseed_cli.api.caller import read_caller
from dreamseed_cli.api.errors import ApiError
from dreamseed_cli.api.http import PRIVATE
from dreamseed_cli.api.library import Library
from dreamseed_cli.api.metrics import ApiMetrics
from dreamseed_cli.api.settings import ApiSettings
from dreamseed_cli.core.exposition import ONLY, exposition
from dreamseed_cli.gateway.proto.front_pb2 import Question

# §C2: the CDN answers for five minutes; that a question is missing it believes for a shorter time.
_QUESTION_KEPT = "public, max-age=300"
_ABSENCE_KEPT = "public, max-age=30"
_JSON = "application/json"
_PRIVATE = {name.decode(): value.decode() for name, value in PRIVATE}
_EPOCH = dt.datetime.fromtimestamp(0, dt.UTC)


def build_pages(settings: ApiSettings, library: Library, metrics: ApiMetrics) -> FastAPI:
    """The application behind the completions' routes."""
    pages = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    _add_models(pages, settings, library)
    _add_questions(pages, library)
    _add_probes(pages, settings, library, metrics)

    @pages.middleware("http")
    async def count(request: Request, answer: Callable[[Request], Awaitable[Response]]) -> Response:
        response = await answer(request)
        metrics.requests.labels(_route(request), str(response.status_code), "front").inc()
        return response

    @pages.exception_handler(ApiError)
    async def refused(request: Request, error: ApiError) -> Response:
        return _error(error)

    @pages.exception_handler(HTTPException)
    async def unknown(request: Request, error: HTTPException) -> Response:
        return _error(ApiError(error.status_code, f"{error.detail}: {request.method} {request.url.path}"))

    return pages


def _add_models(pages: FastAPI, settings: ApiSettings, library: Library) -> None:
    @pages.get("/v1/models")
    async def models(request: Request) -> Response:
        caller = read_caller(request.scope["headers"], allow_anonymous=settings.allow_anonymous)
        listed = [_model(name) for name in await library.models(caller.key)]
        return _json({"object": "list", "data": listed}, _PRIVATE)

    @pages.get("/v1/models/{name:path}")
    async def model(request: Request, name: str) -> Response:
        caller = read_caller(request.scope["headers"], allow_anonymous=settings.allow_anonymous)
        if name not in await library.models(caller.key):
            raise ApiError(404, f"there is no model {name[:100]!r}", code="model_not_found", param="model")
        return _json(_model(name), _PRIVATE)


def _add_questions(pages: FastAPI, library: Library) -> None:
    # Without a key: what the CDN keeps it hands to everybody.
    @pages.api_route("/v1/questions/{question_id}", methods=["GET", "HEAD"])
    async def question(question_id: str, if_none_match: Annotated[str | None, Header()] = None) -> Response:
        try:
            body = _question(await library.question(question_id))
        except ApiError as error:
            return _error(error, {"cache-control": _ABSENCE_KEPT} if error.status == 404 else _PRIVATE)
        etag = f'"{hashlib.sha256(body).hexdigest()}"'
        headers = {"cache-control": _QUESTION_KEPT, "etag": etag, "x-content-type-options": "nosniff"}
        if if_none_match is not None and _matches(if_none_match, etag):
            return Response(status_code=304, headers=headers)
        return Response(body, media_type=_JSON, headers=headers)


def _add_probes(pages: FastAPI, settings: ApiSettings, library: Library, metrics: ApiMetrics) -> None:
    @pages.get("/readyz")
    async def readyz() -> Response:
        ready = await library.ready()
        return _json({"ready": ready}, _PRIVATE, status=200 if ready else 503)

    token = settings.metrics_token

    @pages.get("/metrics")
    async def show_metrics(request: Request) -> Response:
        if token is None and not settings.on_loopback:
            raise HTTPException(404, "set METRICS_TOKEN to have metrics beyond loopback")
        wanted = f"Bearer {token.get_secret_value()}" if token is not None else ""
        shown = request.headers.get("authorization", "")
        if wanted and not hmac.compare_digest(shown.encode(), wanted.encode()):
            raise ApiError(401, "the metrics need their own bearer token", code="invalid_api_key")
        text = exposition(metrics.registry, request.query_params.getlist(ONLY))
        return Response(text, media_type=CONTENT_TYPE_LATEST)


def _matches(if_none_match: str, etag: str) -> bool:
    """RFC 9110's weak comparison: a cache on the way may have made the validator weak."""
    tags = (tag.strip().removeprefix("W/") for tag in if_none_match.split(","))
    return any(tag in {etag, "*"} for tag in tags)


def _question(question: Question) -> bytes:
    """The same bytes for the same question on every front, since they are its ETag."""
    updated_at = _EPOCH + dt.timedelta(microseconds=question.updated_at_us)
    return msgspec.json.encode(
        {"id": question.id, "updated_at": updated_at, "content": msgspec.Raw(question.content)}
    )


def _model(name: str) -> dict[str, object]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "dreamseed"}


def _json(document: object, headers: dict[str, str], *, status: int = 200) -> Response:
    return Response(msgspec.json.encode(document), status, headers, _JSON)


def _error(error: ApiError, headers: dict[str, str] = _PRIVATE) -> Response:
    extra = {name.decode(): value.decode() for name, value in error.headers()}
    return Response(error.body(), error.status, {**headers, **extra}, _JSON)


def _route(request: Request) -> str:
    """The route's pattern: paths as they are would make a metric for each question."""
    return str(getattr(request.scope.get("route"), "path", "unknown"))
