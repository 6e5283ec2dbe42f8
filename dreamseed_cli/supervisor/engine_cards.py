"""What the care of the cards asks of the engines that run on them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress

from dreamseed_cli.supervisor.gpu.ladder import CardState, Reason
from dreamseed_cli.supervisor.replica import Replica, ReplicaState
from dreamseed_cli.supervisor.replica_runner import ReplicaRunner

_END_BOUND_S = 30.0
_DOWN = {
    ReplicaState.RESTARTING,
    ReplicaState.FAILED,
    ReplicaState.QUARANTINED,
    ReplicaState.STOPPED,
}

Told = Callable[[int, str, str, str], None]
"""A card, its state, why, and a detail for people."""


class EngineCards:
    """A `CardOwner` over the runners of the replicas. start_bound_s: how long an engine's start may take."""

    def __init__(self, runners: Sequence[ReplicaRunner], *, start_bound_s: float, told: Told) -> None:
        self._runners = runners
        self._start_bound_s = start_bound_s
        self._told = told

    def cards(self) -> frozenset[int]:
        """The cards that the replicas were given."""
        return frozenset(card for runner in self._runners for card in runner.plan.cards)

    def pids(self, card: int) -> frozenset[int]:
        """All processes of the replicas on the card."""
        children = [runner.child for runner in self._on(card)]
        return frozenset(
            member.pid for child in children if child is not None for member in child.record().members
        )

    async def end_processes(self, card: int) -> None:
        """Kill the engine on the card; it stays down until `restart`."""
        for runner in self._on(card):
            runner.card_taken(f"card {card} is being repaired")
        with suppress(TimeoutError):
            async with asyncio.timeout(_END_BOUND_S):
                for runner in self._on(card):
                    await runner.until(_down)

    async def restart(self, card: int) -> bool:
        """Start the card's engines again and wait for their first tokens."""
        results = [await self._restart(runner) for runner in self._on(card)]
        return all(results)

    async def quarantine(self, card: int, reason: str) -> None:
        """End the engines on the card, which only an operator starts again."""
        for runner in self._on(card):
            runner.quarantine(f"card {card}: {reason}")

    def told(self, card: int, state: CardState, reason: Reason, detail: str) -> None:
        self._told(card, state.value, reason.value, detail)

    def _on(self, card: int) -> list[ReplicaRunner]:
        return [runner for runner in self._runners if card in runner.plan.cards]

    async def _restart(self, runner: ReplicaRunner) -> bool:
        before = runner.replica.restarts
        runner.card_returned()

        def decided(replica: Replica) -> bool:
            tried = replica.restarts > before and replica.state is not ReplicaState.STARTING
            return tried or replica.serving or replica.state in _DOWN - {ReplicaState.RESTARTING}

        try:
            async with asyncio.timeout(self._start_bound_s):
                return (await runner.until(decided)).serving
        except TimeoutError:
            return False


def _down(replica: Replica) -> bool:
    return replica.state in _DOWN
