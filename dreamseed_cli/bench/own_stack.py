"""The stack that is measured: the one that runs here already, or one of the bench's own."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from rich.console import Console

from dreamseed_cli.core.errors import DreamseedError, FailedError
from dreamseed_cli.core.paths import StateDir
from dreamseed_cli.core.result import Provenance
from dreamseed_cli.engine.types import Endpoint
from dreamseed_cli.profile.load import load_profile, with_gpus
from dreamseed_cli.profile.schema import Engine, Profile, RemoteEngine
from dreamseed_cli.profile.select import Choice
from dreamseed_cli.supervisor.control import fetch_snapshot
from dreamseed_cli.supervisor.running import gateway_address
from dreamseed_cli.supervisor.snapshot import ServiceSnapshot, StackSnapshot
from dreamseed_cli.supervisor.state import read_supervisor
from dreamseed_cli.supervisor.visit import Host, own_profile, with_own_stack

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class StackUnderTest:
    """A stack that serves.

    gateway: HOST:PORT of §D1's service. model: its name in requests. replicas: where each engine listens, by
    name. away: those of them that take no requests now. profile: None if it cannot be told which one it is.
    interrupted: set by the first Ctrl-C or SIGTERM while a stack of the bench's own is used.
    """

    gateway: str
    model: str
    replicas: Mapping[str, Endpoint]
    away: tuple[str, ...]
    services: tuple[ServiceSnapshot, ...]
    profile: Profile | None
    simulated: bool
    state: StateDir
    own: bool
    interrupted: asyncio.Event = field(default_factory=asyncio.Event)


Body = Callable[[StackUnderTest], Awaitable[_T]]


def running_stack(state: StateDir, profile: Profile | None = None) -> StackUnderTest | None:
    """The stack of `dreamseed serve` in this folder; None if nothing runs there. Not for use inside a loop.

    profile: what it was started with, for one that is no shipped profile. FailedError if it is just starting.
    """
    record = read_supervisor(state)
    if record is None or not record.alive():
        return None
    gateway_address(state)
    snapshot = fetch_snapshot(state)
    return _under_test(snapshot, profile or _shipped_profile(snapshot), state, own=False)


def run_with_own_stack(
    choice: Choice, state: StateDir, body: Body[_T], console: Console, *, services: bool = False
) -> _T:
    """Start a stack, run `body` against it once every replica (and service) is ready, and stop it.

    It runs beside a serving stack if `state` is a folder of its own. The first Ctrl-C sets
    `StackUnderTest.interrupted`, upon which the body comes to its end with what it has; the second one
    cancels it. Nothing is left behind either way. Raises as `supervisor.visit.with_own_stack`.
    """
    profile = own_profile(choice.profile, services=services)

    async def work(host: Host) -> _T:
        found = _under_test(host.snapshots(), profile, state, own=True, interrupted=host.interrupted)
        return await body(found)

    return with_own_stack(choice, state, work, console, services=services, lets_finish=True)


def _under_test(
    snapshot: StackSnapshot,
    profile: Profile | None,
    state: StateDir,
    *,
    own: bool,
    interrupted: asyncio.Event | None = None,
) -> StackUnderTest:
    if snapshot.gateway.address is None:
        raise FailedError(
            f"the gateway does not listen: it is {snapshot.gateway.state}",
            place=str(state.root),
            remedy="See what the stack does with: dreamseed status.",
        )
    return StackUnderTest(
        gateway=snapshot.gateway.address,
        model=snapshot.served_name,
        replicas={replica.name: Endpoint.parse(replica.endpoint) for replica in snapshot.replicas},
        away=tuple(replica.name for replica in snapshot.replicas if not replica.takes),
        services=snapshot.services,
        profile=profile,
        simulated=snapshot.provenance is Provenance.SIMULATED,
        state=state,
        own=own,
        interrupted=interrupted or asyncio.Event(),
    )


def _shipped_profile(snapshot: StackSnapshot) -> Profile | None:
    """A stack tells its profile's name only: the shipped one of that name, if it fits what runs."""
    try:
        profile = load_profile(snapshot.profile)
        if _replicas(profile.engine) != len(snapshot.replicas):
            group = getattr(profile.engine, "tensor_parallel_size", 1)
            profile = with_gpus(profile, len(snapshot.replicas) * group)
    except DreamseedError:
        return None
    return profile if profile.engine.served_name == snapshot.served_name else None


def _replicas(engine: Engine) -> int:
    return len(engine.urls) if isinstance(engine, RemoteEngine) else engine.replicas
