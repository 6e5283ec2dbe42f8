"""The gateway's server: LLMService with health and reflection on one loopback port."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import grpc
import structlog
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from prometheus_client import generate_latest

from dreamseed_cli.gateway.address import explain_bind_failure, listen_address
from dreamseed_cli.gateway.dispatch import Dispatcher
from dreamseed_cli.gateway.intake import Intake
from dreamseed_cli.gateway.metrics import GatewayMetrics
from dreamseed_cli.gateway.proto import SERVICE
from dreamseed_cli.gateway.replicas import Replicas
from dreamseed_cli.gateway.reporter import Reporter
from dreamseed_cli.gateway.service import LLMService
from dreamseed_cli.gateway.settings import GatewaySettings, ReplicaTarget
from dreamseed_cli.gateway.tracing import Tracing
from dreamseed_cli.gateway.validation import Validator
from dreamseed_cli.profile.schema import Gateway

_log = structlog.get_logger(__name__)
_SERVICES = ("", SERVICE)


class GatewayServer:
    """Make it inside a running event loop; start() it, and stop() it at the end."""

    def __init__(self, settings: GatewaySettings) -> None:
        self._settings = settings
        self._address = listen_address(settings.gateway.host, settings.gateway.port)
        self._metrics = GatewayMetrics()
        self._tracing = Tracing.from_environment(settings.served_name)
        self._replicas = Replicas(settings)
        self._health = health.aio.HealthServicer()
        self._server = self._build()
        self.port = 0

    async def start(self) -> None:
        """Listen, and take `port`. FailedError if another process has it."""
        gateway = self._settings.gateway
        try:
            self.port = self._server.add_insecure_port(self._address)
        except RuntimeError as error:
            raise explain_bind_failure(gateway.host, gateway.port) from error
        await self._tell_health()
        await self._server.start()
        _log.info("gateway listens", host=gateway.host, port=self.port, simulated=self._settings.simulated)

    async def set_replicas(self, targets: Sequence[ReplicaTarget]) -> None:
        """Take a new table of replicas; requests under way go on. UsageError if two have one name."""
        self._replicas.update(targets)
        await self._tell_health()
        _log.info("replicas set", replicas={target.name: target.ready for target in targets})

    def stats(self) -> dict[str, Any]:
        """What the gateway does now and has done since its start, JSON-able."""
        return {
            "port": self.port,
            "simulated": self._settings.simulated,
            "replicas": self._replicas.stats(),
            "totals": self._replicas.totals(),
        }

    def metrics_text(self) -> bytes:
        """Everything the gateway counts, in Prometheus's text format."""
        self._metrics.set_replicas(self._replicas.stats())
        return generate_latest(self._metrics.registry)

    async def stop(self) -> None:
        """Say NOT_SERVING, refuse new calls, give running ones for `drain_timeout_s`, cancel the rest."""
        await self._health.enter_graceful_shutdown()
        await self._server.stop(self._settings.gateway.drain_timeout_s)
        await self._replicas.close()
        if self._tracing is not None:
            await asyncio.to_thread(self._tracing.close)

    def _build(self) -> grpc.aio.Server:
        settings = self._settings
        intake = Intake(Validator(settings), default_timeout_s=settings.gateway.default_timeout_s)
        reporter = Reporter(settings.served_name, self._metrics, None, self._tracing)
        service = LLMService(intake, Dispatcher(self._replicas), reporter, simulated=settings.simulated)
        server = grpc.aio.server(options=_options(settings.gateway))
        server.add_generic_rpc_handlers((service.handler(),))
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        names = (SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, server)
        return server

    async def _tell_health(self) -> None:
        serving = health_pb2.HealthCheckResponse
        status = serving.SERVING if self._replicas.any_ready() else serving.NOT_SERVING
        for service in _SERVICES:
            await self._health.set(service, status)


def _options(gateway: Gateway) -> list[tuple[str, int]]:
    return [
        # Two servers on one port would share its calls without a word.
        ("grpc.so_reuseport", 0),
        ("grpc.max_receive_message_length", gateway.max_message_bytes),
        ("grpc.max_send_message_length", gateway.max_message_bytes),
        # A client that vanished without a word holds an engine's slot until this finds out.
        ("grpc.keepalive_time_ms", 30_000),
        ("grpc.keepalive_timeout_ms", 10_000),
        ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ]
