"""What the suites `api` and `load` say and claim, from runs made by hand."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest

from dreamseed_cli.bench.cell_run import ServerView
from dreamseed_cli.bench.limits import raise_descriptor_limit
from dreamseed_cli.bench.locust_users.crew import LoadRun, StepTimes
from dreamseed_cli.bench.locust_users.front import front_environment
from dreamseed_cli.bench.locust_users.plan import Kind, LoadPlan, Step
from dreamseed_cli.bench.locust_users.samples import Sample, as_samples, as_ticks
from dreamseed_cli.bench.locust_users.trial import Trial, evaluate, require_files
from dreamseed_cli.bench.records import Ending
from dreamseed_cli.bench.result import CellResult, Slo
from dreamseed_cli.bench.shapes import Cell, TargetSpec
from dreamseed_cli.bench.suites import api, load
from dreamseed_cli.bench.suites.base import Bench
from dreamseed_cli.core.errors import MissingError


async def _no_cell(cell: Cell, target: TargetSpec | None = None) -> CellResult:
    raise AssertionError(cell)


_BENCH = Bench(
    target=TargetSpec(kind="grpc", address="127.0.0.1:1"),
    profile=None,
    slo=Slo(ttft_ms=100, tpot_ms=20, attainment=0.95),
    seed=1,
    run_cell=_no_cell,
    say=lambda _: None,
    state=Path("/nowhere"),
    replicas={},
)


def _trial(
    *took_s: float,
    question: bool = True,
    lost: tuple[str, ...] = (),
    interrupted: bool = False,
    late_from: int = 1_000_000,
) -> Trial:
    """Steps of 100, 200, ... users at 1 request a second each, whose pages took so long."""
    kind = Kind.QUESTION if question else Kind.STATIC
    steps = [StepTimes(100 * (at + 1), at * 10.0, at * 10.0, at * 10.0 + 10) for at in range(len(took_s))]
    plan = LoadPlan(
        steps=tuple(Step(step.users, 0, 10) for step in steps), interval_s=1, mix={kind: 1.0}, seed=1
    )
    samples, ticks = [], []
    for step, took in zip(steps, took_s, strict=True):
        for number in range(step.users * 10):
            due = step.began_s + number / step.users
            samples.append(Sample(kind, 0, due, due, due + took, ending=Ending.COMPLETE))
        lag_ms = 500.0 if step.users >= late_from else 1.0
        ticks += [(step.began_s + at / 100, lag_ms, step.users) for at in range(1000)]
    run = LoadRun(as_samples(samples), (as_ticks(ticks),), tuple(steps), lost=lost, interrupted=interrupted)
    return evaluate(_BENCH, plan, run)


def test_users_that_kept_the_slo_are_a_measurement() -> None:
    """With the estimates' key, and nothing missed."""
    result = load.summarise(_trial(0.01, 0.02))
    assert [(one.key, one.value, one.provenance) for one in result.measurements] == [
        ("concurrent-users", 200, "measured")
    ]
    assert (result.missed, result.problems, result.partial) == ((), (), False)
    assert "200 concurrent users kept the SLO" in result.headline


def test_where_it_stops_coping_is_said() -> None:
    """The last good number of users is the measurement; the first bad one is in the missed target."""
    result = load.summarise(_trial(0.01, 0.2, 0.01))
    assert [one.value for one in result.measurements] == [100]
    assert "300 concurrent users" in result.missed[0]
    assert "with 200 0 % (0-0.2 %) of all requests" in result.missed[0]
    rows = result.tables[0].rows
    assert [(row["users"], row["verdict"]) for row in rows] == [
        (100, "kept the SLO"),
        (200, "missed the SLO"),
        (300, "kept the SLO"),
    ]


def test_beyond_the_loads_own_limit_the_last_step_it_made_is_the_result() -> None:
    """INVALID, with what it takes; no number is claimed, but what was shown before is said."""
    result = load.summarise(_trial(0.01, 0.02, 0.02, late_from=300))
    assert {problem.rule for problem in result.problems} == {"scheduling-delay"}
    assert "1 process" in result.problems[0].remedy
    assert "one for each 2,500 users" in result.problems[0].remedy
    assert (result.measurements, result.missed) == ((), ())
    assert result.headline.startswith(
        "At least 200 concurrent users kept the SLO; from 300 on the load itself was at its limit."
    )
    assert [row["verdict"] for row in result.tables[0].rows] == ["kept the SLO", "kept the SLO", "INVALID"]


