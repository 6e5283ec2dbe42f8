"""Cells measured in rounds: what is pooled, in which order they run, and what a drift does to them."""

from __future__ import annotations

import asyncio
import io
from collections import Counter
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from rich.console import Console
from synthetic_runs import SLO, failed, queued, run_of, steady
from virtual_bench import VirtualFarm

from dreamseed_cli.bench import campaign
from dreamseed_cli.bench.campaign import Campaign, Wish
from dreamseed_cli.bench.cell_run import CellRun, PowerSample, ServerView
from dreamseed_cli.bench.live_view import LiveView
from dreamseed_cli.bench.measure.summary import summarise, summarise_rounds
from dreamseed_cli.bench.record_run import chosen_rounds
from dreamseed_cli.bench.report import words
from dreamseed_cli.bench.result import BenchResult, CellResult
from dreamseed_cli.bench.rounds import Asked, order_of
from dreamseed_cli.bench.shapes import Cell, Rate, Streams, TargetSpec
from dreamseed_cli.bench.suites.base import Bench
from dreamseed_cli.bench.under_test import UnderTest
from dreamseed_cli.core.errors import FailedError, UsageError
from dreamseed_cli.profile.schema import EmulatedCard

CARD = EmulatedCard(
    source="test",
    prefill_tokens_per_s=1000.0,
    decode_step_ms=40.0,
    decode_step_ms_per_seq=0.5,
    kv_cache_tokens=1_000_000,
)
SERVER = ServerView(peak_in_flight=3, prefix_queries=1000, prefix_hits=5)


def _slower(card: EmulatedCard, times: float) -> EmulatedCard:
    return card.model_copy(
        update={
            "prefill_tokens_per_s": card.prefill_tokens_per_s / times,
            "decode_step_ms": card.decode_step_ms * times,
            "decode_step_ms_per_seq": card.decode_step_ms_per_seq * times,
        }
    )


def test_rounds_are_counted_as_one_run() -> None:
    """Every request and token of both windows, none of what lies outside of them, over both lengths."""
    fast = run_of(steady(10, 40, itl_s=0.02), cell_duration_s=40.0, server=SERVER)
    slow = run_of(steady(10, 20, itl_s=0.06), cell_duration_s=20.0, server=SERVER)
    one, other = summarise(fast, SLO), summarise(slow, SLO)
    both = summarise_rounds([fast, slow], SLO, of=2)
    assert both.requests == one.requests + other.requests
    assert (both.requests, both.requests_before) == (390 + 115, 10 + 85)
    lengths = [end - start for start, end in (one.window_s, other.window_s)]
    tokens = sum(
        cell.output_tokens_per_s.value * length for cell, length in zip((one, other), lengths, strict=True)
    )
    assert both.output_tokens_per_s.value == pytest.approx(tokens / sum(lengths), rel=1e-3)
    assert both.tpot is not None
    shares = [cell.requests / both.requests for cell in (one, other)]
    assert both.tpot.mean.value == pytest.approx(20 * shares[0] + 60 * shares[1])
    assert (both.valid, both.prefix_hit_percent, both.server_peak_in_flight) == (True, 0.5, 3)
    assert [cell.tpot_mean_ms for cell in both.rounds] == [pytest.approx(20), pytest.approx(60)]
    assert both.rounds[1].begin_s == 41
    assert sum(moment.requests_per_s for moment in both.timeline) == 600


def test_one_round_is_the_cell_as_it_was() -> None:
    """And says nothing of rounds."""
    run = run_of(steady(10, 40), cell_duration_s=40.0)
    assert summarise_rounds([run], SLO, of=1) == summarise(run, SLO)
    assert summarise(run, SLO).rounds == ()


def test_each_round_keeps_the_rules_by_itself() -> None:
    """A round that was sent late makes the cell INVALID, and is named; failures count in all of them."""
    good = run_of(steady(10, 40), cell_duration_s=40.0)
    late = run_of(
        [*steady(10, 40, sent_late_s=0.5), failed(400, 20.0)], cell_duration_s=40.0, interrupted=False
    )
    found = summarise_rounds([good, late], SLO, of=2)
    assert {one.rule for one in found.problems} == {"scheduling-delay"}
    assert all(one.reason.startswith("round 2: ") for one in found.problems)
    assert found.endings["refused"] == 1


