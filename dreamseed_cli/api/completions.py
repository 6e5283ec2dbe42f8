"""POST /v1/chat/completions and /v1/completions.

Plain ASGI: this is the path of every answer, and a framework's share of it would be larger than ours.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import structlog

from dreamseed_cli.api.caller import read_caller
from dreamseed_cli.api.desk import Desk
from dreamseed_cli.api.errors import ApiError
from dreamseed_cli.api.exchange import Exchange
from dreamseed_cli.api.http import ClientLeft, Receive, Scope, Send, read_body
from dreamseed_cli.api.protocol import ChatRequest, Parser, TextRequest
from dreamseed_cli.api.responses import CHAT, TEXT, Dialect
from dreamseed_cli.api.translate import Asked, ask_chat, ask_text

_log = structlog.get_logger(__name__)


class Completions:
    """One kind of completion as an ASGI application. understand: from a parsed request to what is asked."""

    def __init__(
        self, desk: Desk, route: str, dialect: Dialect, parser: Parser, understand: Callable[[Any], Asked]
    ) -> None:
        self._desk = desk
        self._route = route
        self._dialect = dialect
        self._parser = parser
        self._understand = understand
        self._duration = desk.metrics.duration.labels(route)
        self._first_text = desk.metrics.first_text.labels(route)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; every failure becomes a response."""
        request_id = self._desk.ids.name(scope["headers"])
        exchange = Exchange(self._desk, self._dialect, receive, send, request_id)
        self._desk.metrics.in_flight.inc()
        try:
            await self._serve(scope, receive, exchange)
        except ApiError as error:
            await exchange.refuse(error)
        except ClientLeft:
            exchange.leave()
        except Exception:  # noqa: BLE001 - the last resort: a request never ends without a response
            _log.exception("request failed by a mistake of ours", route=self._route)
            await exchange.refuse(ApiError(500, "the front failed; its log says why", code="internal"))
        finally:
            self._count(exchange)
            exchange.tell()

    async def _serve(self, scope: Scope, receive: Receive, exchange: Exchange) -> None:
        if scope["method"] != "POST":
            raise ApiError(405, "use POST", code="method_not_allowed", allow="POST")
        settings = self._desk.settings
        caller = exchange.caller = read_caller(scope["headers"], allow_anonymous=settings.allow_anonymous)
        body = await read_body(scope, receive, settings.max_body_bytes)
        await exchange.answer(caller, self._understand(self._parser.parse(body)))

    def _count(self, exchange: Exchange) -> None:
        metrics = self._desk.metrics
        metrics.in_flight.dec()
        metrics.requests.labels(self._route, str(exchange.status), exchange.source).inc()
        self._duration.observe(exchange.elapsed_s)
        if exchange.first_text_s is not None:
            self._first_text.observe(exchange.first_text_s)


def completions(desk: Desk) -> dict[str, Completions]:
    """The routes of both kinds."""
    chat, text = "/v1/chat/completions", "/v1/completions"
    return {
        chat: Completions(desk, chat, CHAT, Parser(ChatRequest), ask_chat),
        text: Completions(desk, text, TEXT, Parser(TextRequest), ask_text),
    }
