"""One run of `dreamseed bench`: the suites in turn against one target, and what comes of them."""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, cast

import msgspec

from dreamseed_cli import __version__
from dreamseed_cli.bench.cell_run import CellRun, Looks, PowerSample, ServerView
from dreamseed_cli.bench.drive import drive, processes_for
from dreamseed_cli.bench.electricity import usd_per_kwh
from dreamseed_cli.bench.live_view import LiveView, Place
from dreamseed_cli.bench.measure.notes import UNFORCED
from dreamseed_cli.bench.measure.rounds import laid_together
from dreamseed_cli.bench.measure.summary import summarise_rounds
from dreamseed_cli.bench.outlook import Outlook
from dreamseed_cli.bench.power_watch import PowerWatch
from dreamseed_cli.bench.queue_watch import QueueWatch
from dreamseed_cli.bench.records import Ending, Record
from dreamseed_cli.bench.result import BenchResult, CellResult, Slo, SuiteResult
from dreamseed_cli.bench.rounds import Asked, of_round, order_of
from dreamseed_cli.bench.server_watch import ServerWatch
from dreamseed_cli.bench.shapes import Arrivals, Cell, Replay, Streams, TargetSpec
from dreamseed_cli.bench.suites import IN_ROUNDS, OWN_LOAD, SUITES, load_retell, load_suite
from dreamseed_cli.bench.suites.base import Bench, StopEarly, Suite
from dreamseed_cli.bench.target.key import access_to
from dreamseed_cli.bench.under_test import UnderTest
from dreamseed_cli.core.errors import DreamseedError
from dreamseed_cli.engine.types import Endpoint
from dreamseed_cli.profile.schema import Targets

__all__ = ["SUITES", "Campaign", "Wish"]


@dataclass(frozen=True)
class Wish:
    """What the operator asked for. processes: of the load; None: as many as it needs. trace: for `engine`.
    workload: for the suites of TAKE_WORKLOAD. dsn_env: the variable with another PostgreSQL than the stack's.
    usd_per_kwh: None for the profile's price.
    """

    suites: tuple[str, ...]
    seed: int
    duration_s: float | None = None
    processes: int | None = None
    usd_per_kwh: float | None = None
    command: str = ""
    trace: Replay | None = None
    workload: str | None = None
    dsn_env: str | None = None
    arrivals: Arrivals = "poisson"
    rates: tuple[float, ...] = ()
    rounds: int = 1
    """In so many the cells of IN_ROUNDS are measured."""