@pytest.mark.parametrize(("grown", "over"), [(0, False), (1, False), (2, True), (3, True)])
def test_most_rounds_must_say_that_it_is_over_capacity(grown: int, over: bool) -> None:
    """Some light load is found so by chance in one round of many, now and then."""
    shape = Rate(300.0, "constant")
    served = [200 if one < grown else 400 for one in range(3)]
    rounds = [run_of(queued(300, per_s, 30), shape, cell_duration_s=30.0) for per_s in served]
    assert summarise_rounds(rounds, SLO, of=3).over_capacity is over


@pytest.mark.parametrize(("of", "valid"), [(1, False), (3, True)])
def test_rounds_have_the_samples_together(of: int, valid: bool) -> None:
    """Two requests are too few of a cell, and enough for the first of three rounds of it."""
    run = run_of(steady(0.1, 20, tokens=30), Streams(1), cell_duration_s=20.0)
    run = replace(run, server=ServerView(peak_in_flight=1))
    found = summarise_rounds([run], SLO, of=of)
    assert ("samples" not in {one.rule for one in found.problems}) is valid


def test_energy_is_of_every_round() -> None:
    """100 W in one and 200 W in the other; what was drawn between the two is in neither."""
    runs = [
        run_of(
            steady(10, 40),
            cell_duration_s=40.0,
            power=tuple(PowerSample(float(second), watts) for second in range(41)),
        )
        for watts in (100.0, 200.0)
    ]
    found = summarise_rounds(runs, SLO, of=2).energy
    assert found is not None
    assert found.mean_power_w == pytest.approx(150)


def test_every_round_has_each_cell_once_in_an_order_of_its_own() -> None:
    """Of all suites mixed; the same seed, the same order."""
    told = summarise(run_of(steady(10, 20)), SLO)
    cells = [
        Asked(
            suite, Cell(name=f"streams-{count}", shape=Streams(count), duration_s=1.0, seed=1), None, [], told
        )
        for suite in ("engine", "batching")
        for count in (1, 2, 4, 8, 16)
    ]
    order = order_of(cells, 4, seed=1)
    rounds = [[one.suite + one.cell.name for at, one in order if at == number] for number in (2, 3, 4)]
    assert all(Counter(names) == Counter(one.suite + one.cell.name for one in cells) for names in rounds)
    assert len({tuple(names) for names in rounds}) == 3
    assert order == order_of(cells, 4, seed=1) != order_of(cells, 4, seed=2)
    assert order_of(cells, 1, seed=1) == []


@pytest.mark.parametrize(("suites", "trace"), [(("db", "api"), False), (("engine",), True)])
def test_what_has_no_rounds_is_refused(suites: tuple[str, ...], trace: bool) -> None:
    """A trace, and suites whose load is another program's or a search; beside a sweep they run once."""
    with pytest.raises(UsageError) as refused:
        chosen_rounds(3, suites, trace=trace)
    assert refused.value.place == "--rounds"
    assert chosen_rounds(1, suites, trace=trace) == 1
    assert chosen_rounds(3, ("engine", "db"), trace=False) == 3


class _Machine:
    """Emulated engines in virtual time, on a machine that becomes slower with every cell that it has run."""

    def __init__(self, slower: float = 0.0) -> None:
        self.ran: list[Cell] = []
        self._slower = slower

    async def drive(self, cell: Cell, *_: object, **__: object) -> CellRun:
        times = 1 + self._slower * len(self.ran)
        self.ran.append(cell)
        run = VirtualFarm(_slower(CARD, times), places=16).run(cell)
        count = cell.shape.count if isinstance(cell.shape, Streams) else None
        return replace(run, server=ServerView(peak_in_flight=count))


def _campaign(folder: Path, machine: _Machine, monkeypatch: pytest.MonkeyPatch, **wish: object) -> Campaign:
    monkeypatch.setattr(campaign, "drive", machine.drive)
    monkeypatch.setattr(campaign, "processes_for", lambda *_: 1)
    monkeypatch.setattr(Bench, "places", 8)
    target = UnderTest(TargetSpec(kind="openai", address="http://127.0.0.1:9", model="m"))
    asked = Wish(("engine", "batching"), seed=1, duration_s=90.0)
    return Campaign(
        replace(asked, **wish),  # type: ignore[arg-type]
        target,
        folder / "work",
        LiveView(Console(file=io.StringIO())),
        asyncio.Event(),
    )


def _streams(found: BenchResult) -> dict[int, CellResult]:
    (batching,) = (one for one in found.suites if one.name == "batching")
    return {cell.asked_streams: cell for cell in batching.cells if cell.asked_streams}


