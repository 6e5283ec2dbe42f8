"""The `engine` and `capacity` suites: what they ask for. Their cells are made up here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from compared_runs import a_cell

from dreamseed_cli.bench.record_run import chosen_rates, chosen_workload
from dreamseed_cli.bench.result import CellResult, Interval, Latency, Slo
from dreamseed_cli.bench.shapes import Cell, Rate, Streams, TargetSpec, Users
from dreamseed_cli.bench.suites.base import Bench, Suite
from dreamseed_cli.bench.suites.batching import batching_suite
from dreamseed_cli.bench.suites.capacity import capacity_suite
from dreamseed_cli.bench.suites.cells import ANSWER_TOKENS
from dreamseed_cli.bench.suites.engine import engine_suite
from dreamseed_cli.bench.workload import load as load_workload
from dreamseed_cli.core.errors import UsageError
from dreamseed_cli.estimates.load import shipped_dir

SLOW_PER_S = 0.2
"""A processor's answers a second."""


def _bench(answer: Callable[[Cell], CellResult], *, duration_s: float | None) -> Bench:
    async def run(cell: Cell, target: TargetSpec | None = None) -> CellResult:
        return answer(cell)

    return Bench(
        target=TargetSpec(kind="grpc", address="127.0.0.1:1"),
        profile=None,
        slo=Slo(ttft_ms=1000.0, tpot_ms=100.0, attainment=0.99),
        seed=5,
        run_cell=run,
        say=lambda _line: None,
        state=Path("/nowhere"),
        duration_s=duration_s,
    )


async def test_a_slow_box_gets_as_long_as_twenty_requests_take() -> None:
    """Its rates would bring three requests in the usual time, of which nothing can be told."""
    asked: list[Cell] = []

    def answer(cell: Cell) -> CellResult:
        asked.append(cell)
        slow = Interval(value=SLOW_PER_S * ANSWER_TOKENS)
        return a_cell(cell.name).model_copy(update={"output_tokens_per_s": slow})

    await engine_suite(_bench(answer, duration_s=10.0))
    rates = [one for one in asked if isinstance(one.shape, Rate)]
    assert rates
    assert all(one.duration_s * one.shape.per_s >= 19.9 for one in rates if isinstance(one.shape, Rate))
    assert all(one.duration_s == 10.0 for one in asked if not isinstance(one.shape, Rate))


async def test_rates_follow_from_tokens_and_streams_begin_over_an_answer() -> None:
    """Ended answers are off by up to a wave, and the workload's are of another length than the sweep's."""
    asked: list[Cell] = []

    def answer(cell: Cell) -> CellResult:
        asked.append(cell)
        four_s = Latency(n=100, mean=Interval(value=4000.0), min=4000.0, max=4000.0, quantiles={})
        tokens, waves = Interval(value=1000.0), Interval(value=90.0)
        return a_cell(cell.name).model_copy(
            update={"output_tokens_per_s": tokens, "requests_per_s": waves, "e2e": four_s}
        )

    await engine_suite(_bench(answer, duration_s=20.0))
    rates = [one.shape.per_s for one in asked if isinstance(one.shape, Rate)]
    ramps = [one.shape.ramp_s for one in asked if isinstance(one.shape, Streams)]
    nine_tenths = 0.9 * 1000 / load_workload("question").mean_output_tokens
    assert f"{max(rates):g}" == f"{nine_tenths:.3g}"
    assert ramps == [0.0, 4.0]
    asked.clear()
    await engine_suite(_bench(answer, duration_s=8.0))
    assert [one.shape.ramp_s for one in asked if isinstance(one.shape, Streams)] == [0.0, 2.0]


async def test_no_two_trials_of_a_search_have_the_same_arrivals() -> None:
    """A load that passed by luck must not be confirmed by the same luck."""
    seeds: list[int] = []

    def answer(cell: Cell) -> CellResult:
        good = 1.0
        if isinstance(cell.shape, Rate):
            seeds.append(cell.seed)
            good = 1.0 if cell.shape.per_s < 10.0 else 0.0
        return a_cell(cell.name).model_copy(
            update={"requests_per_s": Interval(value=12.0), "slo_attainment": Interval(value=good)}
        )

    await capacity_suite(_bench(answer, duration_s=10.0))
    assert len(seeds) > 3
    assert len(set(seeds)) == len(seeds)


