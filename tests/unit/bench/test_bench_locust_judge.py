"""What a load test is found to show, from samples made by hand."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
from msgspec import structs

from dreamseed_cli.bench.locust_users.crew import LoadRun, StepTimes
from dreamseed_cli.bench.locust_users.judge import (
    StepFigures,
    is_good,
    judge_step,
    run_problems,
    sustained_users,
)
from dreamseed_cli.bench.locust_users.plan import Kind, LoadPlan, Step
from dreamseed_cli.bench.locust_users.report import provenance_of
from dreamseed_cli.bench.locust_users.samples import (
    HELD,
    SIMULATED,
    UNCOUNTED,
    Recorder,
    Sample,
    as_samples,
    as_ticks,
    read_samples,
    read_ticks,
)
from dreamseed_cli.bench.records import Ending
from dreamseed_cli.bench.result import Slo

SLO = Slo(ttft_ms=100, tpot_ms=20, attainment=0.95)
PLAN = LoadPlan(steps=(Step(100, 1, 10),), interval_s=1, mix={Kind.STATIC: 1.0}, seed=1)
STEP = StepTimes(100, 0.0, 0.0, 12.5)


def _page(due_s: float, *, took_s: float = 0.01, late_s: float = 0.0, **more: object) -> Sample:
    sample = Sample(Kind.STATIC, 0, due_s, due_s + late_s, due_s + took_s, ending=Ending.COMPLETE)
    return dataclasses.replace(sample, **more)  # type: ignore[arg-type]


def _answer(due_s: float, *, first_s: float = 0.05, took_s: float = 0.5, **more: object) -> Sample:
    sample = Sample(
        Kind.CHAT_STREAM,
        0,
        due_s,
        due_s,
        due_s + took_s,
        due_s + first_s,
        tokens=101,
        ending=Ending.COMPLETE,
    )
    return dataclasses.replace(sample, **more)  # type: ignore[arg-type]


def _pages(count: int = 1250, **more: float) -> list[Sample]:
    """`count` evenly over the step."""
    return [_page(number * 12.5 / count, **more) for number in range(count)]


def _run(samples: list[Sample], *, lag_ms: float = 1.0, users: int = 100, **more: object) -> LoadRun:
    ticks = as_ticks((number / 100, lag_ms, users // 2) for number in range(1250))
    run = LoadRun(as_samples(samples), (ticks, ticks), (STEP,))
    return dataclasses.replace(run, **more)  # type: ignore[arg-type]


def _judged(samples: list[Sample], **more: float) -> StepFigures:
    return judge_step(PLAN, _run(samples, **more), STEP, SLO)  # type: ignore[arg-type]


def test_a_good_step_is_sustained() -> None:
    """Users, rate and times as asked; the step's first fifth is not looked at."""
    found = _judged([*_pages(), *(_answer(number / 10) for number in range(30, 120))])
    assert (found.sustained, found.problems, found.reached) == (True, (), 100)
    assert found.window_s == (2.5, 12.5)
    assert found.requests == 1000 + 90
    assert found.asked_per_s == 100
    assert found.page is not None
    assert found.page.quantiles["p99"].value == pytest.approx(10)


def test_a_step_without_requests_to_the_model_tells_nothing_of_it() -> None:
    """In a mix that has them: three of them, all good, are no SLO that was kept."""
    mixed = structs.replace(PLAN, mix={Kind.STATIC: 0.9, Kind.CHAT: 0.1})
    for count, valid in ((3, False), (4, True)):
        run = _run([*_pages(), *(_answer(5 + number) for number in range(count))])
        found = judge_step(mixed, run, STEP, SLO)
        assert (found.valid, found.sustained) == (valid, valid)
        assert all(problem.rule == "samples" for problem in found.problems)


def test_pages_do_not_hide_that_no_model_answers() -> None:
    """96 % of all requests are good, and none of the answers."""
    late = [_answer(number / 4, first_s=3) for number in range(10, 50)]
    found = _judged([*_pages(), *late])
    assert found.good.value > 0.95
    assert (found.good_answers.value, found.valid, found.sustained) == (0, True, False)


