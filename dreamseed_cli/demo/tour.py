"""The demonstration: waits for a session to be ready, asks, measures, and ends the session."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

from rich.console import Console

from dreamseed_cli.core.errors import DreamseedError
from dreamseed_cli.demo.burst import QUESTIONS, Burst, run_burst
from dreamseed_cli.gateway.client import Answer, GatewayClient
from dreamseed_cli.supervisor.live import show_live
from dreamseed_cli.supervisor.session import Session
from dreamseed_cli.supervisor.snapshot import StackSnapshot

QUESTION = "What is the capital of Korea?"
_POLL_S = 0.2
_STILL_EVERY_S = 10.0

Snapshots = Callable[[], StackSnapshot]


@dataclass(frozen=True, slots=True)
class TourReport:
    """What the demonstration saw."""

    stack: StackSnapshot
    ready_after_s: float
    answer: Answer
    burst: Burst


class Tour:
    """A viewer of a session (see `supervisor.session`) that uses it once and then ends it."""

    def __init__(self, session: Session, console: Console) -> None:
        self._session = session
        self._console = console
        self.report: TourReport | None = None
        self.failure: DreamseedError | None = None

    async def __call__(self, snapshots: Snapshots) -> None:
        """Run the demonstration against the stack that `snapshots` describes."""
        try:
            self.report = await self._use(snapshots)
        except* DreamseedError as failures:
            self.failure = _first(failures)
        finally:
            self._session.end()

    async def _use(self, snapshots: Snapshots) -> TourReport:
        start = time.monotonic()
        stack = await self._ready(snapshots)
        ready_after_s = time.monotonic() - start
        self._say(f"Ready after {ready_after_s:.0f} s.")
        assert stack.gateway.address is not None  # noqa: S101 - a ready stack has a serving gateway
        async with GatewayClient(stack.gateway.address) as client:
            answer = await self._ask(client)
            self._say(f"\nA burst of {len(QUESTIONS)} questions at once ...")
            burst = await run_burst(client)
        stack = snapshots()
        self._say("Draining and stopping ...")
        return TourReport(stack, ready_after_s, answer, burst)

    async def _ready(self, snapshots: Snapshots) -> StackSnapshot:
        """Wait until every replica is ready, showing what is waited for."""
        showing = asyncio.create_task(
            show_live(snapshots) if self._console.is_terminal else self._tell_progress(snapshots)
        )
        try:
            while True:
                now = snapshots()
                if _ready(now):
                    return now
                await asyncio.sleep(_POLL_S)
        finally:
            showing.cancel()
            await asyncio.gather(showing, return_exceptions=True)

    async def _tell_progress(self, snapshots: Snapshots) -> None:
        """Where no live view can be drawn: a line for each step, and a sign of life in between."""
        said, at = "", time.monotonic()
        while True:
            now = snapshots()
            if now.activity != said:
                said, at = now.activity, time.monotonic()
                self._say(f"{said} ...")
            elif time.monotonic() - at >= _STILL_EVERY_S:
                at = time.monotonic()
                self._say(f"  {_still(now)} ({now.uptime_s:.0f} s)")
            await asyncio.sleep(_POLL_S)

    async def _ask(self, client: GatewayClient) -> Answer:
        self._say(f"\nQ: {QUESTION}\nA: ", end="")
        stream = client.ask(QUESTION, temperature=0.0, timeout_s=120.0)
        async for text in stream:
            self._say(text, end="")
        self._say("")
        return stream.answer

    def _say(self, text: str, end: str = "\n") -> None:
        # Unstyled and unwrapped: an answer is the model's text, not ours to mark up.
        self._console.file.write(text + end)
        self._console.file.flush()


def _ready(stack: StackSnapshot) -> bool:
    return bool(stack.replicas) and stack.ready == len(stack.replicas) and stack.gateway.address is not None


def _still(stack: StackSnapshot) -> str:
    starting = [replica for replica in stack.replicas if replica.state != "ready"]
    if not starting:
        return f"still {stack.activity}"
    last = starting[0].last_log
    names = ", ".join(replica.name for replica in starting)
    return f"waiting for {names} to generate a token" + (f"; its log: {last[:80]}" if last else "")


def _first(failures: BaseExceptionGroup[DreamseedError]) -> DreamseedError:
    """A burst fails as a group; an operator needs one cause."""
    first: BaseException = failures
    while isinstance(first, BaseExceptionGroup):
        first = first.exceptions[0]
    assert isinstance(first, DreamseedError)  # noqa: S101 - except* selected them
    return first


def console_for_people(*, as_json: bool) -> Console:
    """Where the demonstration talks: stdout, or stderr when stdout is for one JSON document."""
    return Console(file=sys.stderr if as_json else sys.stdout)
