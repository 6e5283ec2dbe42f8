"""The supervisor's door to the gateway: HTTP on a Unix socket that only its owner may open."""

from __future__ import annotations

from pathlib import Path

from aiohttp import web
from pydantic import TypeAdapter, ValidationError

from dreamseed_cli.core.errors import UsageError
from dreamseed_cli.gateway.server import GatewayServer
from dreamseed_cli.gateway.settings import ReplicaTarget

_TARGETS = TypeAdapter(list[ReplicaTarget])


class AdminServer:
    """`PUT /replicas` takes the whole table as a JSON list of ReplicaTarget; `GET /stats` tells the state."""

    def __init__(self, gateway: GatewayServer, socket: Path) -> None:
        self._gateway = gateway
        self._socket = socket
        app = web.Application()
        app.add_routes([web.put("/replicas", self._put_replicas), web.get("/stats", self._get_stats)])
        self._runner = web.AppRunner(app, access_log=None)

    async def start(self) -> None:
        """Listen on the socket, mode 0600."""
        self._socket.unlink(missing_ok=True)
        await self._runner.setup()
        await web.UnixSite(self._runner, str(self._socket)).start()
        self._socket.chmod(0o600)

    async def stop(self) -> None:
        await self._runner.cleanup()
        self._socket.unlink(missing_ok=True)

    async def _put_replicas(self, request: web.Request) -> web.Response:
        try:
            await self._gateway.set_replicas(_TARGETS.validate_json(await request.read()))
        except ValidationError as error:
            return web.json_response(
                {"errors": error.errors(include_url=False, include_context=False)}, status=400
            )
        except UsageError as error:
            return web.json_response({"errors": [error.to_data()]}, status=400)
        return web.json_response(self._gateway.stats())

    async def _get_stats(self, request: web.Request) -> web.Response:
        return web.json_response(self._gateway.stats())
