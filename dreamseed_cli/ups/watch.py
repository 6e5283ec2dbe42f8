"""The watcher: looks at the UPS, tells the policy, does what it decides, and never stops looking."""

from __future__ import annotations

import asyncio
import math
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import structlog

from dreamseed_cli.core.errors import DreamseedError
from dreamseed_cli.core.waiting import set_by_signals, set_within
from dreamseed_cli.profile.ups import Ups
from dreamseed_cli.ups.journal import Shutdown, UpsFolder
from dreamseed_cli.ups.observation import Observation
from dreamseed_cli.ups.policy import Power, Stage, commit, outlook, see
from dreamseed_cli.ups.power_limit import PowerLimits
from dreamseed_cli.ups.records import Meter
from dreamseed_cli.ups.sequence import Course, run_steps
from dreamseed_cli.ups.source import NoWord, Source
from dreamseed_cli.ups.steps import Steps
from dreamseed_cli.ups.textfile import write_metrics
from dreamseed_cli.ups.warnings import warnings

_SHOW_EVERY_S = 10.0

log = structlog.get_logger("ups")


@dataclass(frozen=True, slots=True)
class Sizes:
    """What the box draws at full load, and the UPS's rating by the profile; None where they are not known."""

    draw_w: float | None = None
    ups_w: float | None = None


