"""The load's processes against emulated engines: nothing is lost, however the run ends."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
from api_harness import MODEL as API_MODEL
from api_harness import scripted_gateway, serving
from gateway_harness import (
    MODEL,
    RunningEngine,
    emulated_engine,
    gateway_here,
    settings,
    socket_folder,
    target,
)

from dreamseed_cli.api.settings import read_settings
from dreamseed_cli.bench.arrivals import due_times
from dreamseed_cli.bench.cell_run import CellRun, ServerView
from dreamseed_cli.bench.crew import start_worker
from dreamseed_cli.bench.drive import Progress, drive
from dreamseed_cli.bench.measure.summary import summarise
from dreamseed_cli.bench.messages import Order
from dreamseed_cli.bench.records import Ending, Job, Record
from dreamseed_cli.bench.result import Slo
from dreamseed_cli.bench.shapes import Cell, Rate, Shape, Streams, TargetSpec, Users
from dreamseed_cli.bench.target.opening import open_target
from dreamseed_cli.bench.under_test import UnderTest, introduce
from dreamseed_cli.core.errors import MissingError, UsageError
from dreamseed_cli.gateway.proto.llm_pb2 import BATCH, STANDARD


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """A folder for sockets."""
    with socket_folder() as path:
        yield path


@pytest.fixture(scope="module")
def engine(folder: Path) -> Iterator[RunningEngine]:
    """One engine for all tests; none makes it misbehave."""
    with emulated_engine(folder, "e0", max_num_seqs=256) as running:
        yield running


def _spec(engine: RunningEngine) -> TargetSpec:
    return TargetSpec(kind="openai", address=f"unix:{engine.socket}", model=MODEL)


def _cell(shape: Shape, *, duration_s: float, output_tokens: int = 12, requests: int | None = None) -> Cell:
    return Cell(
        name="cell",
        shape=shape,
        duration_s=duration_s,
        seed=11,
        output_tokens=output_tokens,
        prompt_tokens=40,
        requests=requests,
        nonce="n",
    )


async def _drive(
    cell: Cell,
    spec: TargetSpec,
    *,
    processes: int = 2,
    on_progress: Callable[[Progress], None] = lambda _: None,
    stop: asyncio.Event | None = None,
) -> CellRun:
    event = stop or asyncio.Event()
    return await drive(cell, spec, processes=processes, on_progress=on_progress, stop=event)


def _assert_whole(run: CellRun) -> None:
    """Every record is a whole answer of the forced length, from an engine that says it is emulated."""
    assert {(record.ending, record.detail) for record in run.records} == {(Ending.COMPLETE, "")}
    assert {record.completion_tokens for record in run.records} == {run.cell.output_tokens}
    assert all(record.simulated and len(record.piece_s) == len(record.piece_tokens) for record in run.records)
    assert (run.lost_processes, run.interrupted) == (0, False)


async def test_every_scheduled_request_is_recorded_once(engine: RunningEngine) -> None:
    """Two processes together ask the whole plan: each request once, due at its time, of the forced length."""
    cell = _cell(Rate(40.0), duration_s=1.5)
    seen: list[Progress] = []
    run = await _drive(cell, _spec(engine), on_progress=seen.append)
    times = due_times(Rate(40.0), 1.5, 11).tolist()
    assert [(record.number, record.scheduled_s) for record in run.records] == list(enumerate(times))
    assert all((record.sent_s or 0.0) >= record.scheduled_s for record in run.records)
    _assert_whole(run)
    assert seen[-1].begun <= len(times)
    assert seen[-1].failed == 0
    assert run.ended_s >= max(record.end_s or 0.0 for record in run.records)


@pytest.mark.parametrize("shape", [Streams(6, ramp_s=0.1), Users(6, think_s=0.01)])
async def test_a_closed_loop_of_so_many_requests(engine: RunningEngine, shape: Streams | Users) -> None:
    """Streams and users over two processes ask exactly the cell's requests, none twice."""
    run = await _drive(_cell(shape, duration_s=60.0, requests=60), _spec(engine))
    assert sorted(record.number for record in run.records) == list(range(60))
    assert [record.scheduled_s for record in run.records] == sorted(
        record.scheduled_s for record in run.records
    )
    _assert_whole(run)


