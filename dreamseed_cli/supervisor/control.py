"""The control socket: what the running supervisor tells other commands of the same user."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import aiohttp
import msgspec
from aiohttp import web

from dreamseed_cli.core.errors import FailedError, UsageError
from dreamseed_cli.core.paths import StateDir
from dreamseed_cli.supervisor.snapshot import RollingSnapshot, StackSnapshot

_TIMEOUT = aiohttp.ClientTimeout(total=5.0)


class _Restart(msgspec.Struct, forbid_unknown_fields=True):
    """The body of `POST /restart`."""

    replicas: tuple[str, ...] = ()
    """Their names; none: all."""


@asynccontextmanager
async def control_server(
    state: StateDir,
    snapshot: Callable[[], StackSnapshot],
    restart: Callable[[Sequence[str]], RollingSnapshot],
) -> AsyncIterator[None]:
    """Answer, to this user only and for the block's duration, `GET /status` with the current snapshot and
    `POST /restart` by beginning a rolling restart (409 with a cause if that cannot be).
    """

    async def tell(_: web.Request) -> web.Response:
        return _json(snapshot())

    async def begin(request: web.Request) -> web.Response:
        try:
            return _json(restart(msgspec.json.decode(await request.read(), type=_Restart).replicas), 202)
        except msgspec.MsgspecError as error:
            return _json({"cause": str(error)}, 400)
        except UsageError as error:
            return _json(error.to_data(), 409)

    application = web.Application()
    application.router.add_get("/status", tell)
    application.router.add_post("/restart", begin)
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


def fetch_snapshot(state: StateDir) -> StackSnapshot:
    """Ask the running supervisor. FailedError if it does not answer. Not for use inside an event loop."""
    return asyncio.run(_fetch(state))


def begin_restart(state: StateDir, names: Sequence[str]) -> RollingSnapshot:
    """Have the running supervisor restart these replicas one after another, all if none is named.

    Returns as soon as it has begun: `fetch_snapshot` tells how far it is. UsageError if it cannot be,
    FailedError if the supervisor does not answer. Not for use inside an event loop.
    """
    status, body = asyncio.run(_call(state, "POST", "/restart", {"replicas": list(names)}))
    if status == web.HTTPConflict.status_code:
        told = msgspec.json.decode(body, type=dict[str, str])
        raise UsageError(told["cause"], place=told["place"], remedy=told["remedy"])
    return msgspec.json.decode(body, type=RollingSnapshot)


async def _fetch(state: StateDir) -> StackSnapshot:
    _, body = await _call(state, "GET", "/status")
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


async def _call(state: StateDir, method: str, path: str, body: object = None) -> tuple[int, bytes]:
    """The supervisor's status and answer; one that it takes for a mistake of ours is raised."""
    path_to_it = state.socket("control")
    connector = aiohttp.UnixConnector(str(path_to_it))
    try:
        async with (
            aiohttp.ClientSession(connector=connector, timeout=_TIMEOUT) as session,
            session.request(method, f"http://control{path}", json=body) as response,
        ):
            if response.status != web.HTTPConflict.status_code:
                response.raise_for_status()
            return response.status, await response.read()
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        raise FailedError(
            f"the supervisor does not answer: {error or type(error).__name__}",
            place=str(path_to_it),
            remedy="It may be just starting or ending: try again, or see `dreamseed logs supervisor`.",
        ) from error
