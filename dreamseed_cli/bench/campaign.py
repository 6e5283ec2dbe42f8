"""One run of `dreamseed bench`: the suites in turn against one target, and what comes of them."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, cast

from dreamseed_cli import __version__
from dreamseed_cli.bench.cell_run import PowerSample, ServerView
from dreamseed_cli.bench.drive import drive, processes_for
from dreamseed_cli.bench.live_view import LiveView, Place
from dreamseed_cli.bench.measure.summary import summarise
from dreamseed_cli.bench.power_watch import PowerWatch
from dreamseed_cli.bench.queue_watch import QueueWatch
from dreamseed_cli.bench.records import Record
from dreamseed_cli.bench.result import BenchResult, CellResult, Slo, SuiteResult
from dreamseed_cli.bench.server_watch import ServerWatch
from dreamseed_cli.bench.shapes import Cell, Replay, Streams, TargetSpec
from dreamseed_cli.bench.suites import OWN_LOAD, SUITES, load_suite
from dreamseed_cli.bench.suites.base import Bench, StopEarly, Suite
from dreamseed_cli.bench.under_test import UnderTest
from dreamseed_cli.core.errors import DreamseedError
from dreamseed_cli.engine.types import Endpoint
from dreamseed_cli.profile.schema import Targets

__all__ = ["SUITES", "Campaign", "Wish"]


@dataclass(frozen=True)
class Wish:
    """What the operator asked for. processes: of the load; None: as many as it needs. trace: for `engine`.
    dsn_env: the variable with another PostgreSQL than the stack's.
    """

    suites: tuple[str, ...]
    seed: int
    duration_s: float | None = None
    processes: int | None = None
    usd_per_kwh: float | None = None
    command: str = ""
    trace: Replay | None = None
    dsn_env: str | None = None


@dataclass
class Campaign:
    """Runs a wish against a target. state: a folder of this run's own, gone at its end.

    stop: set by the first Ctrl-C; what was measured by then is the result, marked partial.
    records: every request, by suite and cell.
    """

    wish: Wish
    target: UnderTest
    state: Path
    live: LiveView
    stop: asyncio.Event
    records: dict[tuple[str, str], Sequence[Record]] = field(default_factory=dict)
    _suite: str = ""
    _number: int = 0

    async def run(self) -> BenchResult:
        """Every suite in turn. One that lacks something it needs ends the run, unless others gave results."""
        done: list[SuiteResult] = []
        self.state.mkdir(parents=True, exist_ok=True)
        try:
            with self.live:
                for name in self.wish.suites:
                    if self.stop.is_set():
                        break
                    done.append(await self._run_suite(name, alone=len(self.wish.suites) == 1))
        finally:
            await asyncio.to_thread(shutil.rmtree, self.state, ignore_errors=True)
        return self._result(done)

    async def _run_suite(self, name: str, *, alone: bool) -> SuiteResult:
        self._suite, self._number = name, 0
        suite = load_suite(name)
        try:
            return await self._until_stopped(name, suite)
        except StopEarly:
            return SuiteResult(name=name, headline="Interrupted before its first figure.", partial=True)
        except DreamseedError as error:
            # Among several suites one that cannot run must not throw away what the others measured.
            if alone:
                raise
            return SuiteResult(name=name, headline=f"Not measured: {error}", missed=(str(error),))

    async def _until_stopped(self, name: str, suite: Suite) -> SuiteResult:
        """A suite's result. One with load of its own is cancelled at `stop`, and gives what it has by then;
        in the others `_run_cell` tells.
        """
        running = asyncio.ensure_future(suite(self._bench()))
        stopping = asyncio.create_task(self.stop.wait())
        try:
            await asyncio.wait({running, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if not running.done() and name in OWN_LOAD:
                running.cancel()
            return await running
        finally:
            stopping.cancel()
            running.cancel()

    def _bench(self) -> Bench:
        target = self.target
        return Bench(
            target=target.spec,
            profile=target.profile,
            slo=self._slo(),
            seed=self.wish.seed,
            run_cell=self._run_cell,
            say=self.live.say,
            state=self.state,
            replicas=target.replicas,
            duration_s=self.wish.duration_s,
            trace=self.wish.trace,
            sees_queue=target.door is not None,
            simulated=target.simulated,
            device=target.device,
            environment=_secrets(target),
            dsn_env=self.wish.dsn_env,
            foreign=target.foreign,
            services=target.services,
        )

    def _slo(self) -> Slo:
        targets = self.target.profile.targets if self.target.profile else Targets()
        return Slo(ttft_ms=targets.ttft_ms, tpot_ms=targets.tpot_ms, attainment=targets.attainment)

    async def _run_cell(self, cell: Cell, target: TargetSpec | None = None) -> CellResult:
        if self.stop.is_set():
            raise StopEarly
        self._number += 1
        self.live.begin_cell(Place(self._suite, cell, self._number))
        # Past the gateway, or with no fixed number of streams to see, its queue tells nothing.
        door = self.target.door if target is None and isinstance(cell.shape, Streams) else None
        watch = _Watch(self._watched(target), door, cards=self.target.on_cards)
        run = await drive(
            cell,
            target or self.target.spec,
            processes=self.wish.processes or processes_for(cell, os.cpu_count() or 1),
            on_progress=self.live.update,
            stop=self.stop,
            server_watch=watch,
        )
        run = replace(run, power=watch.power)
        self.records[self._suite, cell.name] = run.records
        result = summarise(run, self._slo(), usd_per_kwh=self.wish.usd_per_kwh)
        for problem in result.problems:
            self.live.say(f"INVALID: {cell.name}: {problem.reason}")
        return result

    def _watched(self, target: TargetSpec | None) -> Sequence[Endpoint]:
        if target is None:
            return self.target.endpoints
        return (Endpoint.parse(target.address),) if target.kind == "openai" else ()

    def _result(self, done: Sequence[SuiteResult]) -> BenchResult:
        target = self.target
        simulated = target.simulated or any(
            record.simulated for records in self.records.values() for record in records
        )
        provenance: Literal["measured", "simulated"] = "simulated" if simulated else "measured"
        partial = self.stop.is_set() or any(one.partial for one in done)
        return BenchResult(
            tool=f"dreamseed {__version__}",
            date=datetime.now(UTC).isoformat(timespec="seconds"),
            device=target.device,
            profile=target.profile.name if target.profile else None,
            target=target.spec.address,
            model=_model(target),
            provenance=provenance,
            provenance_note=target.note,
            seed=self.wish.seed,
            slo=self._slo(),
            valid=all(_valid(one) for one in done),
            partial=partial,
            command=self.wish.command,
            suites=tuple(done),
            measurements=tuple(one for suite in done if _valid(suite) for one in suite.measurements),
        )


class _Watch:
    """The servers' own words and the cards' power during one cell, as `drive` wants to be told."""

    def __init__(self, endpoints: Sequence[Endpoint], door: Endpoint | None, *, cards: bool) -> None:
        self._server = ServerWatch(endpoints)
        self._queue = QueueWatch(door) if door is not None else None
        self._power = PowerWatch() if cards else None
        self._epoch = 0.0
        self.power: tuple[PowerSample, ...] = ()

    async def start(self, epoch: float) -> None:
        self._epoch = epoch
        if self._power is not None:
            await self._power.start()
        if self._queue is not None:
            await self._queue.start()
        await self._server.start()

    async def stop(self) -> ServerView:
        view = await self._server.stop()
        if self._queue is not None:
            # Each is the least that the server had at some moment: the greater one is nearer to the truth.
            seen = [one for one in (view.peak_in_flight, await self._queue.stop()) if one is not None]
            view = replace(view, peak_in_flight=max(seen, default=None))
        if self._power is not None:
            self.power = await self._power.stop(self._epoch)
        return view


def _valid(suite: SuiteResult) -> bool:
    return not suite.problems and all(cell.valid for cell in suite.cells)


def _model(target: UnderTest) -> str:
    """The model by its real name where the profile tells it."""
    engine = target.profile.engine if target.profile else None
    return cast("str", getattr(engine, "model", None)) or target.spec.model or "unknown"


def _secrets(target: UnderTest) -> Mapping[str, str]:
    """The variables that the target's services need, as far as they are set here."""
    services = target.services
    names = (services.postgres_dsn_env, services.redis_password_env) if services else ()
    return {name: os.environ[name] for name in names if name and name in os.environ}
