"""Which services a profile means, which of them are our processes, and where the gateway finds them. Pure."""

from __future__ import annotations

import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dreamseed_cli.core.paths import StateDir
from dreamseed_cli.engine.types import Command
from dreamseed_cli.gateway.events.command import relay_command
from dreamseed_cli.gateway.events.settings import RelaySettings
from dreamseed_cli.gateway.settings import ServiceAddresses
from dreamseed_cli.profile.schema import Profile, Redis, Services
from dreamseed_cli.services.postgres import EmbeddedPostgres
from dreamseed_cli.services.valkey import NODES, ValkeyNode
from dreamseed_cli.supervisor.child import ChildSpec
from dreamseed_cli.supervisor.service_words import Standing, standings, without

POSTGRES, REDIS, RELAY = "postgres", "redis", "relay"
_POSTGRES_GRACE_S = 30.0  # a checkpoint: everything that is only in memory goes to the disk
_VALKEY_GRACE_S = 5.0
_RELAY_GRACE_S = 15.0


@dataclass(frozen=True, slots=True)
class ServicePlan:
    """One service that is watched, and how it is started (spec is None for one that is not ours)."""

    name: str
    mode: str
    endpoint: str
    spec: ChildSpec | None
    without: str
    """What is missing while it is not ready."""


@dataclass(frozen=True, slots=True)
class ServicesPlan:
    """Everything beside the engines.

    postgres, valkey: the embedded servers, if there are any. standings: what has no process to watch.
    """

    addresses: ServiceAddresses
    watched: tuple[ServicePlan, ...] = ()
    standings: tuple[Standing, ...] = ()
    postgres: EmbeddedPostgres | None = None
    valkey: tuple[ValkeyNode, ...] = ()
    files: Mapping[Path, str] = field(default_factory=dict)

    @property
    def stop_bound_s(self) -> float:
        """The longest that their orderly end may take: the relay, then the others together."""
        grace = {plan.name: plan.spec.grace_s for plan in self.watched if plan.spec}
        relay = grace.pop(RELAY, 0.0)
        return relay + max(grace.values(), default=0.0)


def embedded_postgres(state: StateDir) -> EmbeddedPostgres:
    """The embedded server of a state folder, whether it runs or not."""
    return EmbeddedPostgres(data=state.root / "postgres", socket_dir=state.socket_dir)


def valkey_ports_needed(services: Services) -> int:
    """How many loopback ports the plan takes: each node's own, and one for the nodes among themselves."""
    return 2 * NODES if services.redis.mode == "embedded" else 0


def valkey_dir(state: StateDir) -> Path:
    """The folder of the Valkey nodes, their password and their ports."""
    return state.root / "valkey"


def plan_services(profile: Profile, state: StateDir, *, valkey_ports: Sequence[int] = ()) -> ServicesPlan:
    """The services of a profile. valkey_ports: `valkey_ports_needed()` loopback ports."""
    services = profile.services
    postgres = embedded_postgres(state) if services.postgres.mode == "embedded" else None
    nodes = _valkey_nodes(state, valkey_ports) if services.redis.mode == "embedded" else ()
    relay = services.kafka.mode == "external" and services.postgres.mode != "off"
    addresses = _addresses(services, state, postgres, nodes)
    watched = [
        *_postgres(profile, state, postgres),
        *_redis(services.redis, state, nodes),
        *(_relay(services, state) if relay else ()),
    ]
    files = {_relay_file(state): _relay_settings(services, addresses)} if relay else {}
    return ServicesPlan(addresses, tuple(watched), tuple(standings(profile)), postgres, tuple(nodes), files)


def _addresses(
    services: Services, state: StateDir, postgres: EmbeddedPostgres | None, nodes: Sequence[ValkeyNode]
) -> ServiceAddresses:
    redis = services.redis
    external = redis.mode == "external"
    return ServiceAddresses(
        postgres_dsn=postgres.dsn() if postgres else None,
        postgres_dsn_env=services.postgres.dsn_env if services.postgres.mode == "external" else None,
        redis_nodes=redis.nodes if external else tuple(node.address for node in nodes),
        redis_password_file=str(password_file(state)) if nodes else None,
        redis_password_env=redis.password_env if external else None,
        redis_tls=external and redis.tls,
        journal=str(state.root / "journal"),
        keep_events=services.kafka.mode != "off",
        events_relayed=services.kafka.mode == "external",
        keep_requests_days=services.postgres.keep_requests_days,
    )


def password_file(state: StateDir) -> Path:
    """Where the embedded Valkey's password is kept."""
    return valkey_dir(state) / "password"


def _postgres(profile: Profile, state: StateDir, server: EmbeddedPostgres | None) -> list[ServicePlan]:
    settings = profile.services.postgres
    if settings.mode == "off":
        return []
    lost = without(POSTGRES, profile)
    if server is None:
        return [ServicePlan(POSTGRES, "external", f"${settings.dsn_env}", None, lost)]
    spec = _spec(state, POSTGRES, Command(server.server()), f"unix:{server.socket_dir}", _POSTGRES_GRACE_S)
    return [ServicePlan(POSTGRES, "embedded", spec.endpoint, spec, lost)]


def _redis(redis: Redis, state: StateDir, nodes: Sequence[ValkeyNode]) -> list[ServicePlan]:
    if redis.mode == "off":
        return []
    if redis.mode == "external":
        return [ServicePlan(REDIS, "external", ", ".join(redis.nodes), None, without(REDIS))]
    plans = []
    for index, node in enumerate(nodes):
        name = f"valkey-{index}"
        spec = _spec(state, name, Command(node.server()), node.address, _VALKEY_GRACE_S)
        plans.append(ServicePlan(name, "embedded", node.address, spec, without(name)))
    return plans


def _valkey_nodes(state: StateDir, ports: Sequence[int]) -> list[ValkeyNode]:
    folder = valkey_dir(state)
    return [ValkeyNode(folder / str(index), ports[index], ports[NODES + index]) for index in range(NODES)]


def _relay(services: Services, state: StateDir) -> list[ServicePlan]:
    brokers = ", ".join(services.kafka.brokers)
    spec = _spec(state, RELAY, relay_command(_relay_file(state)), brokers, _RELAY_GRACE_S)
    return [ServicePlan(RELAY, "external", brokers, spec, without(RELAY))]


def _relay_settings(services: Services, addresses: ServiceAddresses) -> str:
    return RelaySettings(
        postgres_dsn=addresses.postgres_dsn,
        postgres_dsn_env=addresses.postgres_dsn_env,
        kafka=services.kafka,
    ).model_dump_json()


def _spec(state: StateDir, name: str, command: Command, endpoint: str, grace_s: float) -> ChildSpec:
    # A smart shutdown (SIGTERM) would wait for every client to leave.
    stop_signal = signal.SIGINT if name == POSTGRES else signal.SIGTERM
    return ChildSpec(name, "service", command, endpoint, state.log(name), grace_s, stop_signal=stop_signal)


def _relay_file(state: StateDir) -> Path:
    return state.root / "relay.json"
