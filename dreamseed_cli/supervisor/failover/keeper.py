"""Does what the policy decides: runs hooks, asks engines for tokens, keeps the money, tells the gateway."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from decimal import Decimal

import structlog

from dreamseed_cli.core.paths import StateDir
from dreamseed_cli.core.waiting import set_within
from dreamseed_cli.gateway.settings import ReplicaTarget
from dreamseed_cli.profile.resilience import Failover
from dreamseed_cli.profile.schema import Engine
from dreamseed_cli.supervisor.child import Child
from dreamseed_cli.supervisor.failover.engines import RemoteHelp
from dreamseed_cli.supervisor.failover.hook_result import HookResult
from dreamseed_cli.supervisor.failover.hooks import HookRunner
from dreamseed_cli.supervisor.failover.ledger_file import LedgerFile, Opened
from dreamseed_cli.supervisor.failover.money import Budget, spent_in_month
from dreamseed_cli.supervisor.failover.policy import (
    STOPS_AT_END,
    Event,
    Help,
    HelpState,
    Hook,
    HookEnded,
    Observed,
    StopRequested,
    advance,
    begin,
)
from dreamseed_cli.supervisor.failover.snapshot import FailoverSnapshot

_TICK_S = 1.0
_PROBE_S, _PROBE_STARTING_S = 5.0, 2.0
_DRAIN_POLL_S = 0.5
_HOOK_MARGIN_S = 15.0
"""What a hook's end may take beyond its time box: it is asked to end, then killed."""

OnTargets = Callable[[tuple[ReplicaTarget, ...]], None]
OnChange = Callable[[Help, Help], None]

log = structlog.get_logger("supervisor")


def stop_bound_s(settings: Failover) -> float:
    """The longest `FailoverKeeper.stop` may take: a start hook is ended, the stop hook tried."""
    return (
        _HOOK_MARGIN_S + STOPS_AT_END * (settings.hook_timeout_s + _HOOK_MARGIN_S) if settings.urls else 0.0
    )


