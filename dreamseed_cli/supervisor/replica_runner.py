"""Does what one replica's state machine decides: starts it, waits for a token, watches, ends, restarts it."""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import Callable, Mapping

import structlog

from dreamseed_cli.core.errors import DreamseedError
from dreamseed_cli.core.waiting import set_within
from dreamseed_cli.engine.client import EngineClient
from dreamseed_cli.engine.types import EngineError, EngineRefused, EngineTimeout
from dreamseed_cli.profile.resilience import Supervision
from dreamseed_cli.profile.schema import Engine, RemoteEngine
from dreamseed_cli.supervisor.adoption import AdoptedChild, adopt_or_start
from dreamseed_cli.supervisor.child import Child, ChildSpec, Stopped, at_once, how_it_ended
from dreamseed_cli.supervisor.exits import ExitKind, classify
from dreamseed_cli.supervisor.gateway_admin import ReplicaCounts
from dreamseed_cli.supervisor.replica import (
    Adopted,
    Answered,
    CardReturned,
    CardTaken,
    Event,
    Exited,
    Launched,
    Quarantined,
    Reason,
    Refused,
    Replica,
    ReplicaState,
    RestartRequested,
    StartTimedOut,
    StopRequested,
    advance,
)
from dreamseed_cli.supervisor.snapshot import ReplicaSnapshot
from dreamseed_cli.supervisor.stack import ReplicaPlan
from dreamseed_cli.supervisor.state import ChildRecord
from dreamseed_cli.supervisor.vitals import Vitals
from dreamseed_cli.supervisor.watchdog import Watchdog

_POLL_S = 0.2
_LONGEST_CANARY_S = 60.0
_SUSPECT_LINES = 40
"""Lines of a log in which the reason of an end is looked for; the last of them are shown."""
_LAST_WORDS = 8
_ELSEWHERE_EVERY_S = 5.0
_START_MARGIN_S = 0.5
_IDLE_LOOKS = 2
"""The gateway may have sent one more between the last look and the new table."""

OnChange = Callable[[Replica, Replica], None]

log = structlog.get_logger("supervisor")


