"""The control socket: what the UPS's watcher asks of a stack, and how it is told that it cannot be."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager

import pytest
from short_state import short_state

from dreamseed_cli.core.errors import FailedError, UsageError
from dreamseed_cli.core.paths import StateDir
from dreamseed_cli.core.result import Provenance
from dreamseed_cli.gateway.doorway import DoorOrder, Letting
from dreamseed_cli.supervisor.control import Orders, call, control_server, drain
from dreamseed_cli.supervisor.gateway_admin import GatewayStats
from dreamseed_cli.supervisor.power_control import look, set_doorway, wind_down
from dreamseed_cli.supervisor.snapshot import (
    GatewaySnapshot,
    ReplicaSnapshot,
    RollingSnapshot,
    StackSnapshot,
)
from dreamseed_cli.supervisor.winding import PartEnded, StackPart

_SERVING = GatewaySnapshot("serving")
_STACK = StackSnapshot("p", "why", "m", Provenance.SIMULATED, 1, 0.0, 1.0, "serving", _SERVING, ())


class Stack:
    """A supervisor that does nothing but remember."""

    def __init__(self) -> None:
        self.told: list[object] = []
        self.error: Exception | None = None

    def restart(self, names: Sequence[str]) -> RollingSnapshot:
        return RollingSnapshot(tuple(names), 0.0)

    def drain(self, name: str, drained: bool) -> ReplicaSnapshot:
        self._take(name, drained)
        return ReplicaSnapshot(name, "ready", "", "", 0.0, "e", drained=drained)

    async def doorway(self, order: DoorOrder) -> GatewayStats:
        self._take(order.letting, order.retry_after_s)
        return GatewayStats(1, {}, calls=3, journal_bytes=7)

    async def wind_down(self, part: StackPart, within_s: float) -> PartEnded:
        self._take(part, within_s)
        return PartEnded(part.value, 0.5, forced=True)

    def _take(self, *words: object) -> None:
        if self.error is not None:
            raise self.error
        self.told.append(words)


@pytest.fixture
def state() -> Iterator[StateDir]:
    """A state folder with a short path."""
    with short_state() as made:
        yield made


@asynccontextmanager
async def _serving(state: StateDir) -> AsyncIterator[Stack]:
    stack = Stack()
    orders = Orders(stack.restart, stack.drain, stack.doorway, stack.wind_down)
    async with control_server(state, lambda: _STACK, orders):
        yield stack


async def test_orders_reach_the_stack_and_its_answers_come_back(state: StateDir) -> None:
    """Who is let in, with what is still inside; a part's end, with how it came."""
    async with _serving(state) as stack:
        inside = await set_doorway(state, DoorOrder(letting=Letting.NOBODY, retry_after_s=9.0))
        ended = await wind_down(state, StackPart.ENGINES, 4.0)
        assert (inside.calls, inside.journal_bytes) == (3, 7)
        assert (ended.part, ended.forced) == ("engines", True)
        assert stack.told == [(Letting.NOBODY, 9.0), (StackPart.ENGINES, 4.0)]
        assert (await look(state)).activity == "serving"


async def test_a_replica_is_drained_and_taken_back(state: StateDir) -> None:
    """By its name; one that is none is a usage error, with the remedy that the stack gave."""
    async with _serving(state) as stack:
        aside = await asyncio.to_thread(drain, state, "r1", drained=True)
        back = await asyncio.to_thread(drain, state, "r1", drained=False)
        assert [one.word for one in (aside, back)] == ["drained", "ready"]
        assert stack.told == [("r1", True), ("r1", False)]
        stack.error = UsageError("there is no replica r7 here", place="drain", remedy="There are: r1.")
        with pytest.raises(UsageError, match="no replica r7") as refused:
            await asyncio.to_thread(drain, state, "r7", drained=True)
        assert refused.value.remedy == "There are: r1."


@pytest.mark.parametrize("error", [UsageError("it is still starting"), FailedError("it does not answer")])
async def test_what_cannot_be_is_told_with_its_cause(state: StateDir, error: Exception) -> None:
    """Both to whoever waits for the gateway and to whoever ends a part."""
    async with _serving(state) as stack:
        stack.error = error
        for asking in (
            set_doorway(state, DoorOrder(letting=Letting.ALL)),
            wind_down(state, StackPart.REDIS, 1.0),
        ):
            with pytest.raises(FailedError, match=r"it (is still starting|does not answer)"):
                await asking


@pytest.mark.parametrize(
    ("path", "body"),
    [("/wind-down", {"part": "roof"}), ("/doorway", {"letting": "some"}), ("/drained", {"replica": "r0"})],
)
async def test_an_order_that_is_none_changes_nothing(
    state: StateDir, path: str, body: dict[str, str]
) -> None:
    """A 400."""
    async with _serving(state) as stack:
        method = "POST" if path == "/wind-down" else "PUT"
        with pytest.raises(FailedError, match="400"):
            await call(state, method, path, body)
        assert stack.told == []


async def test_nobody_there_is_said(state: StateDir) -> None:
    """A stack that has ended."""
    with pytest.raises(FailedError, match="does not answer"):
        await look(state)
