"""The gateway's server: LLMService, what the API front asks for, health; on loopback, or with TLS."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import grpc
import structlog
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from dreamseed_cli.core.address import is_loopback
from dreamseed_cli.core.errors import UsageError
from dreamseed_cli.core.exposition import exposition
from dreamseed_cli.gateway.address import explain_bind_failure, listen_address
from dreamseed_cli.gateway.assembly import Assembly
from dreamseed_cli.gateway.doorway import DoorOrder
from dreamseed_cli.gateway.proto import SERVICE
from dreamseed_cli.gateway.security.server import ServerCertificates
from dreamseed_cli.gateway.settings import GatewaySettings, ReplicaTarget
from dreamseed_cli.profile.difference import differences
from dreamseed_cli.profile.live import with_live_gateway
from dreamseed_cli.profile.schema import Gateway

_log = structlog.get_logger(__name__)
_SERVICES = ("", SERVICE)


class GatewayServer:
    """Make it inside a running event loop; start() it, and stop() it at the end."""

    def __init__(self, settings: GatewaySettings) -> None:
        self._settings = settings
        gateway, services = settings.gateway, settings.services
        accounts = services is not None and bool(services.postgres_dsn or services.postgres_dsn_env)
        self._address = listen_address(gateway.host, gateway.port, gateway.security, accounts=accounts)
        tls = gateway.security.tls
        self._certificates = ServerCertificates(tls) if tls is not None else None
        self._assembly = Assembly(settings)
        self._replicas = self._assembly.replicas
        self._health = health.aio.HealthServicer()
        self._server = self._build()
        self.port = 0

    async def start(self) -> None:
        """Listen, and take `port`. FailedError if another process has it."""
        gateway = self._settings.gateway
        try:
            self.port = self._listen()
        except RuntimeError as error:
            raise explain_bind_failure(gateway.host, gateway.port) from error
        await self._assembly.open()
        await self._tell_health()
        await self._server.start()
        tls = self._certificates is not None
        _log.info("gateway listens", host=gateway.host, port=self.port, tls=tls)

    def _listen(self) -> int:
        if self._certificates is None:
            return self._server.add_insecure_port(self._address)
        return self._server.add_secure_port(self._address, self._certificates.credentials())

    async def set_replicas(self, targets: Sequence[ReplicaTarget]) -> None:
        """Take a new table of replicas; requests under way go on. UsageError if two have one name."""
        self._replicas.update(targets)
        self._assembly.metrics.note_states(self._replicas.states())
        await self._tell_health()
        _log.info("replicas set", replicas={target.name: target.ready for target in targets})

    def set_settings(self, gateway: Gateway) -> None:
        """Go by these settings from now on; requests under way and in the queues go on.

        UsageError, and nothing is changed, if they differ in one that is only read at the start.
        """
        running = self._settings.gateway
        if gateway.port == 0:  # any port: the one that it has
            gateway = gateway.model_copy(update={"port": running.port})
        fixed = differences(with_live_gateway(running, gateway), gateway)
        if fixed:
            names = ", ".join(change.path for change in fixed)
            raise UsageError(
                f"{names} cannot change while the gateway runs", place="settings", remedy="Restart it."
            )
        self._settings = self._settings.model_copy(update={"gateway": gateway})
        self._assembly.take_settings(gateway)
        _log.info("settings taken", changed=[change.path for change in differences(running, gateway)])

    def set_doorway(self, order: DoorOrder) -> None:
        """Let in whom the order says, until it ends; calls under way and in the queues go on."""
        self._assembly.doorway.take(order)

    @property
    def drain_timeout_s(self) -> float:
        """How long `stop` gives running calls."""
        return self._settings.gateway.drain_timeout_s

    def stats(self) -> dict[str, Any]:
        """What the gateway does now and has done since its start, JSON-able."""
        return {
            "port": self.port,
            "simulated": self._settings.simulated,
            "calls": self._assembly.doorway.calls,
            "letting": self._assembly.doorway.letting.value,
            "journal_bytes": self._assembly.journal_bytes(),
            "replicas": self._replicas.stats(),
            "totals": self._replicas.totals(),
        }

    def metrics_text(self, names: Sequence[str] = ()) -> bytes:
        """What the gateway counts, in Prometheus's text format. names: of these only; empty: everything."""
        metrics = self._assembly.metrics
        metrics.set_replicas(self._replicas.stats())
        return exposition(metrics.registry, names)

    async def stop(self) -> None:
        """Say NOT_SERVING, refuse new calls, give running ones for `drain_timeout_s`, cancel the rest."""
        await self._health.enter_graceful_shutdown()
        await self._server.stop(self.drain_timeout_s)
        await self._assembly.close()

    def _build(self) -> grpc.aio.Server:
        gateway = self._settings.gateway
        server = grpc.aio.server(options=_options(gateway))
        server.add_generic_rpc_handlers(self._assembly.handlers())
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        if is_loopback(gateway.host):
            # Beyond loopback nobody needs to be told what there is to call.
            names = (SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME)
            reflection.enable_server_reflection(names, server)
        return server

    async def _tell_health(self) -> None:
        serving = health_pb2.HealthCheckResponse
        status = serving.SERVING if self._replicas.any_ready() else serving.NOT_SERVING
        for service in _SERVICES:
            await self._health.set(service, status)


def _options(gateway: Gateway) -> list[tuple[str, int]]:
    options = [
        # Two servers on one port would share its calls without a word.
        ("grpc.so_reuseport", 0),
        ("grpc.max_receive_message_length", gateway.max_message_bytes),
        ("grpc.max_send_message_length", gateway.max_message_bytes),
        # A client that vanished without a word holds an engine's slot until this finds out.
        ("grpc.keepalive_time_ms", 30_000),
        ("grpc.keepalive_timeout_ms", 10_000),
        # The HTTP front asks over an idle connection, too, whether the tunnel still stands. gRPC would count
        # that as abuse, hang up after 45 s, and have the front ask half as often. (To permit it by
        # keepalive_permit_without_calls would ping idle fronts, and Cloud Run's answer nothing while idle.)
        ("grpc.http2.max_ping_strikes", 0),
    ]
    if not is_loopback(gateway.host):
        # An expired or revoked client certificate must not live on in a connection that never ends.
        options += [("grpc.max_connection_age_ms", 3_600_000), ("grpc.max_concurrent_streams", 1024)]
    return options
