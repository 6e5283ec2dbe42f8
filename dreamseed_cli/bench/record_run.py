"""A run from the command's wish to its result: which stack, started or found, and Ctrl-C in between."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import uvloop
from rich.console import Console

from dreamseed_cli.bench.campaign import Campaign, Wish
from dreamseed_cli.bench.live_view import LiveView
from dreamseed_cli.bench.own_stack import StackUnderTest, run_with_own_stack, running_stack
from dreamseed_cli.bench.records import Record
from dreamseed_cli.bench.result import BenchResult
from dreamseed_cli.bench.shapes import Replay, TargetSpec
from dreamseed_cli.bench.suites import NEED_SERVICES, SUITES
from dreamseed_cli.bench.under_test import UnderTest, introduce, of_address, of_stack
from dreamseed_cli.bench.workload.trace import read
from dreamseed_cli.core.errors import UsageError
from dreamseed_cli.core.paths import StateDir
from dreamseed_cli.profile.select import choose_profile, visible_cards

Outcome = tuple[BenchResult, Mapping[tuple[str, str], Sequence[Record]]]


def chosen_suites(names: Sequence[str]) -> tuple[str, ...]:
    """The suites by name, `all` for each of them; each once, in the order they run. UsageError if unknown."""
    wanted = {one.strip() for name in names for one in name.split(",")}
    unknown = sorted(wanted - {*SUITES, "all"})
    if unknown:
        raise UsageError(
            f"there is no suite '{unknown[0]}'",
            place="--suite",
            remedy=f"There are: {', '.join(SUITES)}, all.",
        )
    return tuple(name for name in SUITES if "all" in wanted or name in wanted)


def chosen_trace(path: Path | None, speed: float, suites: Sequence[str]) -> Replay | None:
    """The trace to replay, read once so that a wrong line is told before anything starts.

    UsageError for such a line, and for suites that make their own load.
    """
    if path is None:
        return None
    if tuple(suites) != ("engine",):
        raise UsageError(
            "only the engine suite replays a trace",
            place="--trace",
            remedy="Leave --suite out, or run the other suites by themselves.",
        )
    own_prompts = any(entry.prompt is not None for entry in read(path))
    return Replay(str(path.expanduser()), speed, own_prompts)


@dataclass
class Run:
    """One wish, carried out. interrupted: whether Ctrl-C ended it early."""

    wish: Wish
    live: LiveView
    console: Console
    state: StateDir
    api_key_env: str | None = None
    interrupted: bool = False

    def against(self, spec: TargetSpec) -> Outcome:
        """Measure somebody's server. Raises as `under_test.of_address` and the suites."""
        return uvloop.run(self._against(spec))

    def here(self, profile: str | None, gpus: int | None) -> Outcome:
        """Measure the stack that runs here, or one started for this: always, if a profile is named.

        UsageError for a profile or a number of cards that a running stack does not have.
        """
        stack = None if profile or gpus else running_stack(self.state)
        if stack is not None:
            self.live.say(f"Measuring the running stack behind {stack.gateway}.")
            return uvloop.run(self._of_running(stack))
        choice = choose_profile(profile, gpus, visible_cards())
        self.live.say(f"Starting a stack of profile '{choice.profile.name}' ({choice.why}).")
        own = StateDir(self.state.root / "bench")
        services = not NEED_SERVICES.isdisjoint(self.wish.suites)
        return run_with_own_stack(choice, own, self._of_own, self.console, services=services)

    async def _against(self, spec: TargetSpec) -> Outcome:
        target = await of_address(spec, self.state)
        return await self._interruptible(target)

    async def _of_running(self, stack: StackUnderTest) -> Outcome:
        target = await introduce(of_stack(stack, self.api_key_env))
        return await self._interruptible(target)

    async def _of_own(self, stack: StackUnderTest) -> Outcome:
        target = await introduce(of_stack(stack, None))
        return await self._measure(target, stack.interrupted)

    async def _interruptible(self, target: UnderTest) -> Outcome:
        """The first Ctrl-C ends the load and keeps what there is; the second one ends the program."""
        stop = asyncio.Event()
        task = asyncio.current_task()

        def interrupt() -> None:
            if stop.is_set() and task is not None:
                task.cancel()
            stop.set()

        loop = asyncio.get_running_loop()
        for signum in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(signum, interrupt)
        try:
            return await self._measure(target, stop)
        except asyncio.CancelledError:
            raise KeyboardInterrupt from None
        finally:
            for signum in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(signum)

    async def _measure(self, target: UnderTest, stop: asyncio.Event) -> Outcome:
        folder = self.state.root / "bench" / "work"
        campaign = Campaign(self.wish, target, folder, self.live, stop)
        result = await campaign.run()
        self.interrupted = stop.is_set()
        return result, campaign.records