async def test_the_gateway_is_asked_alike(folder: Path, engine: RunningEngine) -> None:
    """Through gRPC the forced length holds too, and each answer names its replica."""
    async with gateway_here(settings(folder, target("e0", engine.socket))) as gateway:
        spec = TargetSpec(kind="grpc", address=f"127.0.0.1:{gateway.port}")
        run = await _drive(_cell(Streams(4), duration_s=60.0, requests=16), spec)
    assert len(run.records) == 16
    _assert_whole(run)
    assert {(record.replica, record.cache_hit) for record in run.records} == {("e0", False)}


async def test_our_front_is_asked_alike(folder: Path, engine: RunningEngine) -> None:
    """The HTTP front takes what vLLM takes, keeps the forced length, and tells replica and provenance."""
    async with gateway_here(settings(folder, target("e0", engine.socket))) as gateway:
        office = {"GPU_ENDPOINT": f"127.0.0.1:{gateway.port}"}
        async with serving(read_settings(office, allow_anonymous=True)) as front:
            spec = TargetSpec(kind="openai", address=front.url, model="served")
            met = await introduce(UnderTest(spec))
            run = await _drive(_cell(Streams(4), duration_s=60.0, requests=16), met.spec)
    assert met.spec.ours
    assert len(run.records) == 16
    _assert_whole(run)
    assert {(record.replica, record.cache_hit) for record in run.records} == {("e0", False)}


async def test_our_front_passes_on_what_is_wished(folder: Path) -> None:
    """No cached answer, the workload's label and its priority reach the gateway as they do through gRPC."""
    async with scripted_gateway() as gateway:
        office = read_settings({"GPU_ENDPOINT": f"127.0.0.1:{gateway.port}"}, allow_anonymous=True)
        async with serving(office) as front:
            asked = open_target(TargetSpec(kind="openai", address=front.url, model=API_MODEL, ours=True))
            for job in (_job(priority="BATCH"), _job(bypass_cache=False)):
                record = Record(number=0, workload="", scheduled_s=0.0, wanted_tokens=3)
                await asked.ask(job, record, time.monotonic)
            await asked.close()
    through = [message for message, _ in gateway.calls]
    assert [(one.workload, one.priority, one.bypass_cache) for one in through] == [
        ("feedback", BATCH, True),
        ("feedback", STANDARD, False),
    ]


async def test_an_engine_is_no_front_of_ours(engine: RunningEngine) -> None:
    """So nothing that only our front understands is sent to it."""
    assert not (await introduce(UnderTest(_spec(engine)))).spec.ours


def _job(**fields: Any) -> Job:
    return Job(number=0, workload="feedback", prompt="Why?", wanted_tokens=3, **fields)


async def test_a_killed_process_is_told_and_waited_for_no_longer(engine: RunningEngine) -> None:
    """kill -9 of one: the run goes on to its end, the other one's records are all there, the loss is said."""
    killed: list[int] = []

    def kill_one(progress: Progress) -> None:
        if progress.begun and not killed:
            killed.append(_workers()[0])
            os.kill(killed[0], signal.SIGKILL)

    run = await _drive(_cell(Rate(20.0), duration_s=3.0), _spec(engine), on_progress=kill_one)
    planned = len(due_times(Rate(20.0), 3.0, 11))
    assert run.lost_processes == 1
    numbers = [record.number for record in run.records]
    assert numbers in ([*range(0, planned, 2)], [*range(1, planned, 2)])
    assert not _workers()


