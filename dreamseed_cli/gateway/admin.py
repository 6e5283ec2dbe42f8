"""The supervisor's door to the gateway: HTTP on a Unix socket that only its owner may open."""

from __future__ import annotations

from pathlib import Path

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import TypeAdapter, ValidationError

from dreamseed_cli.core.errors import FailedError, UsageError
from dreamseed_cli.core.exposition import ONLY
from dreamseed_cli.gateway.doorway import DoorOrder
from dreamseed_cli.gateway.server import GatewayServer
from dreamseed_cli.gateway.settings import ReplicaTarget
from dreamseed_cli.profile.schema import Gateway

_TARGETS = TypeAdapter(list[ReplicaTarget])


class AdminServer:
    """`PUT /replicas` takes the whole table as a JSON list of ReplicaTarget; `PUT /settings` a profile's
    `gateway` table, of which only what can change while it runs may differ; `PUT /doorway` a DoorOrder: who
    is let in for a while; `GET /stats` tells the state;
    `GET /metrics[?name[]=NAME]` is for Prometheus, on loopback too if `metrics_port` is set.
    """

    def __init__(self, gateway: GatewayServer, socket: Path, metrics_port: int | None) -> None:
        self._gateway = gateway
        self._socket = socket
        self._metrics_port = metrics_port
        metrics = web.get("/metrics", self._get_metrics)
        private = (
            web.put("/replicas", self._put_replicas),
            web.put("/settings", self._put_settings),
            web.put("/doorway", self._put_doorway),
            web.get("/stats", self._get_stats),
            metrics,
        )
        self._private, self._public = _runner(*private), _runner(metrics)

    async def start(self) -> None:
        """Listen on the socket, mode 0600, and on the metrics port. FailedError if that is taken."""
        self._socket.unlink(missing_ok=True)
        await self._private.setup()
        await web.UnixSite(self._private, str(self._socket)).start()
        self._socket.chmod(0o600)
        if self._metrics_port is not None:
            await self._public.setup()
            try:
                await web.TCPSite(self._public, "127.0.0.1", self._metrics_port).start()
            except OSError as error:
                raise FailedError(
                    f"metrics cannot be offered there: {error.strerror}",
                    place=f"127.0.0.1:{self._metrics_port}",
                    remedy="Choose another gateway.metrics_port.",
                ) from error

    async def stop(self) -> None:
        await self._private.cleanup()
        await self._public.cleanup()
        self._socket.unlink(missing_ok=True)

    async def _put_replicas(self, request: web.Request) -> web.Response:
        try:
            await self._gateway.set_replicas(_TARGETS.validate_json(await request.read()))
        except (ValidationError, UsageError) as error:
            return _refusal(error)
        return web.json_response(self._gateway.stats())

    async def _put_settings(self, request: web.Request) -> web.Response:
        try:
            self._gateway.set_settings(Gateway.model_validate_json(await request.read()))
        except (ValidationError, UsageError) as error:
            return _refusal(error)
        return web.json_response(self._gateway.stats())

    async def _put_doorway(self, request: web.Request) -> web.Response:
        try:
            self._gateway.set_doorway(DoorOrder.model_validate_json(await request.read()))
        except ValidationError as error:
            return _refusal(error)
        return web.json_response(self._gateway.stats())

    async def _get_metrics(self, request: web.Request) -> web.Response:
        text = self._gateway.metrics_text(request.query.getall(ONLY, []))
        return web.Response(body=text, headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def _get_stats(self, request: web.Request) -> web.Response:
        return web.json_response(self._gateway.stats())


def _refusal(error: ValidationError | UsageError) -> web.Response:
    errors = (
        [error.to_data()]
        if isinstance(error, UsageError)
        else error.errors(include_url=False, include_context=False)
    )
    return web.json_response({"errors": errors}, status=400)


def _runner(*routes: web.RouteDef) -> web.AppRunner:
    app = web.Application()
    app.add_routes(routes)
    return web.AppRunner(app, access_log=None)