def test_a_failure_ranks_as_longer_than_every_time() -> None:
    """Where 6 % fail there is no p95, and the step is not sustained."""
    samples = _pages()
    for sample in samples[::16]:
        sample.ending = Ending.REFUSED
    found = _judged(samples)
    assert found.failed == len([one for one in samples[::16] if one.due_s >= 2.5])
    assert found.page is not None
    assert "p95" not in found.page.quantiles
    assert not found.sustained


def test_failures_in_a_row_are_one_event() -> None:
    """As many by chance tell more exactly how many there are."""
    chance, row = _pages(), _pages()
    for sample in chance[250::20]:
        sample.ending = Ending.REFUSED
    for sample in row[600:650]:
        sample.ending = Ending.REFUSED
    apart, together = _judged(chance).good, _judged(row).good
    assert apart.value == together.value == 0.95
    assert (together.low or 0.0) < (apart.low or 0.0) - 0.1


def test_a_load_that_is_late_itself_is_invalid() -> None:
    """Its loops, or the beginning of its requests: over 10 ms at p99 for an SLO of 100 ms."""
    by_ticks = _judged(_pages(), lag_ms=11)
    by_requests = _judged(_pages(late_s=0.011))
    for found in (by_ticks, by_requests):
        assert [problem.rule for problem in found.problems] == ["scheduling-delay"]
        assert "11 ms" in found.problems[0].reason
        assert not found.sustained
    assert _judged(_pages(late_s=0.009), lag_ms=9).valid


def test_a_slow_target_allows_a_tenth_of_it() -> None:
    """50 ms of 500 ms: of the SLO, or of what pages take from when they are asked for if that is less."""
    half = SLO.model_copy(update={"ttft_ms": 500})
    for slo, took_s in ((half, 0.8), (SLO.model_copy(update={"ttft_ms": 5000}), 0.5)):
        for late_s, lag_ms, valid in ((0.049, 49, True), (0.051, 1, False)):
            pages = _pages(late_s=late_s, took_s=late_s + took_s)
            assert judge_step(PLAN, _run(pages, lag_ms=lag_ms), STEP, slo).valid is valid
    assert not judge_step(PLAN, _run(_pages(), lag_ms=11), STEP, half).valid


def test_users_that_never_came_make_it_invalid() -> None:
    """98 of 100."""
    found = _judged(_pages(), users=98)
    assert [(problem.rule, found.reached) for problem in found.problems] == [("users", 98)]
    assert "98 of 100" in found.problems[0].reason


def test_ticks_that_counted_no_users_say_nothing_of_them() -> None:
    """They count as lag alone, wherever they stand."""
    uncounted = as_ticks([(5.0, 200.0, UNCOUNTED)] * 100)
    run = _run(_pages())
    more = dataclasses.replace(run, ticks=tuple(np.concatenate([one, uncounted]) for one in run.ticks))
    found = judge_step(PLAN, more, STEP, SLO)
    assert (found.reached, found.lag_p99_ms) == (100, 200.0)
    alone = judge_step(PLAN, dataclasses.replace(run, ticks=(uncounted,)), STEP, SLO)
    assert alone.reached == 0


def test_too_few_requests_without_a_cause_are_invalid() -> None:
    """A tenth is missing, and no user waited for an answer."""
    found = _judged(_pages(1125))
    assert [problem.rule for problem in found.problems] == ["rate"]


def test_too_few_requests_since_answers_took_long_are_the_servers_fault() -> None:
    """Each of 11 users waited for all of the window: valid, and not sustained."""
    stuck = [_page(0.0, took_s=20, ending=Ending.COMPLETE) for _ in range(11)]
    held = _pages(1125)
    for sample in held[::10]:
        sample.flags = HELD
    found = _judged([*stuck, *held])
    assert (found.valid, found.sustained) == (True, False)
    assert found.held == pytest.approx(0.1, abs=0.01)


def test_what_a_chance_shortfall_is_not() -> None:
    """5 users that make 36 instead of 40 requests are within what chance does."""
    few = dataclasses.replace(STEP, users=4)
    run = _run(_pages(45), users=4)
    assert judge_step(PLAN, run, few, SLO).valid