async def test_a_process_that_stood_still_makes_a_closed_loop_invalid(engine: RunningEngine) -> None:
    """SIGSTOP from one look to the next: its streams' answers only look slow, its event loop tells.

    In the second half of the cell, which no warm-up takes away.
    """
    signals = [signal.SIGSTOP, signal.SIGCONT]
    stopped: list[int] = []

    def stand_still(progress: Progress) -> None:
        if signals and (stopped or progress.elapsed_s > 3.2):
            stopped.append(stopped[0] if stopped else _workers()[0])
            os.kill(stopped[0], signals.pop(0))

    run = await _drive(_cell(Streams(4), duration_s=6.0), _spec(engine), on_progress=stand_still)
    _assert_whole(run)
    assert not signals
    found = summarise(run, Slo(ttft_ms=1000.0, tpot_ms=100.0, attainment=0.99))
    assert found.scheduling_delay is not None
    assert "loop-lag" in {one.rule for one in found.problems}


async def test_an_interruption_saves_what_there_is(engine: RunningEngine) -> None:
    """What has ended is kept; what is under way is ABANDONED; the run says that it was interrupted."""
    stop = asyncio.Event()

    def interrupt(progress: Progress) -> None:
        if progress.in_flight:
            stop.set()

    cell = _cell(Streams(8), duration_s=300.0, output_tokens=2000)
    run = await _drive(cell, _spec(engine), on_progress=interrupt, stop=stop)
    assert run.interrupted
    assert run.lost_processes == 0
    abandoned = [record for record in run.records if record.ending is Ending.ABANDONED]
    assert len(abandoned) == 8
    assert {record.detail for record in abandoned} == {"the run was interrupted"}
    assert all(record.end_s is not None for record in abandoned)


async def test_nobody_listens(folder: Path) -> None:
    """A server that is not there fails every request by name, and no stream hammers at it."""
    spec = TargetSpec(kind="openai", address=f"unix:{folder}/nobody.sock")
    run = await _drive(_cell(Rate(20.0), duration_s=0.5), spec)
    assert len(run.records) == len(due_times(Rate(20.0), 0.5, 11))
    assert {(record.ending, record.detail) for record in run.records} == {
        (Ending.UNREACHABLE, "no connection: no such file or directory")
    }


async def test_what_a_process_cannot_do_is_the_drivers_error(engine: RunningEngine) -> None:
    """An unknown workload and a missing key come back as the errors they are; no process is left."""
    spec = TargetSpec(kind="openai", address="http://127.0.0.1:1", api_key_env="BENCH_NO_KEY")
    with pytest.raises(MissingError, match="BENCH_NO_KEY"):
        await _drive(_cell(Streams(1), duration_s=1.0), spec)
    unknown = Cell(name="cell", shape=Streams(1), duration_s=1.0, seed=1, workload="no such kind")
    with pytest.raises(UsageError):
        await _drive(unknown, _spec(engine))
    assert not _workers()


async def test_the_server_is_watched_from_the_start(engine: RunningEngine) -> None:
    """The watch is begun with the cell's epoch, before the load, and its view belongs to the run."""

    class Watch:
        def __init__(self) -> None:
            self.epochs: list[float] = []

        async def start(self, epoch: float) -> None:
            self.epochs.append(epoch)

        async def stop(self) -> ServerView:
            return ServerView(peak_in_flight=len(self.epochs))

    run = await drive(
        _cell(Streams(2), duration_s=60.0, requests=4),
        _spec(engine),
        processes=1,
        on_progress=lambda _: None,
        stop=asyncio.Event(),
        server_watch=Watch(),
    )
    assert run.server == ServerView(peak_in_flight=1)


async def test_a_process_does_not_outlive_its_driver(engine: RunningEngine) -> None:
    """When the driver is gone, even killed, its processes stop asking and end by themselves."""
    worker = await start_worker()
    await worker.prepare(Order(_cell(Streams(1), duration_s=300.0), _spec(engine), 0, 1))
    worker.begin(time.monotonic())
    process = psutil.Process(worker.pid)
    worker.hang_up()
    with suppress(psutil.NoSuchProcess):
        await asyncio.to_thread(process.wait, 30)
    await worker.end()


def _workers() -> list[int]:
    children = psutil.Process().children()
    return [child.pid for child in children if "dreamseed_cli.bench.worker" in child.cmdline()]