def test_without_questions_no_number_of_users_is_claimed() -> None:
    """It is not the document's mix: `load` is invalid; `api` says so in its headline."""
    trial = _trial(0.01, question=False)
    result = load.summarise(trial)
    assert ([problem.rule for problem in result.problems], result.measurements) == (["mix"], ())
    assert "no PostgreSQL" in api.summarise(trial, 10).headline
    assert "no PostgreSQL" not in api.summarise(_trial(0.01), 10).headline


@pytest.mark.parametrize("more", [{"lost": ("load process 0 was killed",)}, {"interrupted": True}])
def test_what_was_broken_off_is_partial_and_claims_nothing(more: dict[str, bool | tuple[str, ...]]) -> None:
    """By the death of a process, or by Ctrl-C."""
    trial = _trial(0.01, **more)  # type: ignore[arg-type]
    for result in (load.summarise(trial), api.summarise(trial, 10)):
        assert (result.partial, result.measurements, result.missed) == (True, (), ())


def test_prompts_that_the_engines_knew_make_a_load_invalid() -> None:
    """As in a cell; where the engines tell nothing, it says that it did not look."""
    trial = _trial(0.01)
    views = (ServerView(prefix_queries=1000, prefix_hits=11), ServerView(prefix_queries=1000, prefix_hits=10))
    warm, cold = (evaluate(_BENCH, trial.plan, trial.run, view) for view in views)
    for suite in (load.summarise, lambda one: api.summarise(one, 10)):
        assert [problem.rule for problem in suite(warm).problems] == ["prefix-cache"]
        assert suite(cold).problems == ()
        assert "not checked whether prompts were new" in suite(trial).headline
        assert "not checked" not in suite(cold).headline


def test_a_load_without_a_step_says_so() -> None:
    """Broken off during its first ramp."""
    run = LoadRun(as_samples([]), (), (), interrupted=True)
    trial = evaluate(_BENCH, _trial(0.01).plan, run)
    for result in (load.summarise(trial), api.summarise(trial, 10)):
        assert "ended before" in result.headline
        assert (result.tables, result.measurements) == ((), ())


def test_phase_1_is_kept_or_missed() -> None:
    """The users that were sustained, or 0 with the reason."""
    kept, missed = api.summarise(_trial(0.01), 10), api.summarise(_trial(0.2), 10)
    assert [(one.key, one.value) for one in kept.measurements] == [("load-test-users", 100)]
    assert kept.missed == ()
    assert [one.value for one in missed.measurements] == [0]
    assert (
        "100 virtual users (§G phase 1): 0 % (0-0.5 %) of the requests kept the SLO, 0 of 800 failed"
        in missed.missed[0]
    )


def test_the_front_is_told_of_this_gateway_only() -> None:
    """Neither the operator's fallback nor another token or port comes along."""
    target = TargetSpec(kind="grpc", address="127.0.0.1:50051", ca_file="/ca.crt", timeout_s=40)
    given = {"PATH": "/bin", "FALLBACK_URL": "https://a", "GATEWAY_TOKEN": "t", "PORT": "1", "K_SERVICE": "x"}
    assert front_environment(target, 8000, given) == {
        "PATH": "/bin",
        "GATEWAY_CA_FILE": "/ca.crt",
        "GATEWAY_TIMEOUT_S": "40",
        "GPU_ENDPOINT": "127.0.0.1:50051",
        "PORT": "8000",
    }


def test_too_few_open_files_are_told_before_anything_starts() -> None:
    """10,000 users of two processes before two fronts need 5,000 and some."""
    plan = LoadPlan(steps=(Step(10_000, 1, 1),), interval_s=1, mix={Kind.STATIC: 1.0}, seed=1, processes=2)
    require_files(plan, 2, 5200)
    with pytest.raises(MissingError, match="5,200 open files a process, and 5,199"):
        require_files(plan, 2, 5199)
    with pytest.raises(MissingError, match="10,200"):
        require_files(plan, 1, 5200)
    # Somebody else's front has files of its own.
    require_files(plan, None, 5200)
    with pytest.raises(MissingError, match="5,200"):
        require_files(plan, None, 5199)


def test_the_limit_of_open_files_is_raised_to_what_is_allowed() -> None:
    """The soft limit becomes the hard one."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (before[1] - 1, before[1]))
    try:
        assert raise_descriptor_limit() == before[1]
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (before[1], before[1])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_a_shorter_test_than_the_documents_claims_nothing_of_it() -> None:
    """Ten seconds without a failure are not five minutes."""
    short, whole = api.summarise(_trial(0.01), 300), api.summarise(_trial(0.01), 10)
    assert (short.measurements, short.missed, short.problems) == ((), (), ())
    assert "§G's test lasts 300 s" in short.headline
    assert [one.key for one in whole.measurements] == ["load-test-users"]