@dataclass
class Campaign:
    """Runs a wish against a target. state: a folder of this run's own, gone at its end.

    stop: set by the first Ctrl-C; what was measured by then is the result, marked partial.
    records: every request, by suite and cell. save: takes the result so far after each cell, marked partial,
    as a crash shall not take it. failure: what a lone suite broke off with after its first cells.
    """

    wish: Wish
    target: UnderTest
    state: Path
    live: LiveView
    stop: asyncio.Event
    records: dict[tuple[str, str], Sequence[Record]] = field(default_factory=dict)
    save: Callable[[BenchResult], None] = lambda _: None
    failure: DreamseedError | None = None
    _began: datetime = field(default_factory=lambda: datetime.now(UTC))
    _done: list[SuiteResult] = field(default_factory=list)
    _cells: list[CellResult] = field(default_factory=list)
    """Of the suite that runs."""
    _asked: list[Asked] = field(default_factory=list)
    """The cells of the suites in rounds."""
    _suite: str = ""
    _number: int = 0
    _outlook: Outlook = field(default_factory=Outlook)

    def __post_init__(self) -> None:
        asked = self.wish.usd_per_kwh
        self._usd_per_kwh = usd_per_kwh(self.target.profile) if asked is None else asked

    async def run(self) -> BenchResult:
        """Every suite in turn. One that lacks something it needs ends the run, unless others gave results."""
        self.state.mkdir(parents=True, exist_ok=True)
        try:
            with self.live:
                for name in self.wish.suites:
                    if self.stop.is_set():
                        break
                    self._done.append(await self._run_suite(name, alone=len(self.wish.suites) == 1))
                await self._more_rounds()
        finally:
            await asyncio.to_thread(shutil.rmtree, self.state, ignore_errors=True)
        return self._result(self._done)

    async def _run_suite(self, name: str, *, alone: bool) -> SuiteResult:
        self._suite, self._number, self._outlook, self._cells = name, 0, Outlook(), []
        suite = load_suite(name)
        try:
            return self._finished(await self._until_stopped(name, suite))
        except StopEarly:
            return SuiteResult(name=name, headline="Interrupted before its first figure.", partial=True)
        except DreamseedError as error:
            # One that cannot run, or run on, must not throw away what it or the others measured.
            if alone and not self._cells:
                raise
            self.failure = error if alone else None
            how = "Broken off" if self._cells else "Not measured"
            return self._so_far(f"{how}: {error}").model_copy(update={"missed": (str(error),)})

    def _finished(self, found: SuiteResult) -> SuiteResult:
        """A suite's result as the run gives it: the document's figures are of its own answers."""
        own = self.wish.workload is not None
        return _with_silence(found.model_copy(update={"measurements": ()}) if own else found)

    async def _more_rounds(self) -> None:
        """The rounds after the first one: each cell of the suites in rounds again, in mixed order.

        What ends them early leaves the rounds that are whole.
        """
        order = order_of(self._asked, self.wish.rounds, self.wish.seed)
        self._number, self._outlook = 0, Outlook()
        self._outlook.plan([one.cell.duration_s for _, one in order])
        missed: tuple[str, ...] = ()
        try:
            for number, one in order:
                if self.stop.is_set():
                    break
                await self._one_more(number, one)
        except DreamseedError as error:
            missed = (f"not all rounds were measured: {error}",)
        for one in self._asked:
            if len(one.runs) < self.wish.rounds:
                one.result = self._summarised(one.runs, len(one.runs))
        self._done = [self._retold(suite, missed) for suite in self._done]

    async def _one_more(self, number: int, one: Asked) -> None:
        self._suite = one.suite
        run = await self._driven(of_round(one.cell, number), one.target)
        if run.interrupted:
            return
        one.runs.append(run)
        self._keep(one.cell.name, laid_together(one.runs).records)
        one.result = self._summarised(one.runs, self.wish.rounds)
        self._warn(one.cell.name, one.result)
        await self._save([self._retold(suite) for suite in self._done])

    def _retold(self, suite: SuiteResult, missed: tuple[str, ...] = ()) -> SuiteResult:
        """A suite of which more rounds were measured, by the figures of all of them."""
        cells = tuple(one.result for one in self._asked if one.suite == suite.name)
        if not cells:
            return suite
        told = suite.model_copy(update={"cells": cells})
        if not suite.missed and not suite.partial:
            told = self._finished(load_retell(suite.name)(self._bench(suite.name), cells))
        return told.model_copy(update={"missed": (*told.missed, *missed)})

    def _so_far(self, headline: str) -> SuiteResult:
        """The suite that runs, with the cells that it has."""
        cells = tuple(self._cells)
        return SuiteResult(name=self._suite, headline=headline, cells=cells, partial=bool(cells))

    async def _until_stopped(self, name: str, suite: Suite) -> SuiteResult:
        """A suite's result. One with load of its own is cancelled at `stop`, and gives what it has by then;
        in the others `_run_cell` tells.
        """
        running = asyncio.ensure_future(suite(self._bench(name)))
        stopping = asyncio.create_task(self.stop.wait())
        try:
            await asyncio.wait({running, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if not running.done() and name in OWN_LOAD:
                running.cancel()
            return await running
        finally:
            stopping.cancel()
            running.cancel()
            # What it opened is closed by now, and not by a loop that is ending.
            await asyncio.gather(running, stopping, return_exceptions=True)

    def _bench(self, suite: str) -> Bench:
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
            rounds=self.wish.rounds if suite in IN_ROUNDS else 1,
            arrivals=self.wish.arrivals,
            rates=self.wish.rates,
            trace=self.wish.trace,
            workload=self.wish.workload,
            sees_queue=target.door is not None,
            simulated=target.simulated,
            device=target.device,
            environment=_secrets(target),
            dsn_env=self.wish.dsn_env,
            foreign=target.foreign,
            plan=self._outlook.plan,
            services=target.services,
            keep=self._keep,
            watch=lambda: ServerWatch(target.endpoints, target.access),
        )

    def _keep(self, cell: str, records: Sequence[Record]) -> None:
        self.records[self._suite, cell] = records

    def _slo(self) -> Slo:
        targets = self.target.profile.targets if self.target.profile else Targets()
        return Slo(ttft_ms=targets.ttft_ms, tpot_ms=targets.tpot_ms, attainment=targets.attainment)

    async def _run_cell(self, cell: Cell, target: TargetSpec | None = None) -> CellResult:
        if self.stop.is_set():
            raise StopEarly
        run = await self._driven(cell, target)
        self._keep(cell.name, run.records)
        in_rounds = self._suite in IN_ROUNDS and self.wish.rounds > 1
        result = self._summarised([run], self.wish.rounds if in_rounds else 1)
        if in_rounds:
            self._asked.append(Asked(self._suite, cell, target, [run], result))
        self._warn(cell.name, result)
        self._cells.append(result)
        await self._save([*self._done, self._so_far(f"Not finished: {len(self._cells)} cells so far.")])
        return result

    def _summarised(self, runs: Sequence[CellRun], of: int) -> CellResult:
        return summarise_rounds(runs, self._slo(), of=of, usd_per_kwh=self._usd_per_kwh)

    def _warn(self, name: str, result: CellResult) -> None:
        for problem in result.problems:
            self.live.say(f"INVALID: {name}: {problem.reason}")

    async def _driven(self, cell: Cell, target: TargetSpec | None) -> CellRun:
        """One run of a cell, with its place shown."""
        self._number += 1
        ahead = self._outlook.begin()
        total = None if ahead is None or ahead.at_most else self._number + ahead.cells
        self.live.begin_cell(Place(self._suite, cell, self._number, total, ahead))
        run = await self._drive(cell, target)
        if target is None and not self.stop.is_set() and _ended_as_they_liked(run.records):
            # Its first answer was long enough by chance.
            spec = msgspec.structs.replace(self.target.spec, vllm=False)
            self.target = replace(self.target, spec=spec)
            self.live.say(f"Note: {UNFORCED}. {cell.name} begins anew.")
            run = await self._drive(_with_other_prompts(cell), target)
        return run

    async def _drive(self, cell: Cell, target: TargetSpec | None) -> CellRun:
        # Past the gateway, or with no fixed number of streams to see, its queue tells nothing.
        door = self.target.door if target is None and isinstance(cell.shape, Streams) else None
        watch = _Watch(self._server_watch(target), self._queue_watch(door), cards=self.target.on_cards)
        run = await drive(
            cell,
            target or self.target.spec,
            processes=self.wish.processes or processes_for(cell, os.cpu_count() or 1),
            on_progress=self.live.update,
            stop=self.stop,
            server_watch=watch,
        )
        return replace(run, power=watch.power)

    async def _save(self, so_far: Sequence[SuiteResult]) -> None:
        result = self._result(so_far).model_copy(update={"partial": True})
        try:
            await asyncio.to_thread(self.save, result)
        except DreamseedError as error:
            self.live.say(f"What was measured so far could not be saved: {error}")

    def _server_watch(self, target: TargetSpec | None) -> ServerWatch:
        if target is None:
            return ServerWatch(self.target.endpoints, self.target.access)
        endpoints = (Endpoint.parse(target.address),) if target.kind == "openai" else ()
        return ServerWatch(endpoints, access_to(target))

    def _queue_watch(self, door: Endpoint | None) -> QueueWatch | None:
        return None if door is None else QueueWatch(door, access_to(self.target.spec))

    def _result(self, done: Sequence[SuiteResult]) -> BenchResult:
        target = self.target
        simulated = target.simulated or any(
            record.simulated for records in self.records.values() for record in records
        )
        provenance: Literal["measured", "simulated"] = "simulated" if simulated else "measured"
        partial = self.stop.is_set() or any(one.partial for one in done)
        return BenchResult(
            tool=f"dreamseed {__version__}",
            date=self._began.isoformat(timespec="seconds"),
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

    def __init__(self, server: ServerWatch, queue: QueueWatch | None, *, cards: bool) -> None:
        self._server = server
        self._queue = queue
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
        # Together: whatever happens to one of them, the others are closed.
        view, queued, self.power = await asyncio.gather(
            self._server.stop(), self._most_queued(), self._samples()
        )
        # Each is the least that the server had at some moment: the greater one is nearer to the truth.
        seen = [one for one in (view.peak_in_flight, queued) if one is not None]
        return replace(view, peak_in_flight=max(seen, default=None), looks=self._looks())

    def _looks(self) -> tuple[Looks, ...]:
        """By the cell's clock."""
        watches = [one for one in (self._server, self._queue) if one is not None]
        return tuple(tuple((at_s - self._epoch, n) for at_s, n in one.looks) for one in watches)

    async def _most_queued(self) -> int | None:
        return await self._queue.stop() if self._queue is not None else None

    async def _samples(self) -> tuple[PowerSample, ...]:
        return await self._power.stop(self._epoch) if self._power is not None else ()


def _ended_as_they_liked(records: Sequence[Record]) -> bool:
    """Whether a server that was to force a length let the model stop: it takes no `ignore_eos`."""
    return any(
        one.ending is Ending.WRONG_LENGTH and one.detail.endswith("(finish_reason stop)") for one in records
    )


def _with_other_prompts(cell: Cell) -> Cell:
    """The cell anew, if its prompts are to be new: those it had have been seen now."""
    return msgspec.structs.replace(cell, nonce=secrets.token_hex(4)) if cell.nonce else cell


def _with_silence(suite: SuiteResult) -> SuiteResult:
    """A suite none of whose requests was answered has missed what it was run for."""
    asked = sum(cell.requests for cell in suite.cells)
    if suite.partial or not asked or any(Ending.COMPLETE in cell.endings for cell in suite.cells):
        return suite
    missed = f"not one of {asked:,} requests was answered"
    return suite.model_copy(update={"missed": (*suite.missed, missed)})


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
