"""A run from the command's wish to its result: which stack, started or found, and Ctrl-C in between."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import uvloop
from rich.console import Console

from dreamseed_cli.bench.campaign import Campaign, Wish
from dreamseed_cli.bench.live_view import LiveView
from dreamseed_cli.bench.lock import only_bench
from dreamseed_cli.bench.measure.notes import UNFORCED
from dreamseed_cli.bench.own_stack import StackUnderTest, run_with_own_stack, running_stack
from dreamseed_cli.bench.records import Record
from dreamseed_cli.bench.result import BenchResult
from dreamseed_cli.bench.shapes import Replay, TargetSpec
from dreamseed_cli.bench.suites import IN_ROUNDS, NEED_SERVICES, SUITES, TAKE_WORKLOAD
from dreamseed_cli.bench.under_test import UnderTest, introduce, of_address, of_stack
from dreamseed_cli.bench.workload import load
from dreamseed_cli.bench.workload.trace import read
from dreamseed_cli.core.errors import DreamseedError, UsageError
from dreamseed_cli.core.paths import StateDir
from dreamseed_cli.profile.select import choose_profile

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
    entries = read(path)
    own_prompts = any(entry.prompt is not None for entry in entries)
    return Replay(str(path.expanduser()), entries[-1].at_s, speed, own_prompts)


def chosen_workload(spec: str | None, suites: Sequence[str], *, trace: bool) -> str | None:
    """The workload to ask for, read once so that a mistake is told before anything starts.

    UsageError for suites that ask for something else, and as `workload.load`.
    """
    if spec is None:
        return None
    others = [name for name in suites if name not in TAKE_WORKLOAD]
    if others or trace:
        raise UsageError(
            "a trace brings its own requests" if trace else f"the suite '{others[0]}' asks for its own",
            place="--workload",
            remedy=f"It is for {', '.join(name for name in SUITES if name in TAKE_WORKLOAD)}.",
        )
    return load(spec).spec


def chosen_rates(rates: Sequence[float], suites: Sequence[str], *, trace: bool) -> tuple[float, ...]:
    """The engine suite's rates in requests/s, each once, lowest first, in the digits that name a cell.

    UsageError where nobody would ask for them.
    """
    if rates and (trace or "engine" not in suites):
        raise UsageError(
            "a trace has its own times" if trace else f"the suite '{suites[0]}' takes no rates",
            place="--rate",
            remedy="It is for engine.",
        )
    return tuple(sorted({float(f"{per_s:g}") for per_s in rates}))


def chosen_rounds(rounds: int, suites: Sequence[str], *, trace: bool) -> int:
    """How many rounds there are. UsageError if nothing that was chosen can be measured in several."""
    if rounds > 1 and (trace or not any(name in IN_ROUNDS for name in suites)):
        raise UsageError(
            "a trace has its own times" if trace else f"the suite '{suites[0]}' has no cells of a fixed load",
            place="--rounds",
            remedy=f"It is for {' and '.join(IN_ROUNDS)}.",
        )
    return rounds


@dataclass
class Run:
    """One wish, carried out.

    save: takes the result so far after each cell. interrupted: whether Ctrl-C or the like ended it early.
    failure: what ended it early after its first cells.
    """

    wish: Wish
    live: LiveView
    console: Console
    state: StateDir
    api_key_env: str | None = None
    save: Callable[[BenchResult], None] = lambda _: None
    interrupted: bool = False
    failure: DreamseedError | None = None

    @property
    def _folder(self) -> Path:
        return self.state.root / "bench"

    def against(self, spec: TargetSpec) -> Outcome:
        """Measure somebody's server. Raises as `only_bench`, `under_test.of_address` and the suites."""
        with only_bench(self._folder):
            return uvloop.run(self._against(spec))

    def here(self, profile: str | None, gpus: int | None) -> Outcome:
        """Measure the stack that runs here, or one started for this: always, if a profile is named.

        UsageError for a profile or a number of cards that do not go together, and as `only_bench`.
        """
        with only_bench(self._folder):
            return self._here(profile, gpus)

    def _here(self, profile: str | None, gpus: int | None) -> Outcome:
        stack = None if profile or gpus else running_stack(self.state)
        if stack is not None:
            self.live.say(f"Measuring the running stack behind {stack.gateway}.")
            return uvloop.run(self._of_running(stack))
        choice = choose_profile(profile, gpus)
        self.live.say(f"Starting a stack of profile '{choice.profile.name}' ({choice.why}).")
        own = StateDir(self._folder)
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
        """The first Ctrl-C ends the load and keeps what there is; the second one ends the program.

        A third one changes nothing: it would cut the cleaning up short. A terminal that is closed is a first
        one, however often it is told (by the shell and by the kernel); under nohup it is nothing.
        """
        stop = asyncio.Event()
        task = asyncio.current_task()

        def interrupt() -> None:
            if stop.is_set() and task is not None and not task.cancelling():
                task.cancel()
            stop.set()

        loop = asyncio.get_running_loop()
        handlers: dict[signal.Signals, Callable[[], None]] = dict.fromkeys(
            (signal.SIGINT, signal.SIGTERM), interrupt
        )
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
            handlers[signal.SIGHUP] = stop.set
        for signum, handler in handlers.items():
            loop.add_signal_handler(signum, handler)
        try:
            return await self._measure(target, stop)
        except asyncio.CancelledError:
            raise KeyboardInterrupt from None
        finally:
            for signum in handlers:
                loop.remove_signal_handler(signum)
            if stop.is_set():
                # One that comes while the result is written must not cut that short.
                signal.signal(signal.SIGHUP, signal.SIG_IGN)

    async def _measure(self, target: UnderTest, stop: asyncio.Event) -> Outcome:
        if not target.spec.vllm:
            self.live.say(f"Note: {UNFORCED}.")
        campaign = Campaign(self.wish, target, self._folder / "work", self.live, stop, save=self.save)
        result = await campaign.run()
        self.interrupted, self.failure = stop.is_set(), campaign.failure
        return result, campaign.records
