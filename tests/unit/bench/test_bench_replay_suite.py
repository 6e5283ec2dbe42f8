"""The engine suite with a trace: which cell it makes, what it says, and what it does not take."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dreamseed_cli.bench.record_run import chosen_trace
from dreamseed_cli.bench.records import Job
from dreamseed_cli.bench.result import CellResult, Interval, Slo, SuiteResult
from dreamseed_cli.bench.shapes import Cell, Replay, TargetSpec
from dreamseed_cli.bench.suites.base import Bench, StopEarly
from dreamseed_cli.bench.suites.engine import engine_suite
from dreamseed_cli.bench.workload import load
from dreamseed_cli.bench.workload.trace import read
from dreamseed_cli.core.errors import UsageError

_LINES = [
    {"at_s": 5, "prompt_tokens": 40, "output_tokens": 9, "workload": "feedback"},
    {"at_s": 7, "output_tokens": 9, "prompt": "Why is the sky blue?"},
    {"at_s": 25, "prompt_tokens": 40, "output_tokens": 9},
]


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    """Three requests within 20 s, one of which brings its prompt."""
    path = tmp_path / "mine.jsonl"
    path.write_text("\n".join(map(json.dumps, _LINES)))
    return path


async def _suite(
    folder: Path, shape: Replay, *, seconds: float | None = None, stops: bool = False
) -> tuple[SuiteResult, list[Cell]]:
    cells: list[Cell] = []

    async def run_cell(cell: Cell, target: TargetSpec | None = None) -> CellResult:
        if stops:
            raise StopEarly
        cells.append(cell)
        one = Interval(value=1.0)
        return CellResult(
            name=cell.name, shape={}, workload=cell.workload, valid=True, duration_s=1.0, window_s=(0.0, 1.0),
            requests=3, endings={"complete": 3}, achieved_rate_per_s=1.5, peak_in_flight=1,
            output_tokens_per_s=one, total_tokens_per_s=one, requests_per_s=one, goodput_per_s=one,
            slo_attainment=Interval(value=0.75),
        )  # fmt: skip

    bench = Bench(
        target=TargetSpec(kind="openai", address="http://a"),
        profile=None,
        slo=Slo(ttft_ms=1000, tpot_ms=100, attainment=0.9),
        seed=3,
        run_cell=run_cell,
        say=lambda _: None,
        state=folder,
        duration_s=seconds,
        trace=shape,
    )
    return await engine_suite(bench), cells


@pytest.mark.parametrize(
    ("seconds", "speed", "lasts_s"), [(None, 1.0, 20.0), (None, 4.0, 5.0), (8.0, 1.0, 8.0)]
)
async def test_the_trace_is_the_only_cell(
    trace: Path, tmp_path: Path, seconds: float | None, speed: float, lasts_s: float
) -> None:
    """It lasts as long as its requests come, or as long as the operator asked; figures are not judged."""
    result, (cell,) = await _suite(tmp_path, Replay(str(trace), 20.0, speed), seconds=seconds)
    assert cell.duration_s == pytest.approx(lasts_s, abs=0.01)
    assert cell.duration_s > 20.0 / speed or seconds is not None
    assert cell.shape == Replay(str(trace), 20.0, speed)
    assert "mine.jsonl: 3 requests in the window, 1.5 a second" in result.headline
    assert ("4 times as fast" in result.headline) is (speed == 4.0)
    assert result.headline.endswith("75 % kept the SLO.")
    assert result.measurements == ()


async def test_every_kind_that_a_trace_names_is_asked_for(trace: Path, tmp_path: Path) -> None:
    """Made prompts are new to every cache; one that is brought is sent as it is and may be cached."""
    _, (cell,) = await _suite(tmp_path, Replay(str(trace), 20.0))
    maker = load(cell.workload)
    jobs: list[Job] = [maker.job(cell, number, entry) for number, entry in enumerate(read(trace))]
    assert jobs[0].workload == "feedback"
    assert [job.bypass_cache for job in jobs] == [True, False, True]
    assert (jobs[1].prompt, jobs[1].system_prompt) == ("Why is the sky blue?", None)


async def test_an_interruption_before_the_first_request_is_said(trace: Path, tmp_path: Path) -> None:
    """Partial, without a cell."""
    result, _ = await _suite(tmp_path, Replay(str(trace), 20.0), stops=True)
    assert (result.partial, result.cells) == (True, ())
    assert result.headline == "Not one request of mine.jsonl was sent."


def test_a_trace_is_read_before_anything_starts(trace: Path) -> None:
    """A wrong line is told with its file and number; only the engine suite takes one."""
    assert chosen_trace(None, 1.0, ["db"]) is None
    assert chosen_trace(trace, 2.0, ["engine"]) == Replay(str(trace), 20.0, 2.0, own_prompts=True)
    with pytest.raises(UsageError, match="only the engine suite") as refused:
        chosen_trace(trace, 1.0, ["engine", "db"])
    assert refused.value.place == "--trace"
    trace.write_text(f"{json.dumps(_LINES[0])}\n{{")
    with pytest.raises(UsageError, match="not valid JSON") as wrong:
        chosen_trace(trace, 1.0, ["engine"])
    assert wrong.value.place == f"{trace}:2"
    assert "at_s" in wrong.value.remedy
