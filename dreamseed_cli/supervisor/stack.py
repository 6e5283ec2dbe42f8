"""Which processes a profile means: a pure function of profile, state folder and prepared model."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from dreamseed_cli.core.paths import StateDir
from dreamseed_cli.engine.emulated.command import emulated_command
from dreamseed_cli.engine.types import Command, Endpoint
from dreamseed_cli.engine.vllm_command import vllm_command
from dreamseed_cli.gateway.command import gateway_command
from dreamseed_cli.gateway.settings import GatewaySettings, ReplicaTarget
from dreamseed_cli.profile.live import with_live_gateway
from dreamseed_cli.profile.resilience import Failover, GpuCare, Supervision
from dreamseed_cli.profile.schema import (
    EmulatedEngine,
    Engine,
    Gateway,
    Profile,
    RemoteEngine,
    VllmEngine,
)
from dreamseed_cli.supervisor.child import ChildSpec
from dreamseed_cli.supervisor.failover.keeper import stop_bound_s as failover_bound_s
from dreamseed_cli.supervisor.service_plan import ServicesPlan, plan_services
from dreamseed_cli.supervisor.state import ChildRecord, gateway_file

_MARGIN_S = 10.0
"""What a process gets beyond its own drain time before it is killed."""


@dataclass(frozen=True, slots=True)
class ReplicaPlan:
    """One replica: where it listens, and how it is started (spec is None for one that runs elsewhere)."""

    name: str
    endpoint: Endpoint
    model: str
    """The model's name in requests to it."""
    cards: tuple[int, ...]
    spec: ChildSpec | None
    places: int | None = None
    """Requests it decodes at a time; None for an engine that does not tell."""

    def target(self, *, ready: bool) -> ReplicaTarget:
        """The replica as the gateway sees it."""
        target = ReplicaTarget(name=self.name, endpoint=str(self.endpoint), model=self.model, ready=ready)
        return target if self.places is None else target.model_copy(update={"places": self.places})


@dataclass(frozen=True, slots=True)
class StackPlan:
    """All processes of a stack, and the files they read at their start."""

    engine: Engine
    replicas: tuple[ReplicaPlan, ...]
    gateway: ChildSpec
    gateway_settings: GatewaySettings
    services: ServicesPlan
    files: Mapping[Path, str]
    supervision: Supervision = field(default_factory=Supervision)
    gpu: GpuCare = field(default_factory=GpuCare)
    failover: Failover = field(default_factory=Failover)
    left: Mapping[str, ChildRecord] = field(default_factory=dict)
    """What a killed supervisor left and may be adopted in place of a start, by name."""
    took_over: str = ""
    """What became of that, in words; empty if the last one ended in order."""

    @property
    def specs(self) -> tuple[ChildSpec, ...]:
        """The processes that can be adopted: the gateway and the engines that are ours."""
        return self.gateway, *(replica.spec for replica in self.replicas if replica.spec is not None)

    @property
    def stop_bound_s(self) -> float:
        """The longest an orderly stop may take: the gateway drains, the engines, the services; and kills."""
        engines = max((r.spec.grace_s for r in self.replicas if r.spec), default=0.0)
        help_s = failover_bound_s(self.failover)
        return self.gateway.grace_s + max(engines, help_s) + self.services.stop_bound_s + 2 * _MARGIN_S


def ports_needed(engine: Engine) -> int:
    """How many loopback ports the plan takes: containers cannot share a Unix socket with us."""
    return engine.replicas if isinstance(engine, VllmEngine) and engine.launcher == "docker" else 0


def plan_stack(
    profile: Profile,
    state: StateDir,
    *,
    model: str | None = None,
    model_revision: str = "",
    free_ports: Sequence[int] = (),
    valkey_ports: Sequence[int] = (),
) -> StackPlan:
    """The processes of a profile.

    model: a prepared model's folder, in place of the profile's name for it (vLLM only).
    model_revision: see `supervisor.model_revision`. free_ports: `ports_needed()` free loopback ports.
    valkey_ports: `valkey_ports_needed()` of them.
    """
    engine = profile.engine
    services = plan_services(profile, state, valkey_ports=valkey_ports)
    files = dict(services.files)
    if isinstance(engine, EmulatedEngine):
        files[_engine_file(state)] = engine.model_dump_json()
        replicas = tuple(_emulated(engine, state))
    elif isinstance(engine, VllmEngine):
        replicas = tuple(_vllm(engine, state, model or engine.model, free_ports, model_revision))
    else:
        replicas = tuple(_remote(engine))
    settings = _gateway_settings(profile, state, replicas).model_copy(
        update={"services": services.addresses, "model_revision": model_revision}
    )
    files[gateway_file(state)] = settings.model_dump_json()
    return StackPlan(
        engine,
        replicas,
        _gateway(settings, state),
        settings,
        services,
        files,
        supervision=profile.supervision,
        gpu=profile.gpu,
        failover=profile.failover,
    )


