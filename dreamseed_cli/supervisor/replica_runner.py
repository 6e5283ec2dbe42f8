"""Does what one replica's state machine decides: starts it, waits for a token, watches it, stops it."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from dataclasses import dataclass

from dreamseed_cli.core.errors import DreamseedError
from dreamseed_cli.core.processes import ProcessIdentity
from dreamseed_cli.engine.client import EngineClient
from dreamseed_cli.engine.types import EngineError, EngineRefused
from dreamseed_cli.profile.schema import Engine, RemoteEngine
from dreamseed_cli.supervisor.child import Child
from dreamseed_cli.supervisor.gateway_admin import ReplicaCounts
from dreamseed_cli.supervisor.rates import RateWindow
from dreamseed_cli.supervisor.replica import (
    Answered,
    Event,
    Exited,
    Refused,
    Replica,
    ReplicaState,
    StartTimedOut,
    StopRequested,
    advance,
)
from dreamseed_cli.supervisor.snapshot import ReplicaSnapshot
from dreamseed_cli.supervisor.stack import ReplicaPlan

_POLL_S = 0.2
_LONGEST_CANARY_S = 60.0
_LAST_WORDS = 8

OnChange = Callable[[Replica, Replica], None]


@dataclass(frozen=True, slots=True)
class Load:
    """What an engine last said of itself."""

    running: int | None = None
    waiting: int | None = None
    tokens_per_s: float | None = None
    kv_usage: float | None = None


class ReplicaRunner:
    """One replica and its process. Make and use it inside a running event loop."""

    def __init__(
        self, plan: ReplicaPlan, engine: Engine, *, on_change: OnChange, on_start: Callable[[], None]
    ) -> None:
        self.plan = plan
        self.replica = Replica.launched(plan.name, time.time())
        self.child: Child | None = None
        self._start_timeout_s = engine.start_timeout_s
        self._client = EngineClient(
            plan.endpoint,
            model=plan.model,
            api=engine.api,
            usage_per_chunk=not isinstance(engine, RemoteEngine),
            api_key=_api_key(engine),
        )
        self._on_change = on_change
        self._on_start = on_start
        self._launched = asyncio.Event()
        self._hasten = asyncio.Event()
        self._obstacle = ""
        self._load = Load()
        self._rate = RateWindow()
        self._last_log: str | None = None

    @property
    def ready(self) -> bool:
        return self.replica.state is ReplicaState.READY

    async def run(self) -> None:
        """Start it and watch it until its process has ended; its states go to `on_change`."""
        if self.plan.spec is None:
            self._apply(await self._until_answered())
            return
        try:
            self.child = await Child.start(self.plan.spec)
        except DreamseedError as error:
            self._apply(Exited(str(error)))
            return
        finally:
            self._launched.set()
        self._on_start()
        await self._watch(self.child)

    async def observe(self, now: float, counts: ReplicaCounts | None) -> None:
        """Read its metrics, or where it has none what the gateway counted. now: monotonic seconds."""
        if self.child and self.replica.state is ReplicaState.STARTING:
            self._last_log = next(iter(self.child.last_lines(1)), None)
        if self.replica.state not in {ReplicaState.READY, ReplicaState.DRAINING}:
            self._load = Load()
            return
        try:
            metrics = await self._client.metrics()
        except EngineError:
            self._load = Load()
            return
        total = metrics.generation_tokens_total if metrics else counts.tokens if counts else None
        if total is not None:
            self._rate.add(now, total)
        rate = self._rate.per_s()
        self._load = (
            Load(metrics.running, metrics.waiting, rate, metrics.kv_usage)
            if metrics
            else Load(tokens_per_s=rate)
        )

    async def stop(self, hasten: asyncio.Event) -> tuple[ProcessIdentity, ...]:
        """Stop the process within bounds; returns who outlived even SIGKILL."""
        self._apply(StopRequested())
        if self.plan.spec is not None:
            await self._launched.wait()
        survivors = await self.child.stop(hasten) if self.child else ()
        self._apply(Exited())
        return survivors

    async def close(self) -> None:
        await self._client.close()

    def snapshot(self, counts: ReplicaCounts | None) -> ReplicaSnapshot:
        replica = self.replica
        gone = replica.state in {ReplicaState.STOPPED, ReplicaState.FAILED}
        load = Load() if gone else self._load
        starting = replica.state is ReplicaState.STARTING
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
        )

    async def _watch(self, child: Child) -> None:
        answered = asyncio.create_task(self._until_answered())
        ended = asyncio.create_task(child.wait())
        try:
            await asyncio.wait({answered, ended}, return_when=asyncio.FIRST_COMPLETED)
            if not ended.done():
                self._apply(answered.result())
            if self.replica.state is ReplicaState.FAILED:
                await child.stop(self._hasten)
            await ended
        finally:
            answered.cancel()
            ended.cancel()
        self._apply(Exited(self._last_words()))
        await child.sweep(self._hasten)

    async def _until_answered(self) -> Event:
        """Wait for the first token, and say how that ended."""
        try:
            async with asyncio.timeout(self._start_timeout_s):
                while True:
                    if await self._answers():
                        return Answered()
                    await asyncio.sleep(_POLL_S)
        except TimeoutError:
            waited = f"no token within {self._start_timeout_s:.0f} s (engine.start_timeout_s)"
            words = [waited, self._obstacle, self._last_lines()]
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

    def _last_words(self) -> str:
        """How the process ended; its last lines only if nobody asked it to."""
        code = self.child.exit_code if self.child else None
        how = f"killed by signal {-code}" if code is not None and code < 0 else f"exited with code {code}"
        if self.replica.state is ReplicaState.DRAINING:
            return how
        lines = self._last_lines()
        return f"{how}; its last lines:\n{lines}" if lines else f"{how} without a word"

    def _last_lines(self) -> str:
        return "\n".join(f"  {line}" for line in self.child.last_lines(_LAST_WORDS)) if self.child else ""

    def _apply(self, event: Event) -> None:
        before = self.replica
        self.replica = advance(before, event, time.time())
        if self.replica is not before:
            self._on_change(before, self.replica)


def _api_key(engine: Engine) -> str | None:
    if isinstance(engine, RemoteEngine) and engine.api_key_env:
        return os.environ.get(engine.api_key_env)
    return None
