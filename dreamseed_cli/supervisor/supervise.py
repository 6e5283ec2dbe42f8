"""The process tree: starts gateway, engines and services, keeps the gateway's table, drains and stops.

Whatever fails is started again by its own runner; here stands what they need of each other.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any

import structlog

from dreamseed_cli.core.errors import FailedError, UsageError
from dreamseed_cli.core.files import write_atomically
from dreamseed_cli.core.paths import StateDir
from dreamseed_cli.gateway.doorway import DoorOrder
from dreamseed_cli.gateway.settings import ReplicaTarget
from dreamseed_cli.incidents.book import IncidentBook
from dreamseed_cli.incidents.record import incidents_file
from dreamseed_cli.profile.schema import EmulatedEngine, Profile
from dreamseed_cli.supervisor.adoption import records_of
from dreamseed_cli.supervisor.child import Child, Stopped
from dreamseed_cli.supervisor.chronicle import Chronicle
from dreamseed_cli.supervisor.engine_cards import EngineCards
from dreamseed_cli.supervisor.failover.keeper import FailoverKeeper
from dreamseed_cli.supervisor.failover.policy import Help
from dreamseed_cli.supervisor.failover.snapshot import FailoverSnapshot
from dreamseed_cli.supervisor.gateway_admin import GatewayStats
from dreamseed_cli.supervisor.gateway_process import GatewayProcess
from dreamseed_cli.supervisor.gpu.care import CardCare
from dreamseed_cli.supervisor.gpu.ladder import IN_HAND
from dreamseed_cli.supervisor.gpu.snapshot import CardSnapshot
from dreamseed_cli.supervisor.logfile import bound_log
from dreamseed_cli.supervisor.replica import Reason, Replica, ReplicaState
from dreamseed_cli.supervisor.replica_runner import ReplicaRunner
from dreamseed_cli.supervisor.rolling import RollingRestart
from dreamseed_cli.supervisor.service import Service
from dreamseed_cli.supervisor.service_group import ServiceGroup
from dreamseed_cli.supervisor.service_plan import POSTGRES, RELAY
from dreamseed_cli.supervisor.snapshot import (
    GatewaySnapshot,
    ReplicaSnapshot,
    RollingSnapshot,
    ServiceSnapshot,
)
from dreamseed_cli.supervisor.stack import StackPlan
from dreamseed_cli.supervisor.state import gateway_file, write_children
from dreamseed_cli.supervisor.stopping import StopWish
from dreamseed_cli.supervisor.winding import PartEnded, StackPart, Stop, stop_within

_TICK_S = 1.0

log = structlog.get_logger("supervisor")


class Supervisor:
    """Runs one stack. Make it inside a running event loop; `run` once.

    on_activity: told in a few words what it does. on_serving: told the gateway's address. on_tick: called
    each time it has looked after everything once more.
    """

    def __init__(
        self,
        plan: StackPlan,
        state: StateDir,
        *,
        on_activity: Callable[[str], None],
        on_serving: Callable[[str], None],
        on_tick: Callable[[], None] = lambda: None,
    ) -> None:
        self._plan = plan
        self._on_tick = on_tick
        self._state = state
        self._on_activity = on_activity
        self._failure: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._tasks: list[asyncio.Task[None]] = []
        self._stopping = False
        self._served = False
        self._rolling: RollingRestart | None = None
        self._gateway = GatewayProcess(
            plan.gateway,
            plan.gateway_settings,
            on_start=self._record_children,
            on_serving=on_serving,
            pin_port=self._pin_port,
            on_change=self._gateway_changed,
            left=plan.left,
        )
        self._chronicle = Chronicle(
            IncidentBook(incidents_file(state), simulated=isinstance(plan.engine, EmulatedEngine)),
            self._gateway.counts,
        )
        self._runners = [
            ReplicaRunner(
                replica,
                plan.engine,
                plan.supervision,
                on_change=self._replica_changed,
                on_start=self._record_children,
                minds_card=partial(self._minds, replica.cards),
                drain_s=plan.gateway_settings.gateway.drain_timeout_s,
            )
            for replica in plan.replicas
        ]
        for runner in self._runners:
            runner.left = plan.left
        self._cards = EngineCards(
            self._runners, start_bound_s=plan.engine.start_timeout_s + _TICK_S, told=self._card_changed
        )
        self._care = CardCare(self._cards, plan.gpu)
        self._help: tuple[ReplicaTarget, ...] = ()
        self._failover = FailoverKeeper(
            plan.failover,
            engine=plan.engine,
            state=state,
            on_targets=self._help_changed,
            on_change=self._failover_changed,
            drain_timeout_s=plan.gateway_settings.gateway.drain_timeout_s,
        )
        self._failover.on_hook_started = self._record_children
        self._services = ServiceGroup(
            plan.services, on_start=self._record_children, on_change=self._service_changed
        )

    async def run(self, stop: StopWish) -> None:
        """Until a stop is wished, then drain and stop everything, within bounds.

        Raises FailedError once the gateway dies again and again, or if no replica can be started, after
        stopping everything too.
        """
        for path, text in self._plan.files.items():
            write_atomically(path, text.encode())
        names = ", ".join(runner.plan.name for runner in self._runners)
        self._on_activity(f"waiting for {names} to load the model and generate a first token")
        # The gateway comes first: it holds the port and says UNAVAILABLE until a replica is ready.
        self._spawn(self._gateway.run())
        for runner in self._runners:
            self._spawn(runner.run())
        self._spawn(self._care.run())
        self._spawn(self._failover.run())
        self._services.start()
        if self._plan.took_over:
            self._chronicle.supervisor_lost(self._plan.took_over)
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

    def cards(self) -> tuple[CardSnapshot, ...]:
        """The cards as they stand now."""
        return self._care.snapshot()

    def failover(self) -> FailoverSnapshot:
        """The help from elsewhere as it stands now."""
        return self._failover.snapshot()

    def take(self, profile: Profile, plan: StackPlan) -> None:
        """Go by a profile that was read again. plan: the same processes, the gateway with new settings."""
        self._plan = plan
        self._gateway.take(plan.gateway, plan.gateway_settings)
        for runner in self._runners:
            runner.take(profile.supervision, drain_s=profile.gateway.drain_timeout_s)

    def rolling(self) -> RollingSnapshot | None:
        """The newest restart that was asked for."""
        return self._rolling.snapshot if self._rolling else None

    def restart(self, names: Sequence[str]) -> RollingSnapshot:
        """Restart these replicas one after another, or all if none is named; returns at once.

        UsageError if one is unknown or runs elsewhere, or if a restart is under way.
        """
        own = [runner.plan.name for runner in self._runners if runner.plan.spec is not None]
        unknown = [name for name in names if name not in own]
        if unknown or not own:
            raise UsageError(
                f"there is no replica {', '.join(unknown)} here" if own else "the engines run elsewhere",
                place="restart",
                remedy=f"There are: {', '.join(own)}." if own else "Restart them there.",
            )
        if self._rolling is not None and self._rolling.running:
            raise UsageError("a restart is under way", place="restart", remedy="Wait: dreamseed status.")
        in_hand = [card.index for card in self._care.snapshot() if card.state in IN_HAND]
        if any(card in in_hand for runner in self._runners for card in runner.plan.cards):
            raise UsageError(
                f"card {', '.join(map(str, in_hand))} is being repaired, which restarts its engine",
                place="restart",
                remedy="Wait: dreamseed status.",
            )
        self._rolling = RollingRestart(self._runners, names or own)
        for runner in self._runners:
            if runner.plan.name in (names or own) and runner.replica.state is ReplicaState.QUARANTINED:
                for card in runner.plan.cards:
                    self._care.release(card)
        self._spawn(self._rolling.run())
        return self._rolling.snapshot

    def drain(self, name: str, *, drained: bool) -> ReplicaSnapshot:
        """Send this replica nothing new, or send it requests again. Those it has, it finishes.

        It holds until it is taken back or the stack ends. UsageError if there is none of this name.
        """
        runner = next((one for one in self._runners if one.plan.name == name), None)
        if runner is None:
            known = ", ".join(one.plan.name for one in self._runners)
            raise UsageError(f"there is no replica {name} here", place="drain", remedy=f"There are: {known}.")
        runner.drained = drained
        log.info("replica_drained" if drained else "replica_undrained", replica=name)
        self._tell_table()
        self._count_replicas()
        return runner.snapshot(self._gateway.counts(name))

    async def set_doorway(self, order: DoorOrder) -> GatewayStats:
        """Have the gateway let in whom the order says. FailedError if it does not answer."""
        return await self._gateway.set_doorway(order)

    async def wind_down(self, part: StackPart, within_s: float) -> PartEnded:
        """End a part, in order for so long, then at once. Nothing that ends now is started again."""
        self._stopping = True
        self._on_activity(f"stopping part by part: {part.value}")
        if part is StackPart.GATEWAY:
            await self._gateway.drain_within(within_s / 2)
        stops: dict[StackPart, Stop] = {
            StackPart.GATEWAY: self._stop_gateway,
            StackPart.ENGINES: self._stop_engines_and_help,
            StackPart.RELAY: partial(self._services.stop_those, lambda name: name == RELAY),
            StackPart.POSTGRES: partial(self._services.stop_those, lambda name: name == POSTGRES),
            StackPart.REDIS: partial(self._services.stop_those, lambda name: name not in {RELAY, POSTGRES}),
        }
        return await stop_within(part, stops[part], within_s)

    async def _stop_gateway(self, hasten: asyncio.Event) -> Stopped:
        self._care.stop()
        return await self._gateway.stop(hasten)

    async def _stop_engines_and_help(self, hasten: asyncio.Event) -> Stopped:
        _, stopped = await asyncio.gather(self._failover.stop(hasten), self._stop_engines(hasten))
        return stopped

    async def _stop_engines(self, hasten: asyncio.Event) -> Stopped:
        return Stopped.together(await asyncio.gather(*(runner.stop(hasten) for runner in self._runners)))

    async def _shut_down(self, hasten: asyncio.Event) -> None:
        self._on_activity("draining: the gateway finishes running calls and takes no more")
        gateway = await self._stop_gateway(hasten)
        self._on_activity("stopping the engines")
        sent_home = asyncio.create_task(self._failover.stop(hasten))
        engines = await self._stop_engines(hasten)
        self._on_activity("stopping the services")
        services = await self._services.stop(hasten)
        await sent_home
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(self._gateway.close(), *(runner.close() for runner in self._runners))
        await asyncio.to_thread(self._chronicle.close)
        self._record_children()
        if survivors := Stopped.together((gateway, engines, services)).survivors:
            log.error("processes_survive", pids=[member.pid for member in survivors])

    async def _tick_forever(self) -> None:
        while True:
            await self._tick()
            self._on_tick()
            await asyncio.sleep(_TICK_S)

    async def _tick(self) -> None:
        await self._gateway.observe()
        now = time.monotonic()
        await asyncio.gather(
            *(runner.observe(now, self._gateway.counts(runner.plan.name)) for runner in self._runners)
        )
        self._count_replicas()
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
        self._chronicle.replica(before, after)
        self._tell_table()
        self._count_replicas()
        if self._stopping:
            return
        if after.serving and not self._served:
            self._served = True
            self._chronicle.supervisor_serves()
        replicas = [runner.replica for runner in self._runners]
        self._mind_cards(after)
        nothing_else = not self._served and not self._plan.failover.urls
        if nothing_else and all(replica.state is ReplicaState.FAILED for replica in replicas):
            self._fail(_nothing_left(replicas))
        else:
            self._on_activity(_activity(replicas))

    def _count_replicas(self) -> None:
        serving = sum(runner.serving for runner in self._runners)
        self._failover.observe(serving, len(self._runners))

    def _minds(self, cards: tuple[int, ...]) -> bool:
        """Whether a GPU fault of an engine on these cards is repaired rung by rung, or just restarted."""
        return bool(cards) and all(self._care.minds(card) for card in cards)

    def _mind_cards(self, replica: Replica) -> None:
        """An engine that a GPU fault ended is held back: its first card's ladder says what comes next."""
        held = replica.state is ReplicaState.RESTARTING and replica.retry_at is None
        if not held or replica.reason is not Reason.GPU_FAULT:
            return
        runner = next(one for one in self._runners if one.plan.name == replica.name)
        if not self._care.engine_fault(runner.plan.cards[0], replica.detail):
            runner.card_returned()

    def _card_changed(self, card: int, state: str, reason: str, detail: str) -> None:
        tell = log.info if state == "ok" else log.error
        tell("card_state", card=card, state=state, reason=reason, detail=detail)
        self._chronicle.process("gpu", f"card {card}", state, reason, detail)

    def _help_changed(self, targets: tuple[ReplicaTarget, ...]) -> None:
        self._help = targets
        self._tell_table()

    def _failover_changed(self, before: Help, after: Help) -> None:
        if before.state is not after.state:
            self._chronicle.failover(after.state.value, after.detail)

    def _gateway_changed(self, state: str, reason: str, detail: str) -> None:
        tell = log.error if state in {"restarting", "hung"} else log.info
        tell("gateway_state", state=state, reason=reason, detail=detail)
        self._chronicle.process("gateway", "gateway", state, reason, detail)

    def _service_changed(self, service: Service) -> None:
        state, reason = service.state.value, service.reason.value
        self._chronicle.process("service", service.name, state, reason, service.detail)

    def _pin_port(self, port: int) -> None:
        """A gateway that is started again comes back where its callers look for it."""
        settings = self._plan.gateway_settings
        pinned = settings.model_copy(update={"gateway": settings.gateway.model_copy(update={"port": port})})
        try:
            write_atomically(gateway_file(self._state), pinned.model_dump_json().encode())
        except OSError as error:
            log.warning("gateway_port_not_kept", port=port, cause=str(error))

    def _tell_table(self) -> None:
        """Degraded replicas get requests only while no other does.

        An adopted gateway keeps the table it has until one replica has proved itself, or failed to.
        """
        states = {runner.replica.state for runner in self._runners}
        adopted = self._plan.gateway.name in self._plan.left
        if adopted and not self._served and states == {ReplicaState.STARTING}:
            return
        some_ready = any(runner.ready for runner in self._runners)
        own = [_target(runner, some_ready=some_ready) for runner in self._runners]
        self._gateway.set_table([*own, *self._help])

    def _children(self) -> list[Child]:
        """Those whose families are on record. A service's helpers come and go, and end with it."""
        owners = [self._gateway.child, *(runner.child for runner in self._runners)]
        return [child for child in owners if child is not None]

    def _record_children(self) -> None:
        try:
            children = (*self._children(), *self._services.children(), *self._failover.children())
            write_children(self._state, records_of(children, self._plan.left))
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


def _target(runner: ReplicaRunner, *, some_ready: bool) -> ReplicaTarget:
    replica = runner.replica
    ready = runner.ready or (runner.serving and not some_ready)
    told = {
        "state": replica.state.value,
        "reason": replica.reason.value,
        "expected_in_s": runner.expected_in_s,
    }
    return runner.plan.target(ready=ready).model_copy(update=told)


def _activity(replicas: Sequence[Replica]) -> str:
    """What there is to wait for, in a few words."""
    serving = [replica for replica in replicas if replica.serving]
    away = [replica for replica in replicas if not replica.serving]
    if not away:
        return "serving"
    named = ", ".join(f"{replica.name} {replica.state.value}" for replica in away)
    return f"serving; {named}" if serving else f"waiting: {named}"


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