def reloaded_plan(plan: StackPlan, profile: Profile, state: StateDir) -> StackPlan:
    """The same processes by a profile that was read again: how they are watched, started and stopped now."""
    settings = plan.gateway_settings.model_copy(update={"gateway": profile.gateway})
    return replace(
        plan,
        gateway=_gateway(settings, state),
        gateway_settings=settings,
        files={**plan.files, gateway_file(state): settings.model_dump_json()},
        supervision=profile.supervision,
        gpu=profile.gpu,
        failover=profile.failover,
    )


def _emulated(engine: EmulatedEngine, state: StateDir) -> Iterator[ReplicaPlan]:
    for index in range(engine.replicas):
        name = f"r{index}"
        socket = state.socket(name)
        command = emulated_command(_engine_file(state), socket)
        config = engine.model_dump_json()
        spec = _engine_spec(engine, state, name, command, Endpoint(socket=socket), config)
        yield ReplicaPlan(
            name, Endpoint(socket=socket), engine.served_name, (), spec, places=engine.max_num_seqs
        )


def _vllm(
    engine: VllmEngine, state: StateDir, model: str, free_ports: Sequence[int], model_revision: str
) -> Iterator[ReplicaPlan]:
    for index in range(engine.replicas):
        name = f"r{index}"
        endpoint = (
            Endpoint(url=f"http://127.0.0.1:{free_ports[index]}")
            if engine.launcher == "docker"
            else Endpoint(socket=state.socket(name))
        )
        cards = _cards(engine, index)
        command = vllm_command(
            engine,
            container=_container_name(state, name),
            model=model,
            cards=cards,
            endpoint=endpoint,
        )
        # All else that it reads stands in its command.
        spec = _engine_spec(engine, state, name, command, endpoint, config=model_revision)
        yield ReplicaPlan(name, endpoint, engine.served_name, cards, spec, places=engine.max_num_seqs)


def _remote(engine: RemoteEngine) -> Iterator[ReplicaPlan]:
    for index, url in enumerate(engine.urls):
        yield ReplicaPlan(f"r{index}", Endpoint(url=url), engine.model, (), None)


def _cards(engine: VllmEngine, index: int) -> tuple[int, ...]:
    """Neighbouring cards, so that a tensor-parallel group shares the shortest path."""
    if engine.device == "cpu":
        return ()
    first = index * engine.tensor_parallel_size
    return tuple(range(first, first + engine.tensor_parallel_size))


def _container_name(state: StateDir, name: str) -> str:
    """Known, so that it can be stopped by name; of this state folder alone, so that it is never another's."""
    return f"dreamseed-{hashlib.sha256(bytes(state.root)).hexdigest()[:8]}-{name}"


def _engine_spec(
    engine: VllmEngine | EmulatedEngine,
    state: StateDir,
    name: str,
    command: Command,
    endpoint: Endpoint,
    config: str,
) -> ChildSpec:
    in_container = isinstance(engine, VllmEngine) and engine.launcher == "docker"
    return ChildSpec(
        name=name,
        role="engine",
        command=command,
        endpoint=str(endpoint),
        log=state.log(name),
        grace_s=engine.shutdown_timeout_s + _MARGIN_S,
        container=_container_name(state, name) if in_container else None,
        config=config,
    )


def _gateway(settings: GatewaySettings, state: StateDir) -> ChildSpec:
    return ChildSpec(
        name="gateway",
        role="gateway",
        command=gateway_command(gateway_file(state)),
        endpoint=f"unix:{state.socket('gateway-admin')}",
        log=state.log("gateway"),
        grace_s=settings.gateway.drain_timeout_s + _MARGIN_S,
        config=_fixed_part(settings),
    )


def _fixed_part(settings: GatewaySettings) -> str:
    """What a running gateway cannot be told anew: neither its rules nor its table of replicas."""
    fixed = with_live_gateway(settings.gateway, Gateway())
    return settings.model_copy(update={"gateway": fixed, "replicas": ()}).model_dump_json()


def _gateway_settings(profile: Profile, state: StateDir, replicas: Sequence[ReplicaPlan]) -> GatewaySettings:
    engine = profile.engine
    remote = isinstance(engine, RemoteEngine)
    return GatewaySettings(
        gateway=profile.gateway,
        served_name=engine.served_name,
        api=engine.api,
        max_model_len=None if isinstance(engine, RemoteEngine) else engine.max_model_len,
        usage_per_chunk=not remote,
        simulated=isinstance(engine, EmulatedEngine),
        api_key_env=engine.api_key_env if isinstance(engine, RemoteEngine) else None,
        admin_socket=str(state.socket("gateway-admin")),
        replicas=tuple(replica.target(ready=False) for replica in replicas),
    )


def _engine_file(state: StateDir) -> Path:
    return state.root / "engine.json"
