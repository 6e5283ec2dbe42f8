"""What a fault strikes, and the proof that it strikes nothing but emulated engines of this stack."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import psutil

from dreamseed_cli.chaos.faults import Fault
from dreamseed_cli.core.errors import MissingError, UsageError
from dreamseed_cli.core.paths import StateDir
from dreamseed_cli.core.result import Provenance
from dreamseed_cli.supervisor.snapshot import StackSnapshot
from dreamseed_cli.supervisor.state import ChildRecord, read_children

_EMULATED_MODULE = "dreamseed_cli.engine.emulated"
_GATEWAY = "gateway"


@dataclass(frozen=True, slots=True)
class Target:
    """The children that a fault strikes, and the state in which they are well."""

    children: tuple[ChildRecord, ...]
    healthy: str

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(child.name for child in self.children)


def find_target(state: StateDir, snapshot: StackSnapshot, fault: Fault, replica: str | None) -> Target:
    """What the fault strikes.

    UsageError if it would strike anything but this stack's own emulated engines, or if there is no such
    replica. MissingError if it is not there, or not well, at the moment.
    """
    children = read_children(state)
    engines = tuple(child for child in children if child.role == "engine")
    _require_emulated(state, snapshot, engines)
    if fault.where == "gateway":
        return _gateway(snapshot, children, replica)
    if replica is not None:
        _require_known(snapshot, engines, replica)
    if fault.heals:
        chosen = tuple(engine for engine in engines if replica in {None, engine.name})
        return Target(_living(chosen), healthy="ready")
    return Target(_living((_engine(snapshot, engines, replica),)), healthy="ready")


def _require_emulated(state: StateDir, snapshot: StackSnapshot, engines: Sequence[ChildRecord]) -> None:
    """The strongest proof there is: the very processes on record run our emulated engine."""
    simulated = snapshot.provenance is Provenance.SIMULATED and (state.root / "engine.json").exists()
    living = [engine for engine in engines if engine.leader.alive()]
    if not engines or not simulated or not all(_runs_emulated(engine) for engine in living):
        raise UsageError(
            f"the engines of '{snapshot.profile}' are not emulated ones of this stack: nothing was touched",
            place=str(state.root),
            remedy="Rehearse on a stack of its own: "
            "dreamseed serve --profile emulated-rtx5090x3 --state-dir ANOTHER.",
        )


def _runs_emulated(engine: ChildRecord) -> bool:
    process = engine.leader.process()
    try:
        return process is not None and _EMULATED_MODULE in process.cmdline()
    except psutil.Error:
        return False


def _require_known(snapshot: StackSnapshot, engines: Sequence[ChildRecord], replica: str) -> None:
    own = [engine.name for engine in engines]
    if replica not in own:
        elsewhere = any(known.name == replica for known in snapshot.replicas)
        raise UsageError(
            f"{replica} runs elsewhere" if elsewhere else f"there is no replica '{replica}'",
            place="--replica",
            remedy=f"Choose one of: {', '.join(own)}.",
        )


def _engine(snapshot: StackSnapshot, engines: Sequence[ChildRecord], replica: str | None) -> ChildRecord:
    """The named engine, else the first; it must be ready, or nobody could tell what the fault did to it."""
    states = {known.name: known.state for known in snapshot.replicas}
    candidates = [engine for engine in engines if replica in {None, engine.name}]
    ready = [engine for engine in candidates if states.get(engine.name) == "ready"]
    if ready:
        return ready[0]
    told = ", ".join(f"{engine.name} is {states.get(engine.name, 'away')}" for engine in candidates)
    raise MissingError(
        f"there is nothing to break: {told}",
        place=candidates[0].name,
        remedy="Wait until it is ready (dreamseed status), or end an earlier fault: dreamseed chaos heal.",
    )


def _gateway(snapshot: StackSnapshot, children: Sequence[ChildRecord], replica: str | None) -> Target:
    if replica is not None:
        raise UsageError("the gateway is no replica", place="--replica", remedy="Leave --replica out.")
    if snapshot.gateway.state != "serving":
        raise MissingError(
            f"there is nothing to break: the gateway is {snapshot.gateway.state}",
            place=_GATEWAY,
            remedy="Wait until it serves: dreamseed status.",
        )
    return Target(_living([child for child in children if child.role == _GATEWAY]), healthy="serving")


def _living(children: Sequence[ChildRecord]) -> tuple[ChildRecord, ...]:
    living = tuple(child for child in children if child.leader.alive())
    if not living:
        raise MissingError(
            "what the fault is for does not run at the moment",
            place=", ".join(child.name for child in children) or "children.json",
            remedy="Wait until it is back: dreamseed status.",
        )
    return living