class Watcher:
    """Make and run it inside a running event loop."""

    def __init__(self, source: Source, rules: Ups, steps: Steps, folder: UpsFolder, sizes: Sizes) -> None:
        self.power = Power()
        self.stopped = asyncio.Event()
        """Set it to end the watch. A shutdown past the point of no return ends first."""
        self._source = source
        self._rules = rules
        self._steps = steps
        self._folder = folder
        self._sizes = sizes
        self._meter = Meter(folder.power_log, folder.effort)
        self._cancelled = asyncio.Event()
        self._work: asyncio.Task[Shutdown] | None = None
        self._lightening: asyncio.Task[None] | None = None
        self._limits = PowerLimits(folder)
        self._limit_tried = self._restore_failed = False
        self._told: tuple[str, ...] = ()
        self._shed_failed = False
        self._shown_at = 0.0

    async def run(self) -> Shutdown | None:
        """Until it is ended; or until a shutdown has come to its end, which is returned."""
        unfinished = self._to_resume()
        if unfinished is not None:
            log.warning("ups_shutdown_resumes", id=unfinished.id, done=[one.name for one in unfinished.steps])
            # However old the last word is: the battery has run down since.
            known = self._folder.last_outage(math.inf) or Power()
            self.power = replace(known, stage=Stage.COMMITTED, since=time.monotonic())
            self._begin(unfinished)
        elif (outage := self._folder.last_outage()) is not None:
            self.power = replace(outage, stage=Stage.BATTERY, reason=None)
        try:
            while not self._over():
                await self.look()
                if (ended := self._ended()) is not None:
                    return ended
                await self._pause()
            return self._ended()
        finally:
            self._meter.end_hour()
            await self._let_go()

    def _to_resume(self) -> Shutdown | None:
        """A shutdown of the box that is to be finished. A rehearsal that was broken off is over: it was to
        leave the host up, and nothing says that its stack is still down.
        """
        unfinished = self._folder.unfinished()
        if unfinished is None or unfinished.host:
            return unfinished
        log.warning("ups_rehearsal_not_resumed", id=unfinished.id, reason=unfinished.reason)
        unfinished.whole = False
        self._folder.finish(unfinished)
        return None

    async def look(self) -> None:
        """One look, and what follows from it. What is decided comes first, then what is only for people."""
        seen = await self._word()
        before, now = self.power, time.monotonic()
        need_s = (self._folder.measured_s() or self._boxes_s()) + self._rules.host_down_s
        self.power = see(before, seen, now, self._rules, need_s)
        if self.power.stage is not before.stage:
            self._changed(before, now)
        if self._lightening is None or self._lightening.done():
            # Beside the looks: neither a stack nor a driver that hangs may delay the next one.
            self._lightening = asyncio.create_task(self._lighten())
        try:
            self._record(seen, before, now)
        except Exception as error:  # noqa: BLE001 - a mistake of ours must not end the watch
            log.warning("ups_not_recorded", cause=f"{type(error).__name__}: {error}")

    async def _word(self) -> Observation | None:
        """What the UPS tells; None: nothing, or what is no word."""
        cause = ""
        try:
            return await self._source.look()
        except NoWord as error:
            cause = str(error)
        except Exception as error:  # noqa: BLE001 - nor must an answer that nobody thought of
            cause = f"{type(error).__name__}: {error}"
        if self.power.blind_since is None:
            log.warning("ups_silent", cause=cause, on_battery=self.power.on_battery)
        return None

    def _record(self, seen: Observation | None, before: Power, now: float) -> None:
        if seen is not None:
            if before.blind_since is not None:
                log.info("ups_heard_again")
            self._meter.show(seen, outage=self.power.on_battery)
            self._warn(seen)
        if self.power.on_battery or before.on_battery:
            self._folder.keep_power(self.power)
        self._show(now, at_once=self.power.stage is not before.stage)

    async def _lighten(self) -> None:
        await self._shed()
        await self._limit_cards()

    def _show(self, now: float, *, at_once: bool) -> None:
        """Prometheus gets it every few seconds."""
        if not at_once and now - self._shown_at < _SHOW_EVERY_S:
            return
        self._shown_at = now
        with self._folder.effort.write(self._folder.textfile):
            write_metrics(self._folder.textfile, self.power, now, self._rules)

    def _boxes_s(self) -> float:
        """What a shutdown takes at most: as long as none was measured."""
        return sum(step.box_s for step in self._steps.all())

    def _changed(self, before: Power, now: float) -> None:
        left = outlook(self.power, now, self._rules)
        log.warning(
            "ups_stage",
            before=before.stage.value,
            after=self.power.stage.value,
            reason=self.power.reason.value if self.power.reason else None,
            status=self.power.seen.status if self.power.seen else None,
            time_left_s=round(left.time_left_s, 1) if left else None,
            charge_percent=left.charge_percent if left else None,
            blind=left.blind if left else False,
        )
        if self.power.stage is Stage.STOPPING:
            self._cancelled = asyncio.Event()
            reason = self.power.reason.value if self.power.reason else ""
            self._begin(Shutdown.begin(reason, host=self._steps.host))
        elif before.stage is Stage.STOPPING and self.power.stage is Stage.MAINS:
            self._cancelled.set()

    def _begin(self, shutdown: Shutdown) -> None:
        shutdown.whole = shutdown.whole and self._steps.running()
        if self._lightening is not None:
            self._lightening.cancel()
        course = Course(self._time_left_s, self._cancelled, self._steps.reopen, self._committed)
        self._work = asyncio.create_task(self._run_after(self._work, shutdown, course))

    async def _run_after(
        self, before: asyncio.Task[Shutdown] | None, shutdown: Shutdown, course: Course
    ) -> Shutdown:
        """One that was cancelled a moment ago opens the gateway again, and must not do so to this one."""
        if before is not None:
            await asyncio.wait({before})
        self._folder.save(shutdown)
        return await run_steps(self._steps.all(), shutdown, self._folder, course)

    def _committed(self) -> None:
        log.warning("ups_committed")
        self.power = commit(self.power, time.monotonic())
        self._meter.end_outage(shut_down=True)

    def _time_left_s(self) -> float:
        if self.power.seen is not None and self.power.seen.told_to_stop:
            return 0.0  # how long the one in charge waits is not told: only what is firm gets its time
        left = outlook(self.power, time.monotonic(), self._rules)
        return left.time_left_s if left is not None else math.inf  # the mains are back

    async def _shed(self) -> None:
        """On battery, before a shutdown: BATCH rests. The order ends by itself when it is not renewed."""
        wanted = self._rules.shed_batch and self.power.stage in {Stage.BATTERY, Stage.HOLDING}
        if not wanted or not self._steps.running():
            return
        try:
            await self._steps.shed()
            self._shed_failed = False
        except DreamseedError as error:
            if not self._shed_failed:
                log.warning("ups_batch_not_paused", cause=str(error))
            self._shed_failed = True

    async def _limit_cards(self) -> None:
        """Once an outage: the cards' limits go down; with the mains, or at the next start, up again."""
        watts = self._rules.shed_power_limit_w
        try:
            settled = self._limit_tried or self._limits.lowered
            if self.power.on_battery and watts is not None and not settled:
                self._limit_tried = True
                log.warning("ups_cards_limited", before_mw=dict(await self._limits.lower(watts)))
            elif self.power.stage is Stage.MAINS and self._limits.lowered and not self._restore_failed:
                await self._limits.restore()
                log.info("ups_cards_restored")
        except DreamseedError as error:
            self._restore_failed = self.power.stage is Stage.MAINS
            log.warning("ups_cards_not_limited", cause=str(error))
        if self.power.stage is Stage.MAINS:
            self._limit_tried = False

    def _warn(self, seen: Observation) -> None:
        said = tuple(warnings(seen, self._sizes.draw_w, self._sizes.ups_w, self._rules))
        for text in said:
            if text not in self._told:
                log.warning("ups_warning", text=text)
        self._told = said

    def _over(self) -> bool:
        return self.stopped.is_set() and self.power.stage is not Stage.COMMITTED

    def _ended(self) -> Shutdown | None:
        """The shutdown that has come to its end; one that was cancelled is forgotten."""
        if self._work is None or not self._work.done():
            return None
        shutdown, self._work = self._work.result(), None
        if shutdown.cancelled:
            log.warning("ups_shutdown_cancelled", id=shutdown.id)
            return None
        return shutdown

    async def _pause(self) -> None:
        """Until the next look, the end of the shutdown, or the wish to end."""
        if self._work is not None:
            await asyncio.wait({self._work}, timeout=self._rules.poll_s)
        else:
            await set_within(self.stopped, self._rules.poll_s)

    async def _let_go(self) -> None:
        """Ended before the point of no return: what the shutdown began is undone."""
        if self._lightening is not None:
            self._lightening.cancel()
            await asyncio.gather(self._lightening, return_exceptions=True)
        if self._work is not None and not self._work.done():
            self._cancelled.set()
            await asyncio.wait({self._work})


def run_watcher(make: Callable[[], Watcher]) -> Shutdown | signal.Signals:
    """Run one until the end of a shutdown, or SIGINT or SIGTERM, whichever it was. Not for use inside an
    event loop.
    """

    async def watch() -> Shutdown | signal.Signals:
        watcher = make()
        came = set_by_signals(watcher.stopped)
        ended = await watcher.run()
        return came[0] if ended is None else ended

    return asyncio.run(watch())
