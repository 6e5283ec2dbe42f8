"""ASGI without a framework, for the path that every answer takes: read a request, send a response."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from contextlib import asynccontextmanager
from typing import Any

from dreamseed_cli.api.errors import ApiError

Scope = MutableMapping[str, Any]
Event = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Event]]
Send = Callable[[Event], Awaitable[None]]
Header = tuple[bytes, bytes]

JSON: Header = (b"content-type", b"application/json")
PRIVATE: tuple[Header, ...] = (
    # An answer belongs to who asked: no cache on the way may keep it, no browser guess what it is.
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
)


BODY_S = 30.0
"""How long a request's body may take after its head."""


class ClientLeft(Exception):
    """Nobody waits for the response any more."""


async def read_body(scope: Scope, receive: Receive, limit: int) -> bytes:
    """The request's whole body. Raises ApiError 413 above `limit` bytes, 408 for one that takes longer than
    BODY_S, or ClientLeft.
    """
    for name, value in scope["headers"]:
        if name == b"content-length" and (not value.isdigit() or int(value) > limit):
            raise _too_long(limit)
    try:
        async with asyncio.timeout(BODY_S):
            return await _gathered(receive, limit)
    except TimeoutError:
        raise ApiError(408, f"the body did not come within {BODY_S:.0f} s", code="body_too_slow") from None


async def _gathered(receive: Receive, limit: int) -> bytes:
    event = await receive()
    body: bytes = event.get("body", b"")
    while event["type"] == "http.request" and event.get("more_body"):
        if len(body) > limit:
            raise _too_long(limit)
        event = await receive()
        body += event.get("body", b"")
    if event["type"] == "http.disconnect":
        raise ClientLeft
    if len(body) > limit:
        raise _too_long(limit)
    return body


def _too_long(limit: int) -> ApiError:
    return ApiError(413, f"the body is longer than {limit} bytes", code="body_too_long")


@asynccontextmanager
async def while_connected(receive: Receive) -> AsyncIterator[None]:
    """Cancel the block when the client leaves, and raise ClientLeft. The body must have been read; leave the
    block before the response's last part is sent, since its end looks like a client that left.
    """
    task = asyncio.current_task()
    assert task is not None  # noqa: S101 - for the type checker: coroutines run in tasks
    left = False

    async def watch() -> None:
        nonlocal left
        while (await receive())["type"] != "http.disconnect":
            pass
        left = True
        task.cancel()

    watcher = asyncio.create_task(watch())
    try:
        yield
    except asyncio.CancelledError:
        if not left:
            raise
        task.uncancel()
        raise ClientLeft from None
    finally:
        watcher.cancel()


async def start(send: Send, status: int, headers: list[Header]) -> None:
    """A response's status and headers."""
    await send({"type": "http.response.start", "status": status, "headers": headers})


async def write(send: Send, body: bytes, *, more: bool) -> None:
    """A part of the body."""
    await send({"type": "http.response.body", "body": body, "more_body": more})


async def respond(send: Send, status: int, headers: list[Header], body: bytes) -> None:
    """A whole response."""
    # A 304's would have to be the length of the answer that it saves (RFC 9110, 8.6).
    if status != 304:
        headers.append((b"content-length", b"%d" % len(body)))
    await start(send, status, headers)
    await write(send, body, more=False)
