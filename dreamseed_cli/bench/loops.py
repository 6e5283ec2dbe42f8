"""The loops that make one process's load: requests at their times, and streams that ask one by one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass, field

from dreamseed_cli.bench.records import Ending, Job, Record
from dreamseed_cli.bench.target.opening import Target
from dreamseed_cli.core.pauses import pause_after

# An event loop's timers count whole milliseconds and may fire half of one early.
_TIMER_SLACK_S = 0.0005
_ANSWERED = frozenset({Ending.COMPLETE, Ending.WRONG_LENGTH, Ending.MISCOUNTED})


@dataclass(slots=True)
class Load:
    """What one process has asked so far.

    clock: seconds since the cell's start. duration_s: how long requests are begun.
    ttfts_s: of the answers that ended since somebody last looked.
    left: why requests under way were given up.
    """

    target: Target
    clock: Callable[[], float]
    duration_s: float
    records: list[Record] = field(default_factory=list)
    live: dict[int, Record] = field(default_factory=dict)
    failed: int = 0
    ended_tokens: int = 0
    ttfts_s: list[float] = field(default_factory=list)
    left: str = "the run was interrupted"

    async def ask(self, job: Job, due_s: float, user: str = "") -> Record:
        """Ask one job now; its latency counts from `due_s`."""
        record = Record(
            number=job.number,
            workload=job.workload,
            scheduled_s=due_s,
            wanted_tokens=job.wanted_tokens,
            user=user or job.user,
        )
        self.records.append(record)
        self.live[job.number] = record
        try:
            await self.target.ask(job, record, self.clock)
        except asyncio.CancelledError:
            record.ending, record.detail, record.end_s = Ending.ABANDONED, self.left, self.clock()
            raise
        finally:
            self._count(record)
        return record

    def tokens(self) -> int:
        """Output tokens that have arrived, those of answers under way included."""
        return self.ended_tokens + sum(map(_tokens, self.live.values()))

    async def until(self, due_s: float) -> None:
        """Wait for a moment of the cell; never returns before it."""
        while (left_s := due_s - self.clock()) > 0:  # noqa: ASYNC110 - time is no event
            await asyncio.sleep(left_s + _TIMER_SLACK_S)

    def _count(self, record: Record) -> None:
        del self.live[record.number]
        self.ended_tokens += _tokens(record)
        self.failed += record.ending is not Ending.COMPLETE
        if record.first_token_s is not None:
            self.ttfts_s.append(record.first_token_s - record.scheduled_s)


async def run_open(load: Load, plan: Iterable[tuple[float, Job]]) -> None:
    """Open loop: every job of `plan` (due in seconds, rising) begins at its time, whatever the others do."""
    async with asyncio.TaskGroup() as group:
        for due_s, job in plan:
            await load.until(due_s)
            group.create_task(load.ask(job, due_s))


@dataclass(frozen=True, slots=True)
class Stream:
    """One stream of a closed loop, or one user.

    first_s: when it begins. jobs: what it asks, one after another. thinking: its pauses in seconds.
    """

    first_s: float
    jobs: Iterator[Job]
    thinking: Iterator[float]
    user: str = ""


async def run_closed(load: Load, streams: Iterable[Stream]) -> None:
    """Closed loop: every stream asks, waits for the answer, thinks, and asks again until the time is over."""
    async with asyncio.TaskGroup() as group:
        for stream in streams:
            group.create_task(_run_stream(load, stream))


async def _run_stream(load: Load, stream: Stream) -> None:
    due_s, failures = stream.first_s, 0
    while due_s < load.duration_s:
        await load.until(due_s)
        job = next(stream.jobs, None)
        if job is None:
            return
        record = await load.ask(job, due_s, stream.user)
        failures = 0 if record.ending in _ANSWERED else failures + 1
        ended_s = load.clock() if record.end_s is None else record.end_s
        due_s = ended_s + next(stream.thinking) + pause_after(failures)


async def run_until_over(load: Load, work: Awaitable[None], stop: asyncio.Event, *, grace_s: float) -> None:
    """Carry out `work` until it is done, its time and grace are over, or `stop` is set.

    What is under way then is cancelled, and recorded as ABANDONED.
    """
    working, stopping = asyncio.ensure_future(work), asyncio.ensure_future(stop.wait())
    try:
        left_s = load.duration_s + grace_s - load.clock()
        done, _ = await asyncio.wait({working, stopping}, timeout=left_s, return_when="FIRST_COMPLETED")
        if not done:
            load.left = f"still under way {grace_s:g} s after the end"
    finally:
        stopping.cancel()
        working.cancel()
        await asyncio.gather(working, stopping, return_exceptions=True)
    if not working.cancelled():
        working.result()


def _tokens(record: Record) -> int:
    if record.completion_tokens is not None:
        return record.completion_tokens
    return len(record.piece_s)
