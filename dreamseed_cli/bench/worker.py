"""One process of the load: `python -m dreamseed_cli.bench.worker FD`, where FD is a socket to the driver.

Time there is the system's monotonic clock, which all processes share. The run is without garbage collection,
whose pauses would be measured as the server's.
"""

from __future__ import annotations

import asyncio
import gc
import socket
import sys
import time
from collections.abc import Awaitable
from contextlib import suppress

import uvloop

from dreamseed_cli.bench.lag import Lags, watch_lag
from dreamseed_cli.bench.limits import raise_descriptor_limit
from dreamseed_cli.bench.loops import Load, run_closed, run_open, run_until_over
from dreamseed_cli.bench.messages import (
    Batch,
    Done,
    Order,
    Ready,
    Refusal,
    Start,
    Tick,
    read_message,
    write_message,
)
from dreamseed_cli.bench.plan_load import closed_plan, open_plan, replay_plan
from dreamseed_cli.bench.shapes import Rate, Replay
from dreamseed_cli.bench.target.opening import open_target
from dreamseed_cli.bench.workload import load as load_workload
from dreamseed_cli.core.errors import DreamseedError
from dreamseed_cli.core.waiting import set_by_signals

_TICK_S = 0.5
_BATCH = 500


def main() -> int:
    """Do what the driver orders, once; the exit code."""
    uvloop.run(_serve(socket.socket(fileno=int(sys.argv[1]))))
    return 0


async def _serve(connection: socket.socket) -> None:
    stop = asyncio.Event()
    set_by_signals(stop)
    reader, writer = await asyncio.open_connection(sock=connection)
    order = await read_message(reader)
    if not isinstance(order, Order):
        return
    try:
        await _carry_out(order, reader, writer, stop)
    except DreamseedError as error:
        write_message(writer, Refusal(error.exit_code, error.cause, error.place, error.remedy))
    except ConnectionError:
        return  # the driver is gone, and its records are nobody's
    await _leave(writer)


async def _carry_out(
    order: Order, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, stop: asyncio.Event
) -> None:
    raise_descriptor_limit()
    epoch = time.monotonic()

    def clock() -> float:
        return time.monotonic() - epoch

    load = Load(open_target(order.target), clock, order.cell.duration_s)
    work = _work(order, load)
    gc.collect()
    gc.freeze()
    write_message(writer, Ready())
    start = await read_message(reader)
    if not isinstance(start, Start):
        return
    epoch = start.epoch
    gc.disable()
    orphaned = asyncio.create_task(_stop_when_alone(reader, stop))
    ticking = asyncio.create_task(_tell(load, writer))
    lags: Lags = []
    watching = asyncio.create_task(watch_lag(clock, lags))
    await run_until_over(load, work, stop, grace_s=order.cell.grace_s)
    ended_s = clock()
    ticking.cancel()
    watching.cancel()
    orphaned.cancel()
    await load.target.close()
    await _hand_over(load, writer, Done(ended_s, lags))


def _work(order: Order, load: Load) -> Awaitable[None]:
    """What is to be done, with all that takes time done beforehand."""
    shape = order.cell.shape
    maker = load_workload(order.cell.workload)
    if isinstance(shape, Replay):
        return run_open(load, replay_plan(order, shape, maker))
    if isinstance(shape, Rate):
        return run_open(load, open_plan(order, shape, maker))
    return run_closed(load, closed_plan(order, shape, maker))


async def _tell(load: Load, writer: asyncio.StreamWriter) -> None:
    while True:
        await asyncio.sleep(_TICK_S)
        ttfts_s, load.ttfts_s = load.ttfts_s, []
        write_message(
            writer,
            Tick(
                begun=len(load.records),
                in_flight=len(load.live),
                failed=load.failed,
                tokens=load.tokens(),
                ttfts_s=ttfts_s,
            ),
        )


async def _stop_when_alone(reader: asyncio.StreamReader, stop: asyncio.Event) -> None:
    """The driver says nothing after the start: what comes is its end."""
    with suppress(ConnectionError):
        await reader.read(1)
    stop.set()


async def _hand_over(load: Load, writer: asyncio.StreamWriter, done: Done) -> None:
    for begin in range(0, len(load.records), _BATCH):
        write_message(writer, Batch(load.records[begin : begin + _BATCH]))
        await writer.drain()
    write_message(writer, done)


async def _leave(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with suppress(ConnectionError):
        await writer.wait_closed()


if __name__ == "__main__":
    sys.exit(main())
