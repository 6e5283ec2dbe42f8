"""The demonstration: asks and measures a stack that is ready."""

from __future__ import annotations

import sys
from dataclasses import dataclass

from rich.console import Console

from dreamseed_cli.demo.burst import QUESTIONS, Burst, run_burst
from dreamseed_cli.gateway.client import Answer, GatewayClient
from dreamseed_cli.supervisor.snapshot import StackSnapshot
from dreamseed_cli.supervisor.visit import Host

QUESTION = "What is the capital of Korea?"


@dataclass(frozen=True, slots=True)
class TourReport:
    """What the demonstration saw."""

    stack: StackSnapshot
    ready_after_s: float
    answer: Answer
    burst: Burst


class Tour:
    """Work for a stack of its own (see `supervisor.visit`)."""

    def __init__(self, console: Console) -> None:
        self._console = console

    async def __call__(self, host: Host) -> TourReport:
        """Run the demonstration."""
        self._say(f"Ready after {host.ready_after_s:.0f} s.")
        address = host.snapshots().gateway.address
        assert address is not None  # noqa: S101 - a ready stack has a serving gateway
        async with GatewayClient(address) as client:
            answer = await self._ask(client)
            self._say(f"\nA burst of {len(QUESTIONS)} questions at once ...")
            burst = await run_burst(client)
        stack = host.snapshots()
        self._say("Draining and stopping ...")
        return TourReport(stack, host.ready_after_s, answer, burst)

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


def console_for_people(*, as_json: bool) -> Console:
    """Where the demonstration talks: stdout, or stderr when stdout is for one JSON document."""
    return Console(file=sys.stderr if as_json else sys.stdout)