class FailoverKeeper:
    """The help of one stack. Make and use it inside a running event loop. Nothing that happens is raised.

    on_targets: told the engines that the gateway is to have beside the local ones, whenever that changes.
    on_change: told every change of state or detail (which are logged here).
    drain_timeout_s: how long running requests may take before the stop hook runs.
    """

    def __init__(
        self,
        settings: Failover,
        *,
        engine: Engine,
        state: StateDir,
        on_targets: OnTargets,
        on_change: OnChange,
        drain_timeout_s: float = 20.0,
    ) -> None:
        self.on_hook_started: Callable[[], None] = lambda: None
        """Called once a hook's process runs: `children` has it."""
        self._settings = settings
        self._start_timeout_s = engine.start_timeout_s
        self._on_targets = on_targets
        self._on_change = on_change
        self._drain_timeout_s = drain_timeout_s
        self._help = Help(HelpState.STANDBY if settings.urls else HelpState.OFF, time.monotonic())
        self._engines = [
            RemoteHelp(f"f{index}", url, settings, model=engine.served_name, api=engine.api)
            for index, url in enumerate(settings.urls)
        ]
        self._book = LedgerFile(state)
        self._price = Decimal(repr(settings.usd_per_hour))
        reserve_s = drain_timeout_s + settings.hook_timeout_s
        self._budget = Budget(self._price, Decimal(repr(settings.usd_per_month)), reserve_s)
        self._hooks = HookRunner(
            state.log("failover"),
            timeout_s=settings.hook_timeout_s,
            dry_run=settings.dry_run,
            on_start=self._hook_started,
        )
        self._stop_argv = settings.stop
        self._last_hook: HookResult | None = None
        self._capacity = (0, 0)
        self._told: tuple[ReplicaTarget, ...] = ()
        self._gone = True
        """Whether the gateway has nothing of the help any more, or never had."""
        self._probes: list[asyncio.Task[None]] = []
        self._work: asyncio.Task[None] | None = None
        self._opened = False
        self._over = asyncio.Event()
        self._no_start = asyncio.Event()
        self._hasten = asyncio.Event()

    def observe(self, ready: int, total: int) -> None:
        """Tell how many of the local replicas are ready. Call it about once a second."""
        self._capacity = (ready, total)
        self._tick()

    async def run(self) -> None:
        """Look after the help until `stop`. Help that an earlier run did not stop is used, or stopped."""
        self._open()
        while not self._over.is_set():
            self._tick()
            await set_within(self._over, _TICK_S)

    async def stop(self, hasten: asyncio.Event | None = None) -> None:
        """Stop the help if it was called, within `stop_bound_s`. Call it when the gateway has drained.

        hasten: once set, the stop hook is ended, too; what it was to stop may then run on.
        """
        if self._over.is_set():
            return
        self._no_start.set()
        hurrying = asyncio.create_task(self._hurry(hasten)) if hasten is not None else None
        if self._opened:
            self._apply(StopRequested())
        # A start that is ended is followed by the stop.
        while (work := self._work) is not None and not work.done():
            await asyncio.wait({work})
        if hurrying is not None:
            hurrying.cancel()
        await self._end_probes()
        self._over.set()
        await asyncio.gather(*(engine.close() for engine in self._engines))
        if self._opened and self._book.ledger.running is not None:
            log.error(
                "failover_help_may_still_run",
                remedy="Stop it yourself; it is counted until the next start of dreamseed stops it.",
                argv=list(self._stop_argv),
            )

    def children(self) -> tuple[Child, ...]:
        """The hook that runs now, for the record of what a killed run left."""
        child = self._hooks.child
        return (child,) if child is not None and child.exit_code is None else ()

    def snapshot(self) -> FailoverSnapshot:
        current, settings = self._help, self._settings
        return FailoverSnapshot(
            state=current.state.value,
            since=time.time() - (time.monotonic() - current.since),
            detail=current.detail,
            urls=settings.urls,
            usd_this_month=round(float(spent_in_month(self._book.ledger, time.time())), 6),
            usd_per_month=settings.usd_per_month,
            usd_per_hour=settings.usd_per_hour,
            running=self._book.ledger.running is not None,
            dry_run=settings.dry_run,
            last_hook=self._last_hook,
            engines=tuple(engine.snapshot() for engine in self._engines),
        )

    def _open(self) -> None:
        """Read the ledger, and take up what an earlier run left."""
        now, settings = time.monotonic(), self._settings
        opened = self._book.open(time.time(), usd_per_hour=self._price, stop=settings.stop)
        may_run = self._take_over(opened) if opened.found is not None else ""
        self._opened = True
        patient_until = now + self._start_timeout_s
        configured = bool(settings.urls)
        self._take(*begin(now, configured=configured, may_run=may_run, patient_until=patient_until))

    def _take_over(self, opened: Opened) -> str:
        """Why help may be running; empty if nothing is to be done about it."""
        settings, found = self._settings, opened.found
        why = "an earlier run called it and did not stop it"
        if opened.damaged:
            why = "its ledger was damaged: it may be running"
        if not settings.urls and opened.damaged:
            # Neither the profile nor the ledger says what could be running.
            self._book.forget_running(time.time())
            return ""
        if not settings.urls and found is not None:
            self._stop_argv = found.stop
        if settings.dry_run:
            # A rehearsal stops nothing; the cost goes on to be counted.
            log.error("failover_help_may_still_run", cause=why, argv=list(self._stop_argv))
            return ""
        if settings.urls:
            with suppress(OSError):  # the price and the command are the profile's from now on
                self._book.begin(time.time(), usd_per_hour=self._price, stop=settings.stop)
        return why

    def _tick(self) -> None:
        if not self._opened or self._over.is_set():
            return
        try:
            now = time.time()
            self._book.count(now)
            spent = self._budget.obstacle(self._book.ledger, now)
            answering = sum(engine.answers for engine in self._engines)
            self._apply(Observed(*self._capacity, spent=spent, answering=answering))
        except Exception:
            # Whatever goes wrong here, the local engines go on.
            log.exception("failover_tick_failed")

    def _apply(self, event: Event) -> None:
        self._take(*advance(self._help, event, time.monotonic(), self._settings))

    def _take(self, after: Help, hook: Hook | None) -> None:
        before, self._help = self._help, after
        if after.called:
            self._gone = False
        if hook is not None:
            self._work = asyncio.create_task(self._run_hook(hook))
        elif after.called and after.hook is None and not self._probes:
            self._probes = [asyncio.create_task(self._probe_forever(engine)) for engine in self._engines]
        self._tell_targets()
        if (before.state, before.detail) != (after.state, after.detail):
            self._tell_change(before, after)

    def _tell_targets(self) -> None:
        draining = not self._help.called
        known = () if self._gone else tuple(engine.target(draining=draining) for engine in self._engines)
        targets = tuple(target for target in known if target is not None)
        if targets != self._told:
            self._told = targets
            self._on_targets(targets)

    def _tell_change(self, before: Help, after: Help) -> None:
        bad = after.state is HelpState.FAILED or after.stops_failed > before.stops_failed
        (log.error if bad else log.info)(
            "failover_state",
            before=before.state.value,
            after=after.state.value,
            detail=after.detail,
            dry_run=self._settings.dry_run,
            usd_this_month=self.snapshot().usd_this_month,
        )
        self._on_change(before, after)

    async def _run_hook(self, hook: Hook) -> None:
        try:
            result = await (self._call() if hook is Hook.START else self._send_home())
        except Exception as error:
            log.exception("failover_hook_failed", hook=hook.value)
            self._apply(HookEnded(hook, ok=False, detail=f"the {hook.value} hook failed: {error!r}"))
            return
        self._last_hook = result
        self._apply(HookEnded(hook, result.ok, result.words))

    async def _call(self) -> HookResult:
        """Note the cost first: what a crash leaves running is then known to the next run."""
        settings = self._settings
        if not settings.dry_run:
            try:
                self._book.begin(time.time(), usd_per_hour=self._price, stop=settings.stop)
            except OSError as error:
                cause = f"was not run, since its cost cannot be noted in {self._book.path}: {error.strerror}"
                return _not_run(Hook.START, settings.start, cause)
        return await self._hooks.run(Hook.START.value, settings.start, self._no_start)

    async def _send_home(self) -> HookResult:
        """Take it from the gateway, let its requests end, then stop it."""
        await self._end_probes()
        if self._told and not self._help.ended:
            await self._drain()
        self._gone = True
        for engine in self._engines:
            engine.forget()
        self._tell_targets()
        result = await self._hooks.run(Hook.STOP.value, self._stop_argv, self._hasten)
        if result.ok and not result.dry:
            self._book.end(time.time())
        return result

    async def _drain(self) -> None:
        """Wait until all of it has nothing to do, twice in a row: a request may have been on its way."""
        deadline = time.monotonic() + self._drain_timeout_s
        idle = 0
        while idle < 2 and time.monotonic() < deadline and not self._help.ended:
            await asyncio.sleep(min(_DRAIN_POLL_S, max(0.0, deadline - time.monotonic())))
            found = await asyncio.gather(*(engine.idle() for engine in self._engines if engine.answers))
            idle = idle + 1 if all(found) else 0

    async def _probe_forever(self, engine: RemoteHelp) -> None:
        while True:
            try:
                await engine.probe()
            except Exception:
                log.exception("failover_probe_failed", engine=engine.name)
            self._tick()
            starting = self._help.state is HelpState.STARTING
            await asyncio.sleep(_PROBE_STARTING_S if starting else _PROBE_S)

    async def _end_probes(self) -> None:
        probes, self._probes = self._probes, []
        for probe in probes:
            probe.cancel()
        await asyncio.gather(*probes, return_exceptions=True)

    def _hook_started(self) -> None:
        self.on_hook_started()

    async def _hurry(self, hasten: asyncio.Event) -> None:
        await hasten.wait()
        self._hasten.set()


def _not_run(hook: Hook, argv: tuple[str, ...], cause: str) -> HookResult:
    failed = HookResult(hook.value, argv, ok=False, seconds=0.0, exit_code=None, cause=cause)
    return replace(failed, ended_at=time.time())
