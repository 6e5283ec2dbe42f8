"""One `dreamseed serve`, from the lock on the state folder to the last process that has ended."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import structlog
import uvloop

from dreamseed_cli import __version__
from dreamseed_cli.core.errors import FailedError, UsageError
from dreamseed_cli.core.paths import StateDir
from dreamseed_cli.core.processes import ProcessIdentity, boot_id, end_all
from dreamseed_cli.core.result import Provenance
from dreamseed_cli.core.threads import in_daemon_thread
from dreamseed_cli.engine.model_store import PREPARED_MODELS, ensure_model
from dreamseed_cli.gateway.doorway import DoorOrder
from dreamseed_cli.profile.schema import EmulatedEngine, Engine, RemoteEngine, VllmEngine
from dreamseed_cli.profile.select import Choice
from dreamseed_cli.services.ports import free_ports, remembered_ports
from dreamseed_cli.supervisor.control import Orders, control_server
from dreamseed_cli.supervisor.gateway_admin import GatewayStats
from dreamseed_cli.supervisor.model_revision import model_revision
from dreamseed_cli.supervisor.notify import Reports
from dreamseed_cli.supervisor.orphans import Orphan, end_orphans, find_orphans
from dreamseed_cli.supervisor.preflight import require_everything, require_port, require_reachable
from dreamseed_cli.supervisor.reload import reload_note
from dreamseed_cli.supervisor.reloader import reload_profile
from dreamseed_cli.supervisor.service_plan import valkey_dir, valkey_ports_needed
from dreamseed_cli.supervisor.snapshot import (
    GatewaySnapshot,
    ReloadOutcome,
    ReplicaSnapshot,
    RollingSnapshot,
    StackSnapshot,
)
from dreamseed_cli.supervisor.stack import StackPlan, plan_stack, ports_needed, reloaded_plan
from dreamseed_cli.supervisor.state import (
    ChildRecord,
    SupervisorRecord,
    forget,
    only_supervisor,
    write_supervisor,
)
from dreamseed_cli.supervisor.stopping import StopWish
from dreamseed_cli.supervisor.supervise import Supervisor
from dreamseed_cli.supervisor.takeover import take_over
from dreamseed_cli.supervisor.winding import PartEnded, StackPart

Viewer = Callable[[Callable[[], StackSnapshot]], Any]
"""Makes the coroutine that shows snapshots until it is cancelled."""

log = structlog.get_logger("supervisor")


@dataclass(frozen=True, slots=True)
class _Model:
    """A model as the engines get it, and what tells it from others under its name."""

    prepared: str | None
    revision: str


class Session:
    """The stack of one profile in one state folder."""

    def __init__(self, choice: Choice, state: StateDir) -> None:
        self._choice = choice
        self._profile = choice.profile
        self._why = choice.why
        self._state = state
        self._started_at = time.time()
        self._activity = "checking what is needed"
        self._notes: tuple[str, ...] = ()
        self._supervisor: Supervisor | None = None
        self._record: SupervisorRecord | None = None
        self._stop: StopWish | None = None
        self._plan: StackPlan | None = None
        self._reload: ReloadOutcome | None = None
        self._reports = Reports.from_environment()
        self.signum: signal.Signals | None = None
        """The signal that ended the session."""

    def run(self, viewer: Viewer, *, start_log: Callable[[], None]) -> StackSnapshot:
        """Serve until a signal ends it; the last snapshot. Raises before anything starts if it cannot start.

        start_log: called once it is sure that this is the only supervisor here.
        UsageError: already running, wrong profile or port. MissingError: something needed is not there.
        FailedError: the gateway died or no replica is left; everything has been stopped by then.
        """
        with only_supervisor(self._state):
            start_log()
            require_everything(self._profile, self._state)
            try:
                uvloop.run(self._run(viewer))
            finally:
                _end_descendants()
                if not any(orphan.members for orphan in find_orphans(self._state)):
                    forget(self._state)
        return self.snapshot()

    def end(self) -> None:
        """Wish for an orderly stop, as SIGTERM does. For viewers: call it inside the event loop."""
        if self._stop is not None:
            self._stop.requested.set()

    def listen(self) -> None:
        """Take the signals again, after a viewer had them for a while."""
        if self._stop is not None:
            self._stop.listen()

    def snapshot(self) -> StackSnapshot:
        """The stack as it stands now."""
        supervisor = self._supervisor
        gateway, replicas = supervisor.snapshot() if supervisor else (GatewaySnapshot("waiting"), ())
        engine = self._profile.engine
        failover = supervisor.failover() if supervisor else None
        help_simulated = failover is not None and any(one.simulated for one in failover.engines)
        own_simulated = isinstance(engine, EmulatedEngine) or any(one.simulated for one in replicas)
        return StackSnapshot(
            profile=self._profile.name,
            why=self._why,
            served_name=engine.served_name,
            provenance=Provenance.SIMULATED if own_simulated or help_simulated else Provenance.MEASURED,
            pid=os.getpid(),
            started_at=self._started_at,
            taken_at=time.time(),
            activity=self._activity,
            gateway=gateway,
            replicas=replicas,
            services=supervisor.services() if supervisor else (),
            notes=(*self._notes, *((reload_note(self._reload),) if self._reload else ())),
            reload=self._reload,
            rolling=supervisor.rolling() if supervisor else None,
            cards=supervisor.cards() if supervisor else (),
            failover=failover,
        )

    def tick(self) -> None:
        """The supervisor has looked after everything once more: systemd is told so, if it asked."""
        self._reports.tick(self.snapshot)

    def _restart(self, names: Sequence[str]) -> RollingSnapshot:
        return self._started("restart").restart(names)

    def _drain(self, name: str, drained: bool) -> ReplicaSnapshot:
        return self._started("drain").drain(name, drained=drained)

    async def _set_doorway(self, order: DoorOrder) -> GatewayStats:
        return await self._started("doorway").set_doorway(order)

    async def _wind_down(self, part: StackPart, within_s: float) -> PartEnded:
        return await self._started("wind-down").wind_down(part, within_s)

    def _started(self, place: str) -> Supervisor:
        if self._supervisor is None:
            raise UsageError("the stack is still starting", place=place, remedy="Wait: dreamseed status.")
        return self._supervisor

    async def _run(self, viewer: Viewer) -> None:
        self._stop = stop = StopWish()
        stop.listen()
        works = (viewer(self.snapshot), self._reload_when_asked(stop), self._tell_the_end(stop))
        beside = [asyncio.create_task(work) for work in works]
        beside[0].add_done_callback(_log_failure)
        try:
            orphans = await asyncio.to_thread(find_orphans, self._state)
            await self._require_addresses(orphans)
            self._sign_in()
            orders = Orders(self._restart, self._drain, self._set_doorway, self._wind_down)
            async with control_server(self._state, self.snapshot, orders):
                await self._serve(stop, orphans)
            self._do("stopped")
        finally:
            self.signum = stop.signum
            for task in beside:
                task.cancel()
            await asyncio.gather(*beside, return_exceptions=True)

    async def _require_addresses(self, orphans: Sequence[Orphan]) -> None:
        if not _gateway_lives(orphans):
            require_port(self._profile.gateway)
        if isinstance(self._profile.engine, RemoteEngine):
            await require_reachable(self._profile.engine)

    async def _serve(self, stop: StopWish, orphans: Sequence[Orphan]) -> None:
        model = await self._prepare(stop)
        if model is None:
            await asyncio.to_thread(end_orphans, orphans)
            return
        self._plan = plan = await asyncio.to_thread(self._take_over, orphans, model)
        if _gateway_lives(orphans) and plan.gateway.name not in plan.left:
            require_port(self._profile.gateway)  # only now that the old one has left it
        self._update_record(stop_bound_s=plan.stop_bound_s)
        self._supervisor = Supervisor(
            plan, self._state, on_activity=self._do, on_serving=self._gateway_serves, on_tick=self.tick
        )
        await self._supervisor.run(stop)

    def _take_over(self, orphans: Sequence[Orphan], model: _Model) -> StackPlan:
        """Plan the processes, and end what a killed run left unless it is one of them. Blocks."""
        found = {orphan.record.name: orphan.record for orphan in orphans}
        plan = self._make_plan(model, found)
        took = take_over(self._state, orphans, plan.specs, self._do)
        self._notes = took.notes
        # Again for the ports: what was ended holds none any more, and somebody else may.
        plan = self._make_plan(model, took.left) if orphans else plan
        return replace(plan, left=took.left, took_over=" ".join(took.notes))

    async def _reload_when_asked(self, stop: StopWish) -> None:
        while True:
            await stop.reload.wait()
            stop.reload.clear()
            self._reports.reloading()
            try:
                await self._take_profile()
            except Exception as error:  # a mistake of ours here must not end what serves
                log.exception("reload_failed")
                fault = FailedError(f"{type(error).__name__}: {error}", place="reload")
                self._reload = ReloadOutcome(time.time(), errors=(fault.to_data(),))
            self._reports.reloaded()

    async def _take_profile(self) -> None:
        plan = self._plan
        profile, outcome = await reload_profile(
            self._choice,
            self._profile,
            Path(plan.gateway_settings.admin_socket) if plan is not None else None,
            state_dir=self._named_state_dir(),
        )
        self._profile = profile
        if plan is not None and outcome.taken:
            self._plan = changed = reloaded_plan(plan, profile, self._state)
            self._update_record(stop_bound_s=changed.stop_bound_s)
            if self._supervisor is not None:
                self._supervisor.take(profile, changed)
        self._reload = outcome
        (log.error if outcome.errors else log.info)("reloaded", note=reload_note(outcome))

    async def _tell_the_end(self, stop: StopWish) -> None:
        await stop.requested.wait()
        self._reports.stopping()

    def _named_state_dir(self) -> str | None:
        """The state folder as a command has to name it; None for the one it would take anyway."""
        return None if self._state == StateDir.locate() else str(self._state.root)

    async def _prepare(self, stop: StopWish) -> _Model | None:
        """Prepare the model; None if a stop was wished meanwhile."""
        preparing = asyncio.create_task(in_daemon_thread(self._make_model))
        wished = asyncio.create_task(stop.requested.wait())
        await asyncio.wait({preparing, wished}, return_when=asyncio.FIRST_COMPLETED)
        wished.cancel()
        if stop.requested.is_set():
            preparing.cancel()
            return None
        return preparing.result()

    def _make_model(self) -> _Model:
        """Blocks: a model may have to be prepared."""
        engine, prepared = self._profile.engine, self._prepared_model()
        return _Model(prepared, model_revision(engine, _model_folder(engine, prepared)))

    def _make_plan(self, model: _Model, living: Mapping[str, ChildRecord]) -> StackPlan:
        """The processes of the profile. living: recorded children, which hold the ports they have."""
        return plan_stack(
            self._profile,
            self._state,
            model=model.prepared,
            model_revision=model.revision,
            free_ports=_engine_ports(ports_needed(self._profile.engine), living),
            valkey_ports=self._valkey_ports(ours=any(name.startswith("valkey") for name in living)),
        )

    def _valkey_ports(self, *, ours: bool) -> tuple[int, ...]:
        count = valkey_ports_needed(self._profile.services)
        if not count:
            return ()
        folder = valkey_dir(self._state)
        folder.mkdir(mode=0o700, exist_ok=True)
        return remembered_ports(folder / "ports.json", count, ours=ours)

    def _prepared_model(self) -> str | None:
        engine = self._profile.engine
        if isinstance(engine, VllmEngine) and engine.model in PREPARED_MODELS:
            return str(ensure_model(engine.model, self._do))
        if isinstance(engine, VllmEngine) and engine.model.startswith("~"):
            return str(Path(engine.model).expanduser())
        return None

    def _sign_in(self) -> None:
        pid = os.getpid()
        identity = ProcessIdentity.of(pid) or ProcessIdentity(pid, -1.0)
        self._record = SupervisorRecord(
            identity, boot_id(), self._started_at, profile=self._profile.name, version=__version__
        )
        write_supervisor(self._state, self._record)

    def _update_record(self, **changes: Any) -> None:
        if self._record is not None:
            self._record = replace(self._record, **changes)
            write_supervisor(self._state, self._record)

    def _gateway_serves(self, address: str) -> None:
        log.info("gateway_serving", address=address)
        self._update_record(gateway=address)

    def _do(self, activity: str) -> None:
        if activity != self._activity:
            self._activity = activity
            log.info("activity", activity=activity)


def _model_folder(engine: Engine, prepared: str | None) -> Path | None:
    """Where vLLM reads its model from; None for a Hugging Face id and for engines that read none."""
    if not isinstance(engine, VllmEngine):
        return None
    folder = Path(prepared or engine.model)
    return folder if folder.is_dir() else None


def _gateway_lives(orphans: Sequence[Orphan]) -> bool:
    """Whether a killed run's gateway still has the port."""
    return any(orphan.record.role == "gateway" for orphan in orphans)


def _log_failure(task: asyncio.Task[Any]) -> None:
    """A view that fails is no reason to stop serving, but one to be told."""
    error = None if task.cancelled() else task.exception()
    if error is not None:
        log.error("view_failed", cause=f"{type(error).__name__}: {error}")


def _end_descendants() -> None:
    """Whatever step was interrupted, such as a download: no process of ours outlives us."""
    own = ProcessIdentity.of(os.getpid())
    helpers = [member for member in own.family() if member != own] if own else []
    end_all(helpers, grace_s=1.0)


def _engine_ports(count: int, living: Mapping[str, ChildRecord]) -> list[int]:
    """A loopback port for each engine: the one that its recorded container has, else one that is free now."""
    ports = list(free_ports(count))
    for index in range(count):
        record = living.get(f"r{index}")
        port = urlsplit(record.endpoint).port if record is not None else None
        ports[index] = ports[index] if port is None else port
    return ports
