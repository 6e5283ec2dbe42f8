"""The loops that make a load: what they begin, what they count, and how they end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from itertools import count, repeat

import pytest

from dreamseed_cli.bench.loops import Load, Stream, run_closed, run_open, run_until_over
from dreamseed_cli.bench.records import Ending, Job, Record
from dreamseed_cli.core.pauses import pause_after


class _Target:
    """Answers at once, or never (`holds`); counts how many it has at a time."""

    def __init__(self, *, holds: int = 0, ending: Ending = Ending.COMPLETE) -> None:
        self._held = asyncio.Event()
        self._holds = holds
        self._ending = ending
        self.in_flight = 0

    async def ask(self, _job: Job, record: Record, clock: Callable[[], float]) -> None:
        self.in_flight += 1
        if self.in_flight == self._holds:
            self._held.set()
        if self._holds:
            await asyncio.Event().wait()
        record.sent_s = record.first_token_s = record.end_s = clock()
        record.piece_s = [record.end_s]
        record.ending = self._ending
        self.in_flight -= 1

    async def held(self) -> None:
        await self._held.wait()

    async def close(self) -> None:
        """Nothing to close."""


def _load(target: _Target, duration_s: float = 60.0) -> Load:
    epoch = time.monotonic()
    return Load(target, lambda: time.monotonic() - epoch, duration_s)


def _jobs(numbers: Iterator[int] | range) -> Iterator[Job]:
    return (Job(number, "question", "Why?", 1) for number in numbers)


async def test_an_open_loop_waits_for_nobody() -> None:
    """All requests begin at their times though none ever ends; what was due is what latency counts from."""
    target = _Target(holds=50)
    load, stop = _load(target), asyncio.Event()
    plan = zip((0.001 * number for number in range(50)), _jobs(range(50)), strict=True)
    running = asyncio.create_task(run_until_over(load, run_open(load, plan), stop, grace_s=60))
    await target.held()
    assert sorted(load.live) == list(range(50))
    stop.set()
    await running
    assert [record.scheduled_s for record in load.records] == [0.001 * number for number in range(50)]
    assert {(record.ending, record.detail) for record in load.records} == {
        (Ending.ABANDONED, "the run was interrupted")
    }
    assert not load.live
    assert load.failed == 50


async def test_nothing_begins_before_its_time() -> None:
    """However an event loop rounds: a latency can never come out too small."""
    load, stop = _load(_Target()), asyncio.Event()
    plan = zip((0.0007 * number for number in range(100)), _jobs(range(100)), strict=True)
    await run_until_over(load, run_open(load, plan), stop, grace_s=1)
    assert len(load.records) == 100
    assert all((record.sent_s or 0.0) >= record.scheduled_s for record in load.records)


async def test_a_stream_asks_again_when_it_is_answered() -> None:
    """Each request is due when the one before ended; a stream ends with its jobs."""
    load = _load(_Target())
    streams = [Stream(0.0, _jobs(range(first, 30, 3)), repeat(0.0)) for first in range(3)]
    await run_until_over(load, run_closed(load, streams), asyncio.Event(), grace_s=1)
    assert sorted(record.number for record in load.records) == list(range(30))
    for first in range(3):
        own = [record for record in load.records if record.number % 3 == first]
        assert [record.scheduled_s for record in own[1:]] == [record.end_s for record in own[:-1]]


async def test_a_user_thinks() -> None:
    """A user's next request is due a pause after the answer, and bears the user's name."""
    load = _load(_Target())
    stream = Stream(0.0, _jobs(range(3)), iter([0.01, 0.02, 0.03]), user="user-7")
    await run_until_over(load, run_closed(load, [stream]), asyncio.Event(), grace_s=1)
    ended_s = [record.end_s or 0.0 for record in load.records]
    due_s = [record.scheduled_s for record in load.records]
    assert due_s == [0.0, pytest.approx(ended_s[0] + 0.01), pytest.approx(ended_s[1] + 0.02)]
    assert {record.user for record in load.records} == {"user-7"}


async def test_after_the_duration_nothing_begins() -> None:
    """A stream goes on until the time is over, and no request is due later."""
    load = _load(_Target(), duration_s=0.05)
    stream = Stream(0.0, _jobs(count()), repeat(0.001))
    await run_until_over(load, run_closed(load, [stream]), asyncio.Event(), grace_s=1)
    assert load.records
    assert all(record.scheduled_s < 0.05 for record in load.records)


async def test_the_grace_ends() -> None:
    """What is still under way then is given up, and says why."""
    load = _load(_Target(holds=1), duration_s=0.01)
    stream = Stream(0.0, _jobs(count()), repeat(0.0))
    await run_until_over(load, run_closed(load, [stream]), asyncio.Event(), grace_s=0.02)
    (record,) = load.records
    assert (record.ending, record.detail) == (Ending.ABANDONED, "still under way 0.02 s after the end")
    assert record.end_s is not None


async def test_a_stream_does_not_hammer_a_server_that_refuses() -> None:
    """After a failure it waits, longer each time; counted as failed are all."""
    load = _load(_Target(ending=Ending.REFUSED))
    stream = Stream(0.0, _jobs(range(3)), repeat(0.0))
    await run_until_over(load, run_closed(load, [stream]), asyncio.Event(), grace_s=1)
    first, second, third = load.records
    assert second.scheduled_s == pytest.approx((first.end_s or 0.0) + 0.1)
    assert third.scheduled_s == pytest.approx((second.end_s or 0.0) + 0.2)
    assert load.failed == 3


def test_pauses_grow_to_a_limit() -> None:
    """None after a success, doubled after each failure in a row, two seconds at most."""
    assert [pause_after(failures) for failures in (0, 1, 2, 3)] == [0.0, 0.1, 0.2, 0.4]
    assert pause_after(50) == 2.0


async def test_a_bug_is_no_lost_request() -> None:
    """An exception that no target should raise ends the run; it does not vanish."""

    class Faulty(_Target):
        async def ask(self, _job: Job, record: Record, clock: Callable[[], float]) -> None:
            raise KeyError(f"{record.number} at {clock()}")

    load = _load(Faulty())
    work = run_open(load, zip([0.0], _jobs(range(1)), strict=True))
    with pytest.raises(ExceptionGroup) as raised:
        await run_until_over(load, work, asyncio.Event(), grace_s=1)
    assert raised.group_contains(KeyError)


async def test_tokens_of_answers_under_way_count() -> None:
    """Live throughput is of what has arrived, not of what has ended."""
    load = _load(_Target())
    load.ended_tokens = 5
    load.live[1] = Record(1, "question", 0.0, 10, piece_s=[0.1, 0.2])
    load.live[2] = Record(2, "question", 0.0, 10, piece_s=[0.1], completion_tokens=4)
    assert load.tokens() == 11
