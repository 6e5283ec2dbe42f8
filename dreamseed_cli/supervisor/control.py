"""The control socket: what the running supervisor tells other commands of the same user."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import aiohttp
import msgspec
from aiohttp import web

from dreamseed_cli.core.errors import FailedError
from dreamseed_cli.core.paths import StateDir
from dreamseed_cli.supervisor.snapshot import StackSnapshot

_TIMEOUT = aiohttp.ClientTimeout(total=5.0)


@asynccontextmanager
async def control_server(state: StateDir, snapshot: Callable[[], StackSnapshot]) -> AsyncIterator[None]:
    """Answer `GET /status` with the current snapshot, to this user only, for the block's duration."""

    async def status(_: web.Request) -> web.Response:
        return web.Response(body=msgspec.json.encode(snapshot()), content_type="application/json")

    application = web.Application()
    application.router.add_get("/status", status)
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


async def _fetch(state: StateDir) -> StackSnapshot:
    path = state.socket("control")
    connector = aiohttp.UnixConnector(str(path))
    try:
        async with (
            aiohttp.ClientSession(connector=connector, timeout=_TIMEOUT) as session,
            session.get("http://control/status") as response,
        ):
            response.raise_for_status()
            return msgspec.json.decode(await response.read(), type=StackSnapshot)
    except (aiohttp.ClientError, OSError, TimeoutError, msgspec.DecodeError) as error:
        raise FailedError(
            f"the supervisor does not answer: {error or type(error).__name__}",
            place=str(path),
            remedy="It may be just starting or ending: try again, or see `dreamseed logs supervisor`.",
        ) from error
