"""What is asked for seldom: models, readiness, metrics (FastAPI)."""

from __future__ import annotations

import hmac

import msgspec
from fastapi import FastAPI, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.exceptions import HTTPException

from dreamseed_cli.api.caller import read_caller
from dreamseed_cli.api.errors import ApiError
from dreamseed_cli.api.http import PRIVATE, Event, Receive, Scope, Send
from dreamseed_cli.api.library import Library
from dreamseed_cli.api.metrics import ApiMetrics
from dreamseed_cli.api.settings import ApiSettings
from dreamseed_cli.core.exposition import ONLY, exposition

_JSON = "application/json"
_PRIVATE = {name.decode(): value.decode() for name, value in PRIVATE}


class Pages:
    """The application behind the other routes. Each of its responses is counted."""

    def __init__(self, settings: ApiSettings, library: Library, metrics: ApiMetrics) -> None:
        self._pages = _build(settings, library, metrics)
        self._requests = metrics.requests

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        status = 500

        async def note(event: Event) -> None:
            nonlocal status
            if event["type"] == "http.response.start":
                status = event["status"]
            await send(event)

        try:
            await self._pages(scope, receive, note)
        finally:
            self._requests.labels(_route(scope), str(status), "front").inc()


def _build(settings: ApiSettings, library: Library, metrics: ApiMetrics) -> FastAPI:
    pages = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    _add_models(pages, settings, library)
    _add_probes(pages, settings, library, metrics)

    @pages.exception_handler(ApiError)
    async def refused(request: Request, error: ApiError) -> Response:
        return _error(error)

    @pages.exception_handler(HTTPException)
    async def unknown(request: Request, error: HTTPException) -> Response:
        said = f"{error.detail}: {request.method} {request.url.path}"
        return _error(ApiError(error.status_code, said, allow=(error.headers or {}).get("Allow")))

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


def _model(name: str) -> dict[str, object]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "dreamseed"}


def _json(document: object, headers: dict[str, str], *, status: int = 200) -> Response:
    return Response(msgspec.json.encode(document), status, headers, _JSON)


def _error(error: ApiError) -> Response:
    extra = {name.decode(): value.decode() for name, value in error.headers()}
    return Response(error.body(), error.status, {**_PRIVATE, **extra}, _JSON)


def _route(scope: Scope) -> str:
    """The route's pattern: paths as they are would make a metric for each of them."""
    return str(getattr(scope.get("route"), "path", "unknown"))