@pytest.mark.parametrize(
    ("sample", "good"),
    [
        (_page(0, took_s=0.09), True),
        (_page(0, took_s=0.11), False),
        (_page(0, ending=Ending.SERVER_ERROR), False),
        (_answer(0, first_s=0.09, took_s=2.0), True),
        (_answer(0, first_s=0.11), False),
        (_answer(0, first_s=0.05, took_s=2.2), False),
        (_answer(0, kind=Kind.CHAT, first_s=math.nan, took_s=4.0), True),
        (_answer(0, kind=Kind.CHAT, first_s=math.nan, took_s=4.2), False),
        (_page(0, end_s=math.nan, ending=Ending.ABANDONED), False),
    ],
)
def test_what_keeps_the_slo(sample: Sample, good: bool) -> None:
    """TTFT and TPOT of streams; whole answers in the time that both allow for 200 tokens; pages in TTFT's."""
    assert is_good(as_samples([sample]), SLO, 200).tolist() == [good]


def test_the_users_sustained_are_those_before_the_first_miss() -> None:
    """0 if the smallest missed; unknown if what came before the first miss cannot be believed."""
    good = _judged(_pages())
    missed = _judged(_pages(took_s=0.2))
    invalid = _judged(_pages(), lag_ms=50)
    more = dataclasses.replace(good, users=200)
    assert sustained_users([good, more]) == 200
    assert sustained_users([good, missed, more]) == 100
    assert sustained_users([missed]) == 0
    assert sustained_users([good, missed, invalid]) == 100
    assert sustained_users([good, invalid]) is None
    assert sustained_users([]) is None


@pytest.mark.parametrize(
    ("generated", "rules"), [(200, []), (199, ["usage"]), (0, []), (None, []), (9000, [])]
)
def test_the_usage_of_answers_is_no_more_than_the_engines_counted(
    generated: int | None, rules: list[str]
) -> None:
    """Two answers of 101 tokens; what a failed one tells is nobody's usage."""
    run = _run([_answer(1), _answer(2), _answer(3, ending=Ending.SERVER_ERROR)])
    assert [problem.rule for problem in run_problems(run, generated)] == rules


def test_a_lost_process_and_a_wrong_count_are_problems_of_the_run() -> None:
    """Locust must have counted what was written down, requests broken off at the end aside."""
    broken_off = _page(1, end_s=math.nan, ending=Ending.ABANDONED)
    run = _run([_page(1), _page(2), broken_off], locust_requests=2)
    assert list(run_problems(run)) == []
    wrong = dataclasses.replace(run, locust_requests=3)
    assert [problem.rule for problem in run_problems(wrong)] == ["count"]
    lost = dataclasses.replace(run, locust_requests=9, lost=("load process 1 (pid 7) was killed",))
    assert [problem.rule for problem in run_problems(lost)] == ["lost-process"]
    full = _run([_page(1), _page(2, ending=Ending.UNSENT)], locust_requests=2)
    assert [problem.rule for problem in run_problems(full)] == ["own-limits"]


def test_one_simulated_answer_makes_a_run_simulated() -> None:
    """Whatever the target is said to be."""
    assert provenance_of(_run([_page(1)]), simulated=False) == "measured"
    assert provenance_of(_run([_page(1)]), simulated=True) == "simulated"
    assert provenance_of(_run([_page(1), _answer(1, flags=SIMULATED)]), simulated=False) == "simulated"


def test_samples_come_back_as_they_were_written(tmp_path: Path) -> None:
    """By the time they were due, over all processes; a half-written one at the end is passed over."""
    samples = [_answer(3), _page(1, flags=HELD), _page(2, ending=Ending.CUT, detail="reset", user=70_000)]
    for index, share in enumerate((samples[:2], samples[2:])):
        recorder = Recorder(tmp_path, index)
        for sample in share:
            recorder.add(sample)
        recorder.tick(1.5, 3.25, 50)
        recorder.close()
    with (tmp_path / "samples-1.bin").open("ab") as file:
        file.write(b"half")
    expected = as_samples([samples[1], samples[2], samples[0]])
    assert read_samples(tmp_path).tobytes() == expected.tobytes()
    assert [table.tolist() for table in read_ticks(tmp_path)] == [[(1.5, 3.25, 50)]] * 2
    assert recorder.details == {"reset": 1}


def test_nothing_written_is_nothing_read(tmp_path: Path) -> None:
    """A run that ended before its processes came."""
    assert len(read_samples(tmp_path)) == 0
    assert read_ticks(tmp_path) == ()