class ReplicaRunner:
    """One replica and its process. Make and use it inside a running event loop.

    minds_card: whether somebody looks after this replica's cards: after a GPU fault it is then held back
    until `card_returned` or `quarantine`. drain_s: how long it may finish its requests before a restart.
    """

    def __init__(
        self,
        plan: ReplicaPlan,
        engine: Engine,
        rules: Supervision,
        *,
        on_change: OnChange,
        on_start: Callable[[], None],
        minds_card: Callable[[], bool] = lambda: False,
        drain_s: float = 20.0,
    ) -> None:
        self.plan = plan
        self.left: Mapping[str, ChildRecord] = {}
        """What a killed supervisor left, by name: it is adopted in place of a start, if it is this engine."""
        self.rules = rules
        self.replica = Replica.launched(plan.name, time.time(), ours=plan.spec is not None)
        self.drained = False
        """Whether an operator wants no new requests there. It runs on, and is watched as ever."""
        self.child: Child | None = None
        self._start_timeout_s = engine.start_timeout_s
        self._client = EngineClient(
            plan.endpoint,
            model=plan.model,
            api=engine.api,
            usage_per_chunk=not isinstance(engine, RemoteEngine),
            api_key=_api_key(engine),
        )
        self._vitals = Vitals(self._client)
        self._watchdog = Watchdog(rules)
        self._canary: asyncio.Task[None] | None = None
        self._on_change = on_change
        self._on_start = on_start
        self._minds_card = minds_card
        self._launching = asyncio.Lock()
        self._stopping = asyncio.Event()
        self._changed = asyncio.Event()
        self._at_once = at_once()
        self._obstacle = ""
        self._last_log: str | None = None
        self._started_at = time.monotonic()
        self._start_took_s: float | None = None
        self._drain_s = drain_s
        self._idle_looks = 0

    @property
    def ready(self) -> bool:
        return self.replica.state is ReplicaState.READY and not self.drained

    @property
    def serving(self) -> bool:
        """Whether requests may go there, if only for want of a better one."""
        return self.replica.serving and not self.drained

    @property
    def expected_in_s(self) -> float | None:
        """When it will be ready, as far as its last start tells; None: unknown, or not by itself."""
        if self.drained or not self.replica.coming:
            return None
        if self._start_took_s is None or self.replica.retry_at is None:
            return None
        wait_s = 0.0
        if self.replica.state is ReplicaState.RESTARTING:
            wait_s = max(0.0, self.replica.retry_at - time.time())
        elif self.replica.state is ReplicaState.STARTING:
            wait_s = self._started_at - time.monotonic()
        elif self.replica.state is ReplicaState.DRAINING:
            wait_s = self._drain_s / 2  # how long its answers still take, nobody knows
        return max(wait_s + self._start_took_s + _START_MARGIN_S, _START_MARGIN_S)

    async def run(self) -> None:
        """Keep it running until `stop`; its states go to `on_change`."""
        spec = self.plan.spec
        while not self._stopping.is_set():
            if spec is None:
                await self._attend_elsewhere()
            elif (child := await self._launch(spec)) is not None:
                await self._watch(child)
            await self._until_retry()

    async def observe(self, now: float, counts: ReplicaCounts | None) -> None:
        """Look at it, judge it, and send a canary when one is due. now: monotonic seconds."""
        if self.child and self.replica.state is ReplicaState.STARTING:
            self._last_log = next(iter(self.child.last_lines(1)), None)
        if not (self.replica.serving or self.replica.state is ReplicaState.DRAINING):
            self._vitals.forget()
            return
        look = await self._vitals.look(now, counts)
        self._idle_looks = 0 if look.working else self._idle_looks + 1
        if not self.replica.serving:
            return
        event = self._watchdog.look(look, self.replica, now)
        if event is not None:
            self._apply(event)
        elif self._canary is None and self._watchdog.canary_due(self.replica, now):
            self._watchdog.canary_sent(now)
            self._canary = asyncio.create_task(self._send_canary(self.child))

    def take(self, rules: Supervision, *, drain_s: float) -> None:
        """Go by these rules from now on."""
        self.rules, self._drain_s = rules, drain_s
        self._watchdog.rules = rules

    def restart(self, why: str) -> None:
        """End it, whatever it does now, and start it again. Whoever wants it drained first does that."""
        self._apply(RestartRequested(why))

    def card_taken(self, why: str) -> None:
        """End it and keep it down until its card is given back."""
        self._apply(CardTaken(why))

    def card_returned(self) -> None:
        """Start it again: its card is fit."""
        self._apply(CardReturned())

    def quarantine(self, why: str) -> None:
        """End it and keep it down until an operator restarts it."""
        self._apply(Quarantined(why))

    async def until(self, condition: Callable[[Replica], bool]) -> Replica:
        """Wait for a state; at once if it is there already."""
        while not condition(self.replica):
            await self._changed.wait()  # each change has an event of its own
        return self.replica

    async def stop(self, hasten: asyncio.Event) -> Stopped:
        """Stop the process within bounds."""
        self._apply(StopRequested())
        self._stopping.set()
        async with self._launching:
            child = self.child
        stopped = await child.stop(hasten) if child else Stopped()
        self._apply(Exited())
        return stopped

    async def close(self) -> None:
        if self._canary is not None:
            self._canary.cancel()
            await asyncio.gather(self._canary, return_exceptions=True)
        await self._client.close()

    def snapshot(self, counts: ReplicaCounts | None) -> ReplicaSnapshot:
        replica = self.replica
        load = self._vitals.load
        starting = replica.state is ReplicaState.STARTING
        waits = replica.state is ReplicaState.RESTARTING
        return ReplicaSnapshot(
            name=replica.name,
            state=replica.state.value,
            reason=replica.reason.value,
            detail=replica.detail or (self._obstacle if starting else ""),
            since=replica.since,
            endpoint=str(self.plan.endpoint),
            pid=self.child.identity.pid if self.child and self.child.exit_code is None else None,
            cards=self.plan.cards,
            running=load.running,
            waiting=load.waiting,
            tokens_per_s=load.tokens_per_s,
            kv_usage=load.kv_usage,
            finished=counts.finished if counts else 0,
            failed=counts.failed if counts else 0,
            simulated=self._client.simulated,
            last_log=self._last_log if starting else None,
            restarts=replica.restarts,
            retry_at=replica.retry_at if waits else None,
            drained=self.drained,
        )

    async def _launch(self, spec: ChildSpec) -> Child | None:
        """Start its process; None if that failed or a stop was wished meanwhile."""
        async with self._launching:
            if self._stopping.is_set():
                return None
            self._started_at = time.monotonic()
            try:
                self.child = child = await adopt_or_start(spec, self.left)
            except DreamseedError as error:
                self._apply(Exited(str(error), kind=ExitKind.CONFIGURATION))
                return None
            except OSError as error:
                # A full disk has no room for its log: it may have some later.
                kind = classify(None, [str(error)])
                self._apply(Exited(f"it cannot be started: {error}", kind=kind, jitter=_jitter()))
                return None
        if isinstance(child, AdoptedChild):
            self._apply(Adopted(f"pid {child.identity.pid} of the run that was killed"))
        else:
            self._apply(Launched())
        self._on_start()
        return child

    async def _watch(self, child: Child) -> None:
        """Until its process has ended, by itself or because its state wants it to."""
        answered = asyncio.create_task(self._until_answered())
        ended = asyncio.create_task(child.wait())
        unwanted = asyncio.create_task(self.until(_unwanted))
        try:
            await asyncio.wait({answered, ended, unwanted}, return_when=asyncio.FIRST_COMPLETED)
            if answered.done() and not ended.done():
                self._apply(answered.result())
                await asyncio.wait({ended, unwanted}, return_when=asyncio.FIRST_COMPLETED)
            if not ended.done() and not self._stopping.is_set():
                await self._until_idle(ended)
                await child.stop(self._haste())
            await ended
        finally:
            for task in (answered, ended, unwanted):
                task.cancel()
        self._apply(self._end(child))
        await child.sweep(self._at_once)

    async def _until_idle(self, ended: asyncio.Task[int]) -> None:
        """Before a restart by wish: let it finish what the gateway has there, within bounds."""
        self._idle_looks = 0
        deadline = time.monotonic() + self._drain_s
        while self.replica.reason is Reason.RESTART_REQUESTED and not ended.done():
            if self._idle_looks >= _IDLE_LOOKS or time.monotonic() > deadline:
                return
            await asyncio.wait({ended}, timeout=_POLL_S)

    def _haste(self) -> asyncio.Event:
        """What hangs is killed; what is restarted by wish may end in order."""
        orderly = self.replica.reason in {Reason.RESTART_REQUESTED, Reason.REFUSED}
        return asyncio.Event() if orderly else self._at_once

    async def _attend_elsewhere(self) -> None:
        """Ask an engine that is not ours until it answers, then until it hangs."""
        event = await self._until_answered()
        self._apply(event)
        if isinstance(event, Answered):
            await self.until(lambda replica: not replica.serving)
        elif self.replica.state is ReplicaState.HUNG:
            await asyncio.sleep(_ELSEWHERE_EVERY_S)

    async def _until_retry(self) -> None:
        """Wait for the moment to start it again: a time, a card, an operator."""
        while not self._stopping.is_set():
            replica = self.replica
            if not replica.ours and replica.state is not ReplicaState.FAILED:
                return
            due = replica.retry_at if replica.state is ReplicaState.RESTARTING else None
            left = None if due is None else due - time.time()
            if left is not None and left <= 0:
                return
            if not await set_within(self._changed, left):
                return

    async def _until_answered(self) -> Event:
        """Wait for the first token, and say how that ended."""
        bound_s, setting = self._start_timeout_s, "engine.start_timeout_s"
        if isinstance(self.child, AdoptedChild) and await self._client.health():
            # It has loaded its model long ago: as any other that has work, it must generate now.
            bound_s, setting = self.rules.hang_after_s, "supervision.hang_after_s"
        try:
            async with asyncio.timeout(bound_s):
                while True:
                    if await self._answers():
                        return Answered()
                    await asyncio.sleep(_POLL_S)
        except TimeoutError:
            waited = f"no token within {bound_s:.0f} s ({setting})"
            words = [waited, self._obstacle, self.child.quoted_lines(_LAST_WORDS) if self.child else ""]
            return StartTimedOut("\n".join(word for word in words if word))
        except EngineRefused as error:
            return Refused(f"it refuses to generate: {error}")

    async def _answers(self) -> bool:
        """Health first, since it costs nothing; then a token: health says nothing of the engine core."""
        if self.plan.spec is not None and not await self._client.health():
            return False
        try:
            await self._client.first_token(min(_LONGEST_CANARY_S, self._start_timeout_s))
        except EngineRefused:
            raise
        except EngineError as error:
            self._obstacle = str(error)
            return False
        return True

    async def _send_canary(self, child: Child | None) -> None:
        """Ask for one token; what it says counts only if the process is still the one that was asked."""
        event: Event | None
        try:
            took_s = await self._client.first_token(self.rules.canary_timeout_s)
            event = self._watchdog.canary_answered(took_s, self.replica)
        except EngineError as error:
            event = self._watchdog.canary_missed(str(error), timed_out=isinstance(error, EngineTimeout))
        finally:
            self._canary = None
        if event is not None and child is self.child:
            self._apply(event)

    def _end(self, child: Child) -> Exited:
        """How the process ended; its last lines only if nobody asked it to."""
        if self.replica.state is ReplicaState.DRAINING:
            return Exited(how_it_ended(child.exit_code))
        kind = classify(child.exit_code, child.last_lines(_SUSPECT_LINES))
        held = kind is ExitKind.GPU_FAULT and self._minds_card()
        return Exited(child.end_in_words(_LAST_WORDS), kind=kind, jitter=_jitter(), held=held)

    def _apply(self, event: Event) -> None:
        before = self.replica
        self.replica = after = advance(before, event, time.time(), self.rules)
        if after is before:
            return
        if isinstance(event, Answered):
            if not isinstance(self.child, AdoptedChild):  # which says nothing of a start
                self._start_took_s = time.monotonic() - self._started_at
            self._watchdog.begin(time.monotonic())
        if (before.state, before.reason) != (after.state, after.reason):
            self._on_change(before, after)
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()


def _unwanted(replica: Replica) -> bool:
    """Whether its process has to end, though the stack does not."""
    if replica.state is ReplicaState.DRAINING:
        return replica.reason is Reason.RESTART_REQUESTED
    return replica.state in {ReplicaState.HUNG, ReplicaState.FAILED, ReplicaState.QUARANTINED}


def _jitter() -> float:
    return random.random()  # noqa: S311 - it spreads restarts, it hides nothing


def _api_key(engine: Engine) -> str | None:
    if isinstance(engine, RemoteEngine) and engine.api_key_env:
        return os.environ.get(engine.api_key_env)
    return None
