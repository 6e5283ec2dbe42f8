"""Runs the scheduler against the clock: every token leaves at the time its step ends.

While a step lasts, the bytes of all its tokens are prepared; when it ends, they are only written. The
next step starts when this one was due, not when this process woke up, so the schedule does not drift.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from dataclasses import dataclass, replace
from time import monotonic

from dreamseed_cli.engine.emulated.faults import Faults
from dreamseed_cli.engine.emulated.metrics import Metrics
from dreamseed_cli.engine.emulated.outlet import Outlet, StreamOutlet
from dreamseed_cli.engine.emulated.scheduler import Scheduler, Sequence, Step

_GIVE_UP_BEHIND_S = 1.0
"""So far behind (a suspended process, a starved core) the schedule starts anew instead of rushing."""


@dataclass(slots=True)
class _Active:
    """A sequence's outlet, and the times its metrics need (monotonic seconds; uvloop's are whole ms)."""

    outlet: Outlet
    arrived: float
    last_due: float = 0.0


class Stepper:
    """The engine's heart: owns the scheduler, the outlets and the one timer."""

    def __init__(self, scheduler: Scheduler, metrics: Metrics, faults: Faults) -> None:
        self._loop = asyncio.get_running_loop()
        self._scheduler = scheduler
        self._metrics = metrics
        self._faults = faults
        self._active: dict[Sequence, _Active] = {}
        self._step: Step | None = None
        self._outgoing: list[tuple[Outlet, bytes]] = []
        self._stalled: list[StreamOutlet] = []
        self._hung = False
        self._idle = asyncio.Event()
        self._idle.set()

    def submit(self, sequence: Sequence, outlet: Outlet) -> None:
        """Take a sequence in; an idle engine starts a step at once. ValueError as the scheduler's."""
        self._scheduler.submit(sequence)
        now = monotonic()
        self._active[sequence] = _Active(outlet, arrived=now)
        self._idle.clear()
        if self._step is None:
            self._begin(now)

    def cancel(self, sequence: Sequence) -> None:
        """The client has gone: free the sequence's place and KV at once. Does nothing after its end."""
        active = self._forget(sequence)
        if self._scheduler.cancel(sequence):
            self._metrics.finished["abort"] += 1
        if active is not None:
            active.outlet.done.cancel()

    def cancel_all(self) -> None:
        for sequence in list(self._active):
            self.cancel(sequence)

    async def wait_idle(self) -> None:
        """Return once no sequence is left."""
        await self._idle.wait()

    def stall(self, count: int | None) -> None:
        """Let the streams that are open now, or the first `count` of them, stop midway."""
        streams = [a.outlet for a in self._active.values() if isinstance(a.outlet, StreamOutlet)]
        for stream in streams[:count]:
            stream.stall()
            self._stalled.append(stream)

    def recover(self) -> None:
        """Go on after the faults were taken away."""
        for stream in self._stalled:
            stream.resume()
        self._stalled.clear()
        if self._hung and self._step is not None:
            self._hung = False
            self._step = replace(self._step, due=monotonic())
            self._deliver()

    def _forget(self, sequence: Sequence) -> _Active | None:
        active = self._active.pop(sequence, None)
        if not self._active:
            self._idle.set()
        return active

    def _begin(self, start: float) -> None:
        """Decide the next step, prepare its bytes and wait for its end."""
        step = self._scheduler.start_step(start, slowdown=self._faults.slowdown)
        self._step = step
        if step is None:
            return
        garbage = self._faults.garbage
        prepared = (
            (outlet, outlet.prepare(sequence.emitted, garbage=garbage))
            for sequence in step.emitting
            for outlet in (self._active[sequence].outlet,)
        )
        self._outgoing = [(outlet, data) for outlet, data in prepared if data]
        self._loop.call_later(max(0.0, step.due - monotonic()), self._deliver)

    def _deliver(self) -> None:
        """The step has ended: hand out its tokens and begin the next one."""
        step = self._step
        if step is None:
            return
        if self._faults.hang:
            self._hung = True
            return
        if monotonic() < step.due:
            # The loop's timers are rounded to milliseconds; take turns for the rest of one.
            self._loop.call_soon(self._deliver)
            return
        self._metrics.lateness.add_sorted(self._write(), origin=step.due)
        self._account(step)
        self._crash_if_told(len(step.emitting))
        self._end(self._scheduler.finish_step(step))
        self._begin(self._next_start(step))

    def _write(self) -> list[float]:
        """Write what was prepared; returns when each write was done."""
        times: list[float] = []
        for outlet, data in self._outgoing:
            outlet.write(data)
            times.append(monotonic())
        return times

    def _account(self, step: Step) -> None:
        """The step's latencies: to first tokens as they happened, between tokens as scheduled."""
        now = monotonic()
        gaps: Counter[float] = Counter()
        for sequence in step.emitting:
            active = self._active.get(sequence)
            if active is None:
                continue
            if sequence.emitted == 0:
                self._metrics.time_to_first_token.add(now - active.arrived)
            else:
                gaps[step.due - active.last_due] += 1
            active.last_due = step.due
        for gap, times in gaps.items():
            self._metrics.inter_token_latency.add(gap, times)

    def _end(self, finished: list[Sequence]) -> None:
        now = monotonic()
        for sequence in finished:
            active = self._forget(sequence)
            if active is None:
                continue
            self._metrics.finished[active.outlet.answer.finish_reason] += 1
            self._metrics.request_latency.add(now - active.arrived)
            active.outlet.finish()

    def _next_start(self, step: Step) -> float:
        now = monotonic()
        if now - step.due < _GIVE_UP_BEHIND_S:
            return step.due
        self._metrics.schedule_resets += 1
        return now

    def _crash_if_told(self, tokens: int) -> None:
        if self._faults.crash_in_tokens is not None:
            self._faults.crash_in_tokens -= tokens
            if self._faults.crash_in_tokens <= 0:
                os._exit(1)