async def test_a_run_in_rounds(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Each cell three times for a third of its time, with other arrivals and prompts, told as one cell; the
    suites' own figures are of all rounds, and every request is kept.
    """
    machine = _Machine()
    run = _campaign(tmp_path, machine, monkeypatch, rounds=3)
    saved: list[BenchResult] = []
    run.save = saved.append
    found = await run.run()
    cells = [cell for suite in found.suites for cell in suite.cells]
    assert len(machine.ran) == 3 * len(cells) == 3 * len({one.name for one in cells})
    assert all(len(cell.rounds) == 3 for cell in cells)
    assert found.valid
    assert len({cell.nonce for cell in machine.ran}) == len(machine.ran)
    rates = [cell for cell in machine.ran if isinstance(cell.shape, Rate)]
    assert all(cell.duration_s >= 30.0 for cell in machine.ran)
    assert len({cell.seed for cell in rates}) == 3
    eight = _streams(found)[8]
    (measured,) = (one for one in found.measurements if one.key == "batch-8-speedup")
    assert measured.value == pytest.approx(
        eight.output_tokens_per_s.value / _streams(found)[1].output_tokens_per_s.value
    )
    kept = run.records["batching", "batch-8"]
    assert len(kept) >= eight.requests
    assert [one.scheduled_s for one in kept] == sorted(one.scheduled_s for one in kept)
    assert len(saved) == len(machine.ran)
    assert all(one.partial for one in saved)
    assert not found.partial
    (batching,) = (one for one in found.suites if one.name == "batching")
    assert "3 rounds of each load" in words.rounds(batching)


async def test_drift_falls_on_all_cells_alike(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A machine that loses 5 % of its first speed with each cell makes the ratio of eight streams to one 13 %
    too low by the cells that lie between; in rounds little of that is left, and they tell how large it was.
    """

    async def measured(slower: float, rounds: int) -> dict[int, CellResult]:
        wish = {"rounds": rounds, "suites": ("batching",), "duration_s": 240.0}
        return _streams(await _campaign(tmp_path, _Machine(slower), monkeypatch, **wish).run())

    def ratio(cells: dict[int, CellResult]) -> float:
        return cells[8].output_tokens_per_s.value / cells[1].output_tokens_per_s.value

    true, once, rounds = await measured(0.0, 1), await measured(0.05, 1), await measured(0.05, 6)
    off, less = (abs(ratio(cells) / ratio(true) - 1) for cells in (once, rounds))
    assert off > 0.1
    assert less < off / 3
    speeds = [one.tpot_mean_ms or 0.0 for one in rounds[1].rounds]
    assert max(speeds) > 1.5 * min(speeds)


async def test_an_interruption_keeps_the_rounds_that_are_whole(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """What was cut short is no round; the result is partial."""
    machine = _Machine()
    run = _campaign(tmp_path, machine, monkeypatch, rounds=3, suites=("batching",))

    async def driven(cell: Cell, *_: object, **__: object) -> CellRun:
        found = await machine.drive(cell)
        if len(machine.ran) == 9:
            run.stop.set()
            return replace(found, interrupted=True)
        return found

    monkeypatch.setattr(campaign, "drive", driven)
    found = await run.run()
    assert found.partial
    rounds = [max(len(cell.rounds), 1) for cell in found.suites[0].cells]
    assert sum(rounds) == 8
    assert not any(cell.partial for cell in found.suites[0].cells)


async def test_a_failure_in_a_later_round_leaves_the_rounds_before(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It is a missed target, and no figure is thrown away."""
    machine = _Machine()
    run = _campaign(tmp_path, machine, monkeypatch, rounds=2, suites=("batching",))

    async def driven(cell: Cell, *_: object, **__: object) -> CellRun:
        if len(machine.ran) == 6:
            raise FailedError("a process of the load did not start", place="bench")
        return await machine.drive(cell)

    monkeypatch.setattr(campaign, "drive", driven)
    (suite,) = (await run.run()).suites
    assert "did not start" in suite.missed[0]
    assert sum(max(len(cell.rounds), 1) for cell in suite.cells) == 6


def test_moved_records_are_copies() -> None:
    """The runs stay as they were, for the next round is laid behind them again."""
    run = run_of(steady(10, 20), cell_duration_s=20.0)
    before = msgspec.json.encode(list(run.records))
    summarise_rounds([run, run], SLO, of=2)
    assert msgspec.json.encode(list(run.records)) == before
