"""A run of several suites: one that fails takes no other's figures, and Ctrl-C reaches every one."""

from __future__ import annotations

import asyncio
import io
import os
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest
from bench_results import engine_suite
from rich.console import Console

from dreamseed_cli.bench import campaign
from dreamseed_cli.bench.campaign import Campaign, Wish
from dreamseed_cli.bench.cell_run import CellRun
from dreamseed_cli.bench.live_view import LiveView
from dreamseed_cli.bench.result import BenchResult, CellResult, SuiteResult
from dreamseed_cli.bench.shapes import Cell, Streams, TargetSpec
from dreamseed_cli.bench.suites.base import Bench, Suite
from dreamseed_cli.bench.under_test import UnderTest
from dreamseed_cli.core.errors import FailedError, MissingError


def _campaign(
    monkeypatch: pytest.MonkeyPatch, folder: Path, suites: dict[str, Suite], stop: asyncio.Event
) -> Campaign:
    monkeypatch.setattr(campaign, "load_suite", suites.__getitem__)
    target = UnderTest(TargetSpec(kind="openai", address="http://127.0.0.1:9", model="m"))
    live = LiveView(Console(file=io.StringIO()))
    return Campaign(Wish(tuple(suites), seed=1), target, folder / "work", live, stop)


async def _good(bench: Bench) -> SuiteResult:
    return SuiteResult(name="engine", headline="A figure.")


async def _lacking(bench: Bench) -> SuiteResult:
    raise MissingError("pgbench is not here", place="PATH", remedy="Install it.")


async def test_a_suite_that_cannot_run_leaves_the_others(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Its reason is a missed target of the run; nothing of the run's own folder is left."""
    result = await _campaign(monkeypatch, tmp_path, {"engine": _good, "db": _lacking}, asyncio.Event()).run()
    assert result.suites[0].headline == "A figure."
    assert "pgbench is not here" in result.suites[1].missed[0]
    assert os.listdir(tmp_path) == []  # noqa: PTH208 - a call that does not wait


@pytest.mark.parametrize(
    ("endings", "missed"), [({"server_error": 30}, True), ({"complete": 1, "cut": 29}, False)]
)
async def test_a_suite_without_an_answer_has_missed_its_aim(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, endings: dict[str, int], missed: bool
) -> None:
    """A server that answers everything with 500 is measured, and no success."""

    async def suite(bench: Bench) -> SuiteResult:
        measured = engine_suite().cells[0].model_copy(update={"endings": endings, "requests": 30})
        return SuiteResult(name="engine", headline="A figure.", cells=(measured,))

    result = await _campaign(monkeypatch, tmp_path, {"engine": suite}, asyncio.Event()).run()
    assert result.suites[0].missed == (("not one of 30 requests was answered",) if missed else ())


async def test_a_lone_suite_that_cannot_run_is_the_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """There is nothing else to save."""
    with pytest.raises(MissingError):
        await _campaign(monkeypatch, tmp_path, {"db": _lacking}, asyncio.Event()).run()


async def test_no_figure_of_the_document_is_judged_by_another_workload(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The document's answers have 200 tokens."""

    async def suite(bench: Bench) -> SuiteResult:
        return engine_suite().model_copy(update={"name": bench.workload or "none"})

    for workload, name in ((None, "none"), ("feedback", "feedback")):
        campaign_ = _campaign(monkeypatch, tmp_path, {"engine": suite}, asyncio.Event())
        campaign_.wish = replace(campaign_.wish, workload=workload)
        (found,) = (await campaign_.run()).suites
        assert (found.name, bool(found.measurements)) == (name, workload is None)


def _cell(number: int) -> CellResult:
    return engine_suite().cells[0].model_copy(update={"name": f"cell-{number}"})


async def _two_cells(bench: Bench) -> SuiteResult:
    """And then what a third one needs is not there."""
    for number in range(2):
        await bench.run_cell(Cell(name=f"cell-{number}", shape=Streams(1), duration_s=1.0, seed=1))
    raise MissingError("a card fell off the bus", place="gpu0", remedy="Seat it again.")


@pytest.mark.parametrize("others", [{}, {"db": _good}])
async def test_what_was_measured_before_a_failure_is_kept(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, others: dict[str, Suite]
) -> None:
    """And was saved cell by cell, marked partial. A lone suite's failure is told beside it."""
    numbers = count()
    saved: list[BenchResult] = []

    async def driven(cell: Cell, *_: object, **__: object) -> CellRun:
        return CellRun(cell, (), 1.0)

    monkeypatch.setattr(campaign, "drive", driven)
    monkeypatch.setattr(campaign, "summarise_rounds", lambda *_, **__: _cell(next(numbers)))
    campaign_ = _campaign(monkeypatch, tmp_path, {"engine": _two_cells, **others}, asyncio.Event())
    campaign_.save = saved.append
    result = await campaign_.run()

    assert [[cell.name for cell in one.suites[0].cells] for one in saved] == [
        ["cell-0"],
        ["cell-0", "cell-1"],
    ]
    assert all(one.partial and one.date == result.date for one in saved)
    kept = result.suites[0]
    assert ([cell.name for cell in kept.cells], kept.partial) == (["cell-0", "cell-1"], True)
    assert kept.headline.startswith("Broken off: ")
    assert "fell off the bus" in kept.missed[0]
    assert isinstance(campaign_.failure, MissingError) is (not others)


async def test_a_full_disk_does_not_end_the_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It is said, and the run goes on."""

    async def driven(cell: Cell, *_: object, **__: object) -> CellRun:
        return CellRun(cell, (), 1.0)

    def full(_: BenchResult) -> None:
        raise FailedError("no space left on device", place="result.json")

    async def suite(bench: Bench) -> SuiteResult:
        cell = await bench.run_cell(Cell(name="a", shape=Streams(1), duration_s=1.0, seed=1))
        return SuiteResult(name="engine", headline="A figure.", cells=(cell,))

    monkeypatch.setattr(campaign, "drive", driven)
    campaign_ = _campaign(monkeypatch, tmp_path, {"engine": suite}, asyncio.Event())
    said: list[str] = []
    campaign_.save = full
    monkeypatch.setattr(campaign_.live, "say", said.append)
    assert (await campaign_.run()).suites[0].headline == "A figure."
    assert any("could not be saved: " in line and "no space left" in line for line in said)


async def test_an_interruption_ends_a_load_that_is_not_ours(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """pgbench's suite is cancelled and gives what it has; the suite after it does not begin."""
    stop = asyncio.Event()

    async def endless(bench: Bench) -> SuiteResult:
        stop.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return SuiteResult(name="db", headline="Half of it.", partial=True)
        raise AssertionError

    result = await _campaign(monkeypatch, tmp_path, {"db": endless, "engine": _good}, stop).run()
    assert [one.headline for one in result.suites] == ["Half of it."]
    assert result.partial


async def test_a_run_that_is_given_up_has_closed_what_it_opened(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The second Ctrl-C: the suite cleans up before the program goes on to its end."""
    begun, closed = asyncio.Event(), asyncio.Event()

    async def slow_to_close(bench: Bench) -> SuiteResult:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.05)
            closed.set()
        raise AssertionError

    campaign_ = _campaign(monkeypatch, tmp_path, {"engine": slow_to_close}, asyncio.Event())
    running = asyncio.create_task(campaign_.run())
    await begun.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert closed.is_set()
