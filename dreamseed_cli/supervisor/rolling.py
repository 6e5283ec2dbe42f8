"""`dreamseed restart`: one replica after another, each drained first, each ready before the next."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import replace

from dreamseed_cli.supervisor.replica import Replica, ReplicaState
from dreamseed_cli.supervisor.replica_runner import ReplicaRunner
from dreamseed_cli.supervisor.snapshot import RollingSnapshot

_GIVEN_UP = {ReplicaState.FAILED, ReplicaState.QUARANTINED, ReplicaState.STOPPED}


class RollingRestart:
    """Restarts some of the `runners`, in their order."""

    def __init__(self, runners: Sequence[ReplicaRunner], wanted: Sequence[str]) -> None:
        self._runners = runners
        self._wanted = [runner for runner in runners if runner.plan.name in set(wanted)]
        names = tuple(runner.plan.name for runner in self._wanted)
        self.snapshot = RollingSnapshot(names, time.time())

    @property
    def running(self) -> bool:
        return self.snapshot.finished_at is None

    async def run(self) -> None:
        """To the end, or to the first replica that does not come back."""
        for runner in self._wanted:
            self.snapshot = replace(self.snapshot, current=runner.plan.name)
            await self._until_another_serves(runner)
            after = await self._restart(runner)
            if after.state is not ReplicaState.READY:
                error = f"{after.name} did not come back: {after.reason.value}: {after.detail}"
                self.snapshot = replace(self.snapshot, error=error)
                break
            self.snapshot = replace(self.snapshot, done=(*self.snapshot.done, runner.plan.name))
        self.snapshot = replace(self.snapshot, current=None, finished_at=time.time())

    async def _until_another_serves(self, runner: ReplicaRunner) -> None:
        """Where another replica is on its way, do not take the last one that serves."""
        others = [other for other in self._runners if other is not runner]
        waits = [other.until(_decided) for other in others if other.replica.coming]
        if waits and not any(other.serving for other in others):
            await asyncio.wait([asyncio.ensure_future(wait) for wait in waits])

    async def _restart(self, runner: ReplicaRunner) -> Replica:
        before = runner.replica.restarts
        runner.restart("an operator asked for it")

        def over(replica: Replica) -> bool:
            started = replica.restarts > before
            failed = replica.state is ReplicaState.RESTARTING and replica.failures > 0
            ready = started and replica.state is ReplicaState.READY
            return ready or failed or replica.state in _GIVEN_UP

        return await runner.until(over)


def _decided(replica: Replica) -> bool:
    return replica.serving or replica.state in _GIVEN_UP
