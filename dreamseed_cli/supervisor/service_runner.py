"""Does what one service's state machine decides: starts it, asks how it does, kills, restarts, stops it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace

import structlog

from dreamseed_cli.core.errors import DreamseedError, FailedError
from dreamseed_cli.core.waiting import set_within
from dreamseed_cli.engine.types import Command
from dreamseed_cli.services.keeping import Keeper, NoAnswer
from dreamseed_cli.supervisor.child import Child, ChildSpec, Stopped, at_once
from dreamseed_cli.supervisor.service import (
    Answered,
    CannotStart,
    Event,
    Exited,
    Launched,
    NotUsable,
    Service,
    ServiceState,
    Silent,
    StopRequested,
    advance,
)
from dreamseed_cli.supervisor.service_plan import ServicePlan
from dreamseed_cli.supervisor.snapshot import ServiceSnapshot

_PROBE_S = 3.0
"""The longest a probe may take."""
_WHILE_STARTING_S, _OURS_S, _ANOTHERS_S = 0.25, 2.0, 5.0
_LAST_WORDS = 6

OnChange = Callable[[Service, Service], None]

log = structlog.get_logger("supervisor")


class ServiceRunner:
    """One service. Make and use it inside a running event loop. Nothing that happens to it is raised."""

    def __init__(
        self, plan: ServicePlan, keeper: Keeper, *, on_change: OnChange, on_start: Callable[[], None]
    ) -> None:
        self.plan = plan
        self.service = Service.configured(plan.name, time.monotonic(), ours=plan.spec is not None)
        self.child: Child | None = None
        self._keeper = keeper
        self._on_change = on_change
        self._on_start = on_start
        self._stopping = asyncio.Event()
        self._launching = asyncio.Lock()
        self._at_once = at_once()

    async def run(self) -> None:
        """Keep it running, or watch it where it is not ours, until `stop`."""
        spec = self.plan.spec
        if spec is None:
            await self._probe_until(self._stopping)
            return
        while not self._stopping.is_set():
            child = await self._launch(spec)
            if child is not None:
                await self._watch(child)
            await self._wait(max(0.0, self.service.retry_at - time.monotonic()))

    async def stop(self, hasten: asyncio.Event) -> Stopped:
        """Stop it within bounds, in whatever step it is."""
        self._apply(StopRequested())
        self._stopping.set()
        async with self._launching:
            child = self.child
        stopped = await child.stop(hasten) if child is not None else Stopped()
        self._apply(Exited())
        return stopped

    def snapshot(self) -> ServiceSnapshot:
        service, running = self.service, self.child is not None and self.child.exit_code is None
        return ServiceSnapshot(
            name=service.name,
            mode=self.plan.mode,
            state=service.state.value,
            reason=service.reason.value,
            detail=service.detail,
            means="" if service.state is ServiceState.READY else self.plan.without,
            since=time.time() - (time.monotonic() - service.since),
            endpoint=self.plan.endpoint,
            pid=self.child.identity.pid if self.child is not None and running else None,
            restarts=service.restarts,
        )

    async def _launch(self, spec: ChildSpec) -> Child | None:
        """Prepare and start it; None if that failed or a stop was wished meanwhile."""
        try:
            await self._keeper.prepare(self._run_step)
            child = await self._start(spec)
        except DreamseedError as error:
            self._apply(CannotStart(str(error)))
        except Exception as error:
            # A disk that is full, a file that is not ours: whatever it is, the engines go on.
            log.exception("service_cannot_start", service=self.plan.name)
            self._apply(CannotStart(f"{type(error).__name__}: {error}"))
        else:
            if child is not None:
                self._apply(Launched())
            return child
        return None

    async def _run_step(self, argv: tuple[str, ...]) -> None:
        """A command that is a part of the preparation, as a child that a stop ends, too."""
        spec = self.plan.spec
        child = await self._start(replace(spec, command=Command(argv))) if spec is not None else None
        if child is not None and await child.wait() != 0:
            raise FailedError(
                f"{argv[0]} {child.end_in_words(_LAST_WORDS)}", place=f"services.{self.plan.name}"
            )
        if child is None or self._stopping.is_set():
            raise FailedError("it is being stopped", place=f"services.{self.plan.name}")

    async def _start(self, spec: ChildSpec) -> Child | None:
        async with self._launching:
            if self._stopping.is_set():
                return None
            self.child = child = await Child.start(spec)
        self._on_start()
        return child

    async def _watch(self, child: Child) -> None:
        """Ask it how it does until it has ended; one that hangs is ended."""
        over = asyncio.Event()
        ended = asyncio.create_task(child.wait())
        ended.add_done_callback(lambda _: over.set())
        try:
            await self._probe_until(over)
            if not ended.done():
                await child.stop(self._at_once)
            await ended
        finally:
            ended.cancel()
        self._apply(Exited(child.end_in_words(_LAST_WORDS)))
        await child.sweep(self._at_once)

    async def _probe_until(self, over: asyncio.Event) -> None:
        """Ask until it is over, or until a service of ours has hung."""
        while not over.is_set() and self.service.state is not ServiceState.HUNG:
            event = await self._probe()
            if over.is_set():
                return
            self._apply(event)
            await set_within(over, self._pause_s())

    async def _probe(self) -> Event:
        if self.child is not None and self.child.identity.paused():
            return Silent("its process is stopped (SIGSTOP)")
        try:
            async with asyncio.timeout(_PROBE_S):
                obstacle = await self._keeper.probe()
        except (NoAnswer, TimeoutError) as error:
            return Silent(str(error) or f"no answer within {_PROBE_S:.0f} s")
        except Exception as error:  # noqa: BLE001 - it answers, in a way that nobody foresaw
            return NotUsable(str(error) or type(error).__name__)
        return NotUsable(obstacle) if obstacle else Answered()

    def _pause_s(self) -> float:
        if self.service.state is ServiceState.STARTING:
            return _WHILE_STARTING_S
        return _OURS_S if self.service.ours else _ANOTHERS_S

    async def _wait(self, seconds: float) -> None:
        await set_within(self._stopping, seconds)

    def _apply(self, event: Event) -> None:
        before = self.service
        self.service = after = advance(before, event, time.monotonic())
        if (before.state, before.reason, before.detail) != (after.state, after.reason, after.detail):
            self._on_change(before, after)
