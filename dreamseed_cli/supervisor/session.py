"""One `dreamseed serve`, from the lock on the state folder to the last process that has ended."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import structlog
import uvloop

from dreamseed_cli import __version__
from dreamseed_cli.core.paths import StateDir
from dreamseed_cli.core.processes import ProcessIdentity, boot_id, end_all
from dreamseed_cli.core.result import Provenance
from dreamseed_cli.core.threads import in_daemon_thread
from dreamseed_cli.engine.model_store import PREPARED_MODELS, ensure_model
from dreamseed_cli.profile.schema import EmulatedEngine, Engine, RemoteEngine, VllmEngine
from dreamseed_cli.profile.select import Choice
from dreamseed_cli.services.ports import remembered_ports
from dreamseed_cli.supervisor.control import control_server
from dreamseed_cli.supervisor.model_revision import model_revision
from dreamseed_cli.supervisor.orphans import end_orphans, find_orphans, remove_stale_sockets
from dreamseed_cli.supervisor.preflight import require_everything, require_port, require_reachable
from dreamseed_cli.supervisor.service_plan import valkey_dir, valkey_ports_needed
from dreamseed_cli.supervisor.snapshot import GatewaySnapshot, StackSnapshot
from dreamseed_cli.supervisor.stack import StackPlan, plan_stack, ports_needed
from dreamseed_cli.supervisor.state import SupervisorRecord, forget, only_supervisor, write_supervisor
from dreamseed_cli.supervisor.stopping import StopWish
from dreamseed_cli.supervisor.supervise import Supervisor

Viewer = Callable[[Callable[[], StackSnapshot]], Any]
"""Makes the coroutine that shows snapshots until it is cancelled."""

log = structlog.get_logger("supervisor")


class Session:
    """The stack of one profile in one state folder."""

    def __init__(self, choice: Choice, state: StateDir) -> None:
        self._profile = choice.profile
        self._why = choice.why
        self._state = state
        self._started_at = time.time()
        self._activity = "checking what is needed"
        self._notes: tuple[str, ...] = ()
        self._supervisor: Supervisor | None = None
        self._record: SupervisorRecord | None = None
        self._stop: StopWish | None = None
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

    def snapshot(self) -> StackSnapshot:
        """The stack as it stands now."""
        supervisor = self._supervisor
        gateway, replicas = supervisor.snapshot() if supervisor else (GatewaySnapshot("waiting"), ())
        engine = self._profile.engine
        simulated = isinstance(engine, EmulatedEngine) or any(replica.simulated for replica in replicas)
        return StackSnapshot(
            profile=self._profile.name,
            why=self._why,
            served_name=engine.served_name,
            provenance=Provenance.SIMULATED if simulated else Provenance.MEASURED,
            pid=os.getpid(),
            started_at=self._started_at,
            taken_at=time.time(),
            activity=self._activity,
            gateway=gateway,
            replicas=replicas,
            services=supervisor.services() if supervisor else (),
            notes=self._notes,
        )

    async def _run(self, viewer: Viewer) -> None:
        self._stop = stop = StopWish()
        stop.listen()
        viewing = asyncio.create_task(viewer(self.snapshot))
        viewing.add_done_callback(_log_failure)
        try:
            await asyncio.to_thread(self._clear_the_last_run)
            await self._require_addresses()
            self._sign_in()
            async with control_server(self._state, self.snapshot):
                await self._serve(stop)
            self._do("stopped")
        finally:
            self.signum = stop.signum
            viewing.cancel()
            await asyncio.gather(viewing, return_exceptions=True)

    async def _require_addresses(self) -> None:
        require_port(self._profile.gateway)
        if isinstance(self._profile.engine, RemoteEngine):
            await require_reachable(self._profile.engine)

    async def _serve(self, stop: StopWish) -> None:
        plan = await self._plan(stop)
        if plan is None:
            return
        self._update_record(stop_bound_s=plan.stop_bound_s)
        self._supervisor = Supervisor(
            plan, self._state, on_activity=self._do, on_serving=self._gateway_serves
        )
        await self._supervisor.run(stop)

    async def _plan(self, stop: StopWish) -> StackPlan | None:
        """Prepare the model and plan the processes; None if a stop was wished meanwhile."""
        preparing = asyncio.create_task(in_daemon_thread(self._make_plan))
        wished = asyncio.create_task(stop.requested.wait())
        await asyncio.wait({preparing, wished}, return_when=asyncio.FIRST_COMPLETED)
        wished.cancel()
        if stop.requested.is_set():
            preparing.cancel()
            return None
        return preparing.result()

    def _make_plan(self) -> StackPlan:
        """Blocks: a model may have to be prepared."""
        profile, model = self._profile, self._prepared_model()
        return plan_stack(
            profile,
            self._state,
            model=model,
            model_revision=model_revision(profile.engine, _model_folder(profile.engine, model)),
            free_ports=_free_ports(ports_needed(profile.engine)),
            valkey_ports=self._valkey_ports(),
        )

    def _valkey_ports(self) -> tuple[int, ...]:
        count = valkey_ports_needed(self._profile.services)
        if not count:
            return ()
        folder = valkey_dir(self._state)
        folder.mkdir(mode=0o700, exist_ok=True)
        return remembered_ports(folder / "ports.json", count)

    def _clear_the_last_run(self) -> None:
        orphans = find_orphans(self._state)
        if orphans:
            names = ", ".join(str(orphan) for orphan in orphans)
            self._do(f"ending what a killed run left: {names}")
            end_orphans(orphans)
            self._notes = (f"Ended what a killed run had left: {names}.",)
        remove_stale_sockets(self._state)

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


def _free_ports(count: int) -> list[int]:
    """Loopback ports that are free now; held together, so that no two are the same."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports
