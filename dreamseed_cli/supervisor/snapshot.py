"""The stack at one moment, as the live view, `dreamseed status` and the control socket show it."""

from __future__ import annotations

from dataclasses import dataclass

from dreamseed_cli.core.result import Provenance


@dataclass(frozen=True, slots=True)
class ReplicaSnapshot:
    """One replica. None stands for what is not known (yet), or what its server does not tell."""

    name: str
    state: str
    reason: str
    detail: str
    since: float
    """Seconds since the epoch."""
    endpoint: str
    pid: int | None = None
    cards: tuple[int, ...] = ()
    running: int | None = None
    """Requests being generated."""
    waiting: int | None = None
    """Requests queued inside the engine."""
    tokens_per_s: float | None = None
    """Generated over the last seconds."""
    kv_usage: float | None = None
    """Share of the KV cache in use, 0 to 1."""
    finished: int = 0
    """Calls the gateway finished on it."""
    failed: int = 0
    simulated: bool = False
    """Whether its answers say that it is an emulated engine, wherever it runs."""
    last_log: str | None = None
    """The last line of its log while it starts."""


@dataclass(frozen=True, slots=True)
class GatewaySnapshot:
    """The gateway process."""

    state: str
    """`waiting`, `starting`, `serving`, `draining` or `stopped`."""
    address: str | None = None
    """HOST:PORT once it listens."""
    pid: int | None = None


@dataclass(frozen=True, slots=True)
class ServiceSnapshot:
    """PostgreSQL, a Valkey node, the relay, or what stands in the place of one."""

    name: str
    mode: str
    """`embedded`, `external` or `off`."""
    state: str
    """`ready`, `starting`, `unusable`, `hung`, `unreachable`, `restarting`, `stopping`, `stopped`; without a
    process `off`, or `outbox` for events that stay in PostgreSQL."""
    reason: str = ""
    detail: str = ""
    means: str = ""
    """What is missing while it is not ready, or what its mode means."""
    since: float | None = None
    """Seconds since the epoch."""
    endpoint: str = ""
    pid: int | None = None
    restarts: int = 0

    @property
    def away(self) -> bool:
        """Whether it is configured and of no use now."""
        return self.state not in {"ready", "off", "outbox"}


@dataclass(frozen=True, slots=True)
class StackSnapshot:
    """The whole stack. provenance says how its figures came about: `measured` or `simulated`."""

    profile: str
    why: str
    served_name: str
    provenance: Provenance
    pid: int
    started_at: float
    """Seconds since the epoch."""
    taken_at: float
    activity: str
    """What the supervisor is doing, in a few words."""
    gateway: GatewaySnapshot
    replicas: tuple[ReplicaSnapshot, ...]
    services: tuple[ServiceSnapshot, ...] = ()
    notes: tuple[str, ...] = ()
    """What an operator should know about this start, such as orphans that were ended."""

    @property
    def uptime_s(self) -> float:
        return self.taken_at - self.started_at

    @property
    def ready(self) -> int:
        """How many replicas take requests."""
        return sum(replica.state == "ready" for replica in self.replicas)