def _held_below(per_s: float, *, over: float = 1e9) -> Callable[[Cell], CellResult]:
    """A box that answers well below one rate, and behind which a queue grows from another one on."""

    def answer(cell: Cell) -> CellResult:
        shape = cell.shape
        load = shape.per_s if isinstance(shape, Rate) else None
        load = shape.count / 60 if isinstance(shape, Users) else load
        return a_cell(cell.name).model_copy(
            update={
                "shape": {"count": shape.count} if isinstance(shape, Users) else {},
                "asked_rate_per_s": load,
                "over_capacity": load is not None and load >= over,
                "requests_per_s": Interval(value=12.0),
                "slo_attainment": Interval(value=1.0 if load is None or load < per_s else 0.0),
            }
        )

    return answer


async def test_a_load_behind_which_a_queue_grows_is_not_kept() -> None:
    """However good its answers are so far: the emulated cards once "kept" more than they can generate."""
    result = await capacity_suite(_bench(_held_below(1e9, over=8.0), duration_s=60.0))
    kept = [row["trial"] for row in result.tables[0].rows if row["kept"]]
    rates = [float(str(name).split("-")[1]) for name in kept if str(name).startswith("rate-")]
    assert rates
    assert 7.0 < max(rates) < 8.0


async def test_trials_last_until_a_queue_would_show() -> None:
    """Three answers of the saturated box, or two cycles of the users, whatever duration was asked for."""
    asked: list[Cell] = []

    def answer(cell: Cell) -> CellResult:
        asked.append(cell)
        nine_s = Latency(n=100, mean=Interval(value=9000.0), min=9000.0, max=9000.0, quantiles={})
        return _held_below(10.0)(cell).model_copy(update={"e2e": nine_s})

    await capacity_suite(_bench(answer, duration_s=1.0))
    rates = [cell for cell in asked if isinstance(cell.shape, Rate)]
    users = [cell for cell in asked if isinstance(cell.shape, Users)]
    assert min(cell.duration_s for cell in rates) == 27.0
    assert {cell.duration_s for cell in users} == {120.0}


async def test_a_search_that_finds_nothing_says_why() -> None:
    """Nothing was kept however low it went, or what was kept once never was again."""
    passed: set[float] = set()

    def by_luck(cell: Cell) -> CellResult:
        held = isinstance(cell.shape, Rate) and cell.shape.per_s not in passed
        passed.update({cell.shape.per_s} if isinstance(cell.shape, Rate) else ())
        return a_cell(cell.name).model_copy(update={"slo_attainment": Interval(value=1.0 if held else 0.0)})

    never = await capacity_suite(_bench(_held_below(0.0), duration_s=60.0))
    assert never.missed == ("not even the lowest rate tried kept the SLO",)
    lucky = await capacity_suite(_bench(by_luck, duration_s=60.0))
    assert lucky.missed == ("16 trials ended without a rate that kept the SLO twice",)


async def test_rates_come_evenly_if_asked_for() -> None:
    """In the engine's sweep and in the search."""
    asked: list[Cell] = []

    def answer(cell: Cell) -> CellResult:
        asked.append(cell)
        return _held_below(10.0)(cell)

    bench = replace(_bench(answer, duration_s=10.0), arrivals="constant")
    await engine_suite(bench)
    await capacity_suite(bench)
    rates = [cell.shape for cell in asked if isinstance(cell.shape, Rate)]
    assert {rate.arrivals for rate in rates} == {"constant"}
    assert any(cell.name.startswith("constant-") for cell in asked)


