"""What one process of the load is to do, from the cell and its share of it. Reads a trace, else pure."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import chain, repeat
from typing import Protocol

import numpy as np

from dreamseed_cli.bench.arrivals import due_times, replay_times, share, think_times
from dreamseed_cli.bench.loops import Stream
from dreamseed_cli.bench.messages import Order
from dreamseed_cli.bench.records import Job
from dreamseed_cli.bench.shapes import Cell, Rate, Replay, Streams, Users
from dreamseed_cli.bench.workload.trace import TraceEntry, read

Plan = Iterator[tuple[float, Job]]


class Maker(Protocol):
    """Makes a cell's jobs: the same one for the same number, in whatever process."""

    def job(self, cell: Cell, number: int, entry: TraceEntry | None = None) -> Job: ...


def open_plan(order: Order, shape: Rate, maker: Maker) -> Plan:
    """The process's jobs and when they are due; each is made while the one before is waited for."""
    cell = order.cell
    times = due_times(shape, cell.duration_s, cell.seed)[: cell.requests]
    for number in share(len(times), order.index, order.processes):
        yield float(times[number]), maker.job(cell, number)


def replay_plan(order: Order, shape: Replay, maker: Maker) -> Plan:
    """The same from a trace. Raises as `trace.read`."""
    cell, entries = order.cell, read(shape.path)
    times = replay_times(np.array([entry.at_s for entry in entries]), shape, cell.duration_s)
    numbers = share(len(times[: cell.requests]), order.index, order.processes)
    return ((float(times[number]), maker.job(cell, number, entries[number])) for number in numbers)


def closed_plan(order: Order, shape: Streams | Users, maker: Maker) -> list[Stream]:
    """The process's streams. A stream's requests are numbered in steps of all streams: no two meet."""
    cell = order.cell
    starts = due_times(shape, cell.duration_s, cell.seed)
    streams = []
    for index in share(len(starts), order.index, order.processes):
        jobs = _jobs(cell, maker, index, shape.count)
        start_s = float(starts[index])
        if isinstance(shape, Users):
            thinking = think_times(shape, index, cell.seed)
            streams.append(Stream(start_s, jobs, thinking, user=f"user-{index}"))
        else:
            streams.append(Stream(start_s, jobs, thinking=repeat(0.0)))
    return streams


def _jobs(cell: Cell, maker: Maker, first: int, step: int) -> Iterator[Job]:
    """The first job is made at once: at the start, all streams would wait for each other's."""
    numbers = iter(range(first, sys.maxsize if cell.requests is None else cell.requests, step))
    made = [maker.job(cell, number) for number in (next(numbers, None),) if number is not None]
    return chain(made, (maker.job(cell, number) for number in numbers))
