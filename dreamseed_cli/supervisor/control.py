"""The control socket: what the running supervisor tells other commands of the same user."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import aiohttp
import msgspec
from aiohttp import web
from aiohttp.typedefs import Handler
from pydantic import ValidationError

from dreamseed_cli.core.errors import DreamseedError, FailedError, UsageError
from dreamseed_cli.core.paths import StateDir
from dreamseed_cli.gateway.doorway import DoorOrder
from dreamseed_cli.supervisor.gateway_admin import GatewayStats
from dreamseed_cli.supervisor.snapshot import ReplicaSnapshot, RollingSnapshot, StackSnapshot
from dreamseed_cli.supervisor.winding import PartEnded, StackPart, WindDown

_TIMEOUT_S = 5.0
EXPLAINED = (web.HTTPConflict.status_code, web.HTTPServiceUnavailable.status_code)
"""Answers that say why: it cannot be now; it was tried and failed."""


class NoAnswer(FailedError):
    """Nothing came back from the supervisor: it is away, or deaf."""


class _Restart(msgspec.Struct, forbid_unknown_fields=True):
    """The body of `POST /restart`."""

    replicas: tuple[str, ...] = ()
    """Their names; none: all."""


class _Drain(msgspec.Struct, forbid_unknown_fields=True):
    """The body of `PUT /drained`."""

    replica: str
    drained: bool


@dataclass(frozen=True, slots=True)
class Orders:
    """What a running stack can be told. Each may raise a UsageError: it cannot be now."""

    restart: Callable[[Sequence[str]], RollingSnapshot]
    drain: Callable[[str, bool], ReplicaSnapshot]
    doorway: Callable[[DoorOrder], Awaitable[GatewayStats]]
    wind_down: Callable[[StackPart, float], Awaitable[PartEnded]]


@asynccontextmanager
async def control_server(
    state: StateDir, snapshot: Callable[[], StackSnapshot], orders: Orders
) -> AsyncIterator[None]:
    """Answer, to this user only and for the block's duration, `GET /status` with the current snapshot,
    `POST /restart` by beginning a rolling restart, `PUT /drained` by sending a replica nothing new or
    requests again, `PUT /doorway` by having the gateway let in whom a
    DoorOrder says, and `POST /wind-down` by ending a part of the stack. What cannot be is a 409 with a cause.
    """

    async def tell(_: web.Request) -> web.Response:
        return _json(snapshot())

    async def restart(request: web.Request) -> web.Response:
        wanted = msgspec.json.decode(await request.read(), type=_Restart)
        return _json(orders.restart(wanted.replicas), 202)

    async def drain(request: web.Request) -> web.Response:
        wanted = msgspec.json.decode(await request.read(), type=_Drain)
        return _json(orders.drain(wanted.replica, wanted.drained))

    async def doorway(request: web.Request) -> web.Response:
        return _json(await orders.doorway(DoorOrder.model_validate_json(await request.read())))

    async def wind_down(request: web.Request) -> web.Response:
        wanted = msgspec.json.decode(await request.read(), type=WindDown)
        # Whoever asked may be gone: what has begun to end ends.
        return _json(await asyncio.shield(orders.wind_down(wanted.part, wanted.within_s)))

    application = web.Application(middlewares=[_explain])
    application.router.add_get("/status", tell)
    application.router.add_post("/restart", restart)
    application.router.add_put("/drained", drain)
    application.router.add_put("/doorway", doorway)
    application.router.add_post("/wind-down", wind_down)
    runner = web.AppRunner(application, access_log=None, handle_signals=False, shutdown_timeout=1.0)
    await runner.setup()
    path = state.socket("control")
    try:
        path.unlink(missing_ok=True)
        await web.UnixSite(runner, str(path)).start()
        path.chmod(0o600)
        yield
    finally:
        await runner.cleanup()
        path.unlink(missing_ok=True)


@web.middleware
async def _explain(request: web.Request, handler: Handler) -> web.StreamResponse:
    """What was asked wrongly, or cannot be now, as an answer."""
    try:
        return await handler(request)
    except (msgspec.MsgspecError, ValidationError) as error:
        return _json({"cause": str(error)}, 400)
    except DreamseedError as error:
        return _json(error.to_data(), EXPLAINED[0] if isinstance(error, UsageError) else EXPLAINED[1])


def fetch_snapshot(state: StateDir) -> StackSnapshot:
    """Ask the running supervisor. FailedError if it does not answer. Not for use inside an event loop."""
    return asyncio.run(fetch(state))


def begin_restart(state: StateDir, names: Sequence[str]) -> RollingSnapshot:
    """Have the running supervisor restart these replicas one after another, all if none is named.

    Returns as soon as it has begun: `fetch_snapshot` tells how far it is. UsageError if it cannot be,
    FailedError if the supervisor does not answer. Not for use inside an event loop.
    """
    return msgspec.json.decode(
        _ordered(state, "POST", "/restart", {"replicas": list(names)}), type=RollingSnapshot
    )


def drain(state: StateDir, name: str, *, drained: bool) -> ReplicaSnapshot:
    """Have the running supervisor send this replica nothing new, or requests again (`drained=False`).

    Raises as `begin_restart` does. Not for use inside an event loop.
    """
    body = _ordered(state, "PUT", "/drained", {"replica": name, "drained": drained})
    return msgspec.json.decode(body, type=ReplicaSnapshot)


def _ordered(state: StateDir, method: str, path: str, order: object) -> bytes:
    """The supervisor's answer; UsageError if what is asked cannot be now."""
    status, body = asyncio.run(call(state, method, path, order))
    if status == web.HTTPConflict.status_code:
        told = msgspec.json.decode(body, type=dict[str, str])
        raise UsageError(told["cause"], place=told["place"], remedy=told["remedy"])
    return body


async def fetch(state: StateDir) -> StackSnapshot:
    """The same inside an event loop."""
    _, body = await call(state, "GET", "/status")
    try:
        return msgspec.json.decode(body, type=StackSnapshot)
    except msgspec.DecodeError as error:
        raise FailedError(
            f"the supervisor's answer is another version's: {error}",
            place=str(state.socket("control")),
            remedy="Restart the stack with this version: dreamseed stop, dreamseed serve.",
        ) from error


def _json(data: object, status: int = 200) -> web.Response:
    return web.Response(body=msgspec.json.encode(data), status=status, content_type="application/json")


async def call(
    state: StateDir, method: str, path: str, body: object = None, *, timeout_s: float = _TIMEOUT_S
) -> tuple[int, bytes]:
    """The supervisor's status and answer; one neither done nor EXPLAINED is raised as FailedError, none at
    all as NoAnswer.
    """
    timeout = aiohttp.ClientTimeout(total=timeout_s)
    path_to_it = state.socket("control")
    connector = aiohttp.UnixConnector(str(path_to_it))
    try:
        async with (
            aiohttp.ClientSession(connector=connector, timeout=timeout) as session,
            session.request(method, f"http://control{path}", json=body) as response,
        ):
            if response.status not in EXPLAINED:
                response.raise_for_status()
            return response.status, await response.read()
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        raise (FailedError if isinstance(error, aiohttp.ClientResponseError) else NoAnswer)(
            f"the supervisor does not answer: {error or type(error).__name__}",
            place=str(path_to_it),
            remedy="It may be just starting or ending: try again, or see `dreamseed logs supervisor`.",
        ) from error
