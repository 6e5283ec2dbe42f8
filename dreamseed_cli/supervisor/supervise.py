"""The process tree: starts gateway, engines and services, keeps the gateway's table, drains and stops."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any

import structlog

from dreamseed_cli.core.errors import FailedError
from dreamseed_cli.core.paths import StateDir
from dreamseed_cli.supervisor.child import Child
from dreamseed_cli.supervisor.gateway_process import GatewayProcess
from dreamseed_cli.supervisor.logfile import bound_log
from dreamseed_cli.supervisor.replica import Replica, ReplicaState
from dreamseed_cli.supervisor.replica_runner import ReplicaRunner
from dreamseed_cli.supervisor.service_group import ServiceGroup
from dreamseed_cli.supervisor.snapshot import GatewaySnapshot, ReplicaSnapshot, ServiceSnapshot
from dreamseed_cli.supervisor.stack import StackPlan
from dreamseed_cli.supervisor.state import write_atomically, write_children
from dreamseed_cli.supervisor.stopping import StopWish

_TICK_S = 1.0

log = structlog.get_logger("supervisor")


class Supervisor:
    """Runs one stack. Make it inside a running event loop; `run` once.

    on_activity: told in a few words what it does. on_serving: told the gateway's address.
    """

    def __init__(
        self,
        plan: StackPlan,
        state: StateDir,
        *,
        on_activity: Callable[[str], None],
        on_serving: Callable[[str], None],
    ) -> None:
        self._plan = plan
        self._state = state
        self._on_activity = on_activity
        self._failure: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._tasks: list[asyncio.Task[None]] = []
        self._stopping = False
        self._gateway = GatewayProcess(
            plan.gateway, plan.gateway_settings, on_start=self._record_children, on_serving=on_serving
        )
        self._runners = [
            ReplicaRunner(
                replica, plan.engine, on_change=self._replica_changed, on_start=self._record_children
            )
            for replica in plan.replicas
        ]
        self._services = ServiceGroup(plan.services, on_start=self._record_children)

    async def run(self, stop: StopWish) -> None:
        """Until a stop is wished, then drain and stop everything, within bounds.

        Raises FailedError once the gateway died or no replica is left, after stopping everything too.
        """
        for path, text in self._plan.files.items():
            write_atomically(path, text.encode())
        names = ", ".join(runner.plan.name for runner in self._runners)
        self._on_activity(f"waiting for {names} to load the model and generate a first token")
        # The gateway comes first: it holds the port and says UNAVAILABLE until a replica is ready.
        self._spawn(self._gateway.run())
        for runner in self._runners:
            self._spawn(runner.run())
        self._services.start()
        self._spawn(self._tick_forever())
        wished: asyncio.Future[Any] = asyncio.ensure_future(stop.requested.wait())
        try:
            await asyncio.wait((wished, self._failure), return_when=asyncio.FIRST_COMPLETED)
            failed = self._failure.done()
        finally:
            wished.cancel()
            self._stopping = True
            await self._shut_down(stop.hasten)
        if failed:
            self._failure.result()

    def snapshot(self) -> tuple[GatewaySnapshot, tuple[ReplicaSnapshot, ...]]:
        """The gateway and the replicas as they stand now."""
        replicas = tuple(runner.snapshot(self._gateway.counts(runner.plan.name)) for runner in self._runners)
        return self._gateway.snapshot(), replicas

    def services(self) -> tuple[ServiceSnapshot, ...]:
        """The services as they stand now."""
        return self._services.snapshot()

    async def _shut_down(self, hasten: asyncio.Event) -> None:
        self._on_activity("draining: the gateway finishes running calls and takes no more")
        survivors = await self._gateway.stop(hasten)
        self._on_activity("stopping the engines")
        for left in await asyncio.gather(*(runner.stop(hasten) for runner in self._runners)):
            survivors += left
        self._on_activity("stopping the services")
        survivors += await self._services.stop(hasten)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(self._gateway.close(), *(runner.close() for runner in self._runners))
        self._record_children()
        if survivors:
            log.error("processes_survive", pids=[member.pid for member in survivors])

    async def _tick_forever(self) -> None:
        while True:
            await self._tick()
            await asyncio.sleep(_TICK_S)

    async def _tick(self) -> None:
        await self._gateway.observe()
        now = time.monotonic()
        await asyncio.gather(
            *(runner.observe(now, self._gateway.counts(runner.plan.name)) for runner in self._runners)
        )
        children = self._children()
        if await asyncio.to_thread(_refresh_all, children):
            self._record_children()
        for child in (*children, *self._services.children()):
            await asyncio.to_thread(bound_log, child.spec.log)

    def _replica_changed(self, before: Replica, after: Replica) -> None:
        tell = log.error if after.state is ReplicaState.FAILED else log.info
        tell(
            "replica_state",
            replica=after.name,
            before=before.state.value,
            after=after.state.value,
            reason=after.reason.value,
            detail=after.detail,
            after_s=round(after.since - before.since, 3),
        )
        self._gateway.set_table([runner.plan.target(ready=runner.ready) for runner in self._runners])
        if self._stopping:
            return
        replicas = [runner.replica for runner in self._runners]
        if all(replica.state is ReplicaState.FAILED for replica in replicas):
            self._fail(_nothing_left(replicas))
        elif any(replica.state is ReplicaState.READY for replica in replicas):
            waiting = sum(replica.state is ReplicaState.STARTING for replica in replicas)
            self._on_activity(f"serving; {waiting} still starting" if waiting else "serving")

    def _children(self) -> list[Child]:
        """Those whose families are on record. A service's helpers come and go, and end with it."""
        owners = [self._gateway.child, *(runner.child for runner in self._runners)]
        return [child for child in owners if child is not None]

    def _record_children(self) -> None:
        try:
            children = (*self._children(), *self._services.children())
            write_children(self._state, [child.record() for child in children])
        except OSError as error:
            # A full disk must not take a running service down. The next start may then miss an orphan.
            log.warning("children_not_recorded", cause=str(error))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        task.add_done_callback(self._task_done)
        self._tasks.append(task)

    def _task_done(self, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        if not self._failure.done():
            self._failure.set_exception(error)
            self._failure.exception()  # looked at: a failure while stopping anyway is no news


def _refresh_all(children: list[Child]) -> bool:
    changed = [child.refresh() for child in children]
    return any(changed)


def _nothing_left(replicas: list[Replica]) -> FailedError:
    words = "\n".join(f"{replica.name} ({replica.reason.value}): {replica.detail}" for replica in replicas)
    return FailedError(
        f"no replica is left:\n{words}\n",
        place="engine",
        remedy=f"See the whole log with: dreamseed logs {replicas[0].name}.",
    )
