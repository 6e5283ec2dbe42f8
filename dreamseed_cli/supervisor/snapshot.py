"""The stack at one moment, as the live view, `dreamseed status` and the control socket show it."""

from __future__ import annotations

from dataclasses import dataclass

from dreamseed_cli.core.result import Provenance
from dreamseed_cli.profile.difference import SettingChange
from dreamseed_cli.supervisor.failover.snapshot import FailoverSnapshot
from dreamseed_cli.supervisor.gpu.snapshot import CardSnapshot

_SERVING = {"ready", "degraded"}


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
    restarts: int = 0
    """How often this supervisor started it again."""
    retry_at: float | None = None
    """When it is started again, in seconds since the epoch; only while it waits for that."""
    drained: bool = False
    """Whether an operator wants no new requests there."""

    @property
    def takes(self) -> bool:
        """Whether requests may go there."""
        return not self.drained and self.state in _SERVING

    @property
    def word(self) -> str:
        """Its state as people read it: `drained` for one that would be ready."""
        return "drained" if self.drained and self.state in _SERVING else self.state


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
class RollingSnapshot:
    """How far a restart by wish has come. Times are seconds since the epoch."""

    wanted: tuple[str, ...]
    began_at: float
    done: tuple[str, ...] = ()
    current: str | None = None
    error: str = ""
    """Why it stopped early: what it had not reached was left alone."""
    finished_at: float | None = None


@dataclass(frozen=True, slots=True)
class ReloadOutcome:
    """What came of reading the profile again. With errors nothing was taken."""

    at: float
    """Seconds since the epoch."""
    taken: tuple[SettingChange, ...] = ()
    needs_restart: tuple[SettingChange, ...] = ()
    """What differs in the profile and goes on as it was."""
    restart_with: str = ""
    """The commands that would take those, too."""
    errors: tuple[dict[str, str], ...] = ()
    """As in the JSON envelope: kind, place, cause, remedy."""


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
    reload: ReloadOutcome | None = None
    """The last reload, if there was one."""
    rolling: RollingSnapshot | None = None
    """The last restart that was asked for."""
    cards: tuple[CardSnapshot, ...] = ()
    """The cards of this stack, where there is somebody who tells of them."""
    failover: FailoverSnapshot | None = None
    """The help from elsewhere."""

    @property
    def uptime_s(self) -> float:
        return self.taken_at - self.started_at

    @property
    def ready(self) -> int:
        """How many replicas take requests."""
        return sum(replica.word == "ready" for replica in self.replicas)