async def test_rates_that_are_named_are_asked_for() -> None:
    """The same in every run, so that two can be compared; whatever the sweep of streams reached."""
    asked: list[Cell] = []

    def answer(cell: Cell) -> CellResult:
        asked.append(cell)
        return a_cell(cell.name)

    bench = replace(_bench(answer, duration_s=10.0), rates=(0.5, 40.0))
    await engine_suite(bench)
    rates = [cell for cell in asked if isinstance(cell.shape, Rate)]
    assert [cell.name for cell in rates] == ["poisson-0.5", "poisson-40"]
    assert [cell.shape.per_s for cell in rates if isinstance(cell.shape, Rate)] == [0.5, 40.0]
    assert [cell.duration_s for cell in rates] == [40.0, 10.0]


async def test_scaling_is_the_whole_farm_beside_one_replica() -> None:
    """The same streams for each: three replicas that make 250 tok/s where one makes 100 scale 2.5 times.

    Never more than the engines' 64 places, though twice as many, half of them in the queue, made the most.
    """

    def answer(cell: Cell) -> CellResult:
        tokens = {"alone": 100.0, "all": 250.0}
        streams = cell.shape.count if isinstance(cell.shape, Streams) else None
        made = next((value for name, value in tokens.items() if name in cell.name), float(streams or 1))
        return a_cell(cell.name).model_copy(
            update={"output_tokens_per_s": Interval(value=made), "asked_streams": streams}
        )

    spec = TargetSpec(kind="openai", address="unix:/nowhere")
    bench = replace(
        _bench(answer, duration_s=10.0), replicas={f"r{n}": spec for n in range(3)}, sees_queue=True
    )
    result = await engine_suite(bench)
    assert max(cell.asked_streams or 0 for cell in result.cells) == 128
    (table,) = [one for one in result.tables if one.title == "Scaling from 1 to 3 replicas, 21 streams each"]
    assert [(row["replicas"], row["times"]) for row in table.rows] == [(1, 1.0), (3, 2.5)]


def _own_workload(folder: Path) -> Path:
    file = folder / "mine.toml"
    file.write_text((shipped_dir() / "workloads" / "question.toml").read_text(encoding="utf-8"))
    return file


@pytest.mark.parametrize("suite", [engine_suite, capacity_suite, batching_suite])
async def test_a_named_workload_is_asked_with_its_own_lengths(suite: Suite, tmp_path: Path) -> None:
    """In every cell; without one it is questions, with answers of the document's length."""
    own = str(_own_workload(tmp_path))
    asked: list[Cell] = []

    def answer(cell: Cell) -> CellResult:
        asked.append(cell)
        return a_cell(cell.name).model_copy(update={"requests_per_s": Interval(value=2.0)})

    bench = _bench(answer, duration_s=10.0)
    await suite(replace(bench, workload=own))
    assert {(cell.workload, cell.output_tokens) for cell in asked} == {(own, None)}
    asked.clear()
    await suite(bench)
    assert {cell.workload for cell in asked} == {"question"}
    assert 200 in {cell.output_tokens for cell in asked}


def test_a_workload_is_read_before_anything_starts(tmp_path: Path) -> None:
    """Its mistakes are told, and suites that ask for something else do not take one."""
    file = _own_workload(tmp_path)
    mix = f"feedback=0.5,{file}=0.5"
    assert chosen_workload(None, ["db"], trace=True) is None
    assert chosen_workload(mix, ["engine", "capacity", "batching"], trace=False) == mix
    for suites, trace, cause in (
        (["engine", "db"], False, "'db' asks for its own"),
        (["engine"], True, "a trace"),
    ):
        with pytest.raises(UsageError, match=cause) as refused:
            chosen_workload(mix, suites, trace=trace)
        assert refused.value.place == "--workload"
    with pytest.raises(UsageError, match="no workload has this name"):
        chosen_workload("homework", ["engine"], trace=False)


def test_rates_are_for_the_engine_suite() -> None:
    """Each is asked for once, and no two cells get one name."""
    assert chosen_rates([40.0, 0.5, 40.0000001], ("engine", "db"), trace=False) == (0.5, 40.0)
    assert chosen_rates([], ("db",), trace=True) == ()
    for suites, trace, cause in ((("db",), False, "'db' takes no rates"), (("engine",), True, "a trace")):
        with pytest.raises(UsageError, match=cause) as refused:
            chosen_rates([1.0], suites, trace=trace)
        assert refused.value.place == "--rate"
