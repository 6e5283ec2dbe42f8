"""Drives one cell: starts the load's processes, has them begin together, and collects what they recorded."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Protocol

from dreamseed_cli.bench.cell_run import CellRun, ServerView
from dreamseed_cli.bench.crew import Worker, start_worker
from dreamseed_cli.bench.limits import hard_descriptor_limit, processes_for, require_descriptors
from dreamseed_cli.bench.messages import Order
from dreamseed_cli.bench.progress import Board, Progress
from dreamseed_cli.bench.shapes import Cell, TargetSpec

__all__ = ["Progress", "ServerWatch", "drive", "processes_for"]

# From the common decision to begin until the first request: enough for the word to reach every process.
_LEAD_S = 0.2
_TICK_S = 0.5
# A process hands its records over after its time; one that takes longer than this hangs.
_HANDOVER_S = 60.0


class ServerWatch(Protocol):
    """Looks at the server from outside while a cell runs."""

    async def start(self, epoch: float) -> None: ...

    async def stop(self) -> ServerView: ...


async def drive(
    cell: Cell,
    spec: TargetSpec,
    *,
    processes: int,
    on_progress: Callable[[Progress], None],
    stop: asyncio.Event,
    server_watch: ServerWatch | None = None,
) -> CellRun:
    """One cell, by so many processes. `stop` ends it early: what is under way is recorded as ABANDONED.

    Raises UsageError or MissingError for what a process cannot do (a workload or a key that is not there),
    and FailedError if one does not start. One that dies later is counted in `lost_processes`.
    """
    require_descriptors(cell, processes, hard_descriptor_limit())
    async with AsyncExitStack() as stack:
        crew: list[Worker] = []
        for _ in range(processes):
            crew.append(await start_worker())
            stack.push_async_callback(crew[-1].end)
        orders = [Order(cell, spec, index, processes) for index in range(processes)]
        await asyncio.gather(*(worker.prepare(order) for worker, order in zip(crew, orders, strict=True)))
        epoch = time.monotonic() + _LEAD_S
        server = ServerView()
        try:
            if server_watch is not None:
                await server_watch.start(epoch)
            await _run(crew, cell, epoch, on_progress, stop)
        finally:
            if server_watch is not None:
                server = await server_watch.stop()
        return _to_run(crew, cell, server, over_s=time.monotonic() - epoch, interrupted=stop.is_set())


async def _run(
    crew: list[Worker],
    cell: Cell,
    epoch: float,
    on_progress: Callable[[Progress], None],
    stop: asyncio.Event,
) -> None:
    """Until every process has handed its records over, died, or overstayed."""
    board = Board(cell)
    for worker in crew:
        worker.begin(epoch)
    collecting = asyncio.gather(*(worker.collect() for worker in crew))
    stopping = asyncio.create_task(_pass_on(stop, crew))
    deadline = epoch + cell.duration_s + cell.grace_s + _HANDOVER_S
    try:
        while not collecting.done() and time.monotonic() < deadline:
            await asyncio.wait({collecting}, timeout=_TICK_S)
            if stopping.done():
                deadline = min(deadline, stopping.result() + _HANDOVER_S)
            ticks = [worker.take_tick() for worker in crew]
            on_progress(board.look(time.monotonic() - epoch, ticks))
    finally:
        stopping.cancel()
        collecting.cancel()
        await asyncio.gather(collecting, stopping, return_exceptions=True)


async def _pass_on(stop: asyncio.Event, crew: list[Worker]) -> float:
    """Have all end early once `stop` is set; the monotonic moment of that."""
    await stop.wait()
    for worker in crew:
        worker.interrupt()
    return time.monotonic()


def _to_run(
    crew: list[Worker], cell: Cell, server: ServerView, *, over_s: float, interrupted: bool
) -> CellRun:
    """All whole shares in the order their requests were due: half of one would look like a smaller load."""
    whole = [worker for worker in crew if worker.ended_s is not None]
    records = [record for worker in whole for record in worker.records]
    records.sort(key=lambda record: (record.scheduled_s, record.number))
    return CellRun(
        cell=cell,
        records=tuple(records),
        ended_s=max((worker.ended_s or 0.0 for worker in whole), default=over_s),
        interrupted=interrupted,
        server=server,
        lost_processes=len(crew) - len(whole),
        lags=tuple(lag for worker in whole for lag in worker.lags),
    )
