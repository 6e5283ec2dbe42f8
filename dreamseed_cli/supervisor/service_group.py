"""All services of a stack: started together, watched one by one, stopped in order. None can end the stack."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from dreamseed_cli.supervisor.child import Child, Stopped
from dreamseed_cli.supervisor.keepers import keepers_for
from dreamseed_cli.supervisor.service import Service, ServiceState
from dreamseed_cli.supervisor.service_plan import RELAY, ServicesPlan
from dreamseed_cli.supervisor.service_runner import ServiceRunner
from dreamseed_cli.supervisor.snapshot import ServiceSnapshot

log = structlog.get_logger("supervisor")

_GOOD = {ServiceState.STARTING, ServiceState.READY, ServiceState.STOPPING, ServiceState.STOPPED}


class ServiceGroup:
    """Make and use it inside a running event loop. on_start: told of every new process. on_change: told each
    change of a service.
    """

    def __init__(
        self,
        plan: ServicesPlan,
        *,
        on_start: Callable[[], None],
        on_change: Callable[[Service], None] = lambda _: None,
    ) -> None:
        self._plan = plan
        self._on_change = on_change
        keepers = keepers_for(plan)
        self._runners = [
            ServiceRunner(service, keepers[service.name], on_change=self._changed, on_start=on_start)
            for service in plan.watched
        ]
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Start them all, and say what the others mean that nothing is started for."""
        for standing in self._plan.standings:
            log.info("service", service=standing.name, mode=standing.mode, means=standing.means)
        for runner in self._runners:
            task = asyncio.create_task(runner.run())
            task.add_done_callback(_log_failure)
            self._tasks.append(task)

    async def stop(self, hasten: asyncio.Event) -> Stopped:
        """The relay first: it reads from PostgreSQL."""
        relay = await self.stop_those(lambda name: name == RELAY, hasten)
        others = await self.stop_those(lambda name: name != RELAY, hasten)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        return Stopped.together((relay, others))

    async def stop_those(self, wanted: Callable[[str], bool], hasten: asyncio.Event) -> Stopped:
        """End those whose names are wanted, together."""
        runners = [runner for runner in self._runners if wanted(runner.plan.name)]
        return Stopped.together(await asyncio.gather(*(runner.stop(hasten) for runner in runners)))

    def children(self) -> list[Child]:
        """Every process that was started and is on record."""
        return [runner.child for runner in self._runners if runner.child is not None]

    def snapshot(self) -> tuple[ServiceSnapshot, ...]:
        """The watched ones, then those that stand for themselves."""
        standings = (
            ServiceSnapshot(standing.name, standing.mode, standing.state, means=standing.means)
            for standing in self._plan.standings
        )
        return (*(runner.snapshot() for runner in self._runners), *standings)

    def _changed(self, before: Service, after: Service) -> None:
        tell = log.info if after.state in _GOOD else log.warning
        tell(
            "service_state",
            service=after.name,
            before=before.state.value,
            after=after.state.value,
            reason=after.reason.value,
            detail=after.detail,
        )
        self._on_change(after)


def _log_failure(task: asyncio.Task[None]) -> None:
    """A fault of ours in looking after a service is no reason to end the engines."""
    error = None if task.cancelled() else task.exception()
    if error is not None:
        log.error("service_runner_failed", cause=f"{type(error).__name__}: {error}")
