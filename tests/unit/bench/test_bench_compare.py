"""Two runs side by side: a change is one only if it is more than chance, and of like with like."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pytest
from bench_results import sweep_result
from compared_runs import BROKEN, a_cell, a_latency, a_run, around
from hypothesis import given, settings
from hypothesis import strategies as st

from dreamseed_cli.bench.change import CellChange, Change, difference
from dreamseed_cli.bench.compare import Comparison, compare
from dreamseed_cli.bench.measure.intervals import mean_interval
from dreamseed_cli.bench.result import BenchResult, CellResult, Interval, Problem, Slo, SuiteResult
from dreamseed_cli.estimates.results import Measurement

values = st.floats(0, 1e6)
intervals = st.tuples(values, values, values).map(
    lambda three: Interval(low=min(three), value=sorted(three)[1], high=max(three))
)


def only_cell(found: Comparison) -> CellChange:
    """The one cell."""
    (cell,) = found.cells
    return cell


def changed(metric: str, a: CellResult, b: CellResult, **fields: Any) -> Change:
    """One metric's change between runs of one cell each; fields are the second run's."""
    found = only_cell(compare(a_run(a), a_run(b, **fields))).change(metric)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("after", "verdict"),
    [(600, "worse"), (400, "better"), (500, "no difference"), (527, "no difference"), (530, "worse")],
)
def test_a_latency_that_grows_is_worse(after: float, verdict: str) -> None:
    """Beyond the interval of the difference: 20 ms to both sides of both, so 28 ms together."""
    assert changed("ttft.p99", a_cell(), a_cell(p99=around(after, 20))).verdict == verdict


@pytest.mark.parametrize(("after", "verdict"), [(900, "better"), (700, "worse"), (805, "no difference")])
def test_a_throughput_that_grows_is_better(after: float, verdict: str) -> None:
    """The other way round."""
    change = changed("output_tokens_per_s", a_cell(), a_cell(tok_s=around(after, 10)))
    assert change.verdict == verdict


def test_a_change_is_told_in_percent_of_the_value_before() -> None:
    """500 to 600 ms: 20 % more, give or take 28.3 ms of 500."""
    change = changed("ttft.p99", a_cell(), a_cell(p99=around(600, 20)))
    assert change.percent is not None
    assert change.difference is not None
    assert change.difference.value == 100
    assert change.percent.value == pytest.approx(20)
    assert change.percent.low == pytest.approx(20 - 28.284 / 5, abs=1e-3)
    assert change.percent.high == pytest.approx(20 + 28.284 / 5, abs=1e-3)


def test_from_zero_there_is_no_percentage() -> None:
    """But a difference, and a verdict."""
    nothing = a_cell(attainment=Interval(value=0.0, low=0.0, high=0.01))
    change = changed("slo_attainment", nothing, a_cell())
    assert change.percent is None
    assert change.verdict == "better"


@settings(deadline=None)
@given(intervals, intervals)
def test_the_difference_lies_in_its_interval_and_turns_round(a: Interval, b: Interval) -> None:
    """Its interval is never wider than that of the extremes; A to B is B to A with the other sign."""
    there, back = difference(a, b), difference(b, a)
    assert None not in {there.low, there.high, a.low, a.high, b.low, b.high}
    assert there.low <= there.value <= there.high  # type: ignore[operator]
    assert there.low >= b.low - a.high - 1e-6  # type: ignore[operator]
    assert there.high <= b.high - a.low + 1e-6  # type: ignore[operator]
    assert (back.value, back.low, back.high) == (-there.value, -there.high, -there.low)  # type: ignore[operator]


@settings(deadline=None)
@given(intervals)
def test_a_run_against_itself_shows_no_difference(p99: Interval) -> None:
    """Whatever its figures."""
    run = a_run(a_cell(p99=p99))
    changes = only_cell(compare(run, run)).changes
    assert changes
    assert {one.verdict for one in changes} == {"no difference"}


def test_runs_of_one_and_the_same_load_rarely_differ() -> None:
    """The rule is sure to 95 %: of 400 pairs (seeded) of the same distribution about 20 differ."""
    rng = np.random.default_rng(5)
    differ = 0
    for _ in range(400):
        gap = difference(*(mean_interval(rng.gamma(4, 25, 150)) for _ in range(2)))
        assert gap.low is not None
        assert gap.high is not None
        differ += gap.low > 0 or gap.high < 0
    assert 8 <= differ <= 34


def test_a_figure_without_an_interval_is_not_judged() -> None:
    """Energy has none; the change is shown all the same."""
    change = changed("energy.joules_per_output_token", a_cell(joules=4.0), a_cell(joules=5.0))
    assert change.verdict == "not comparable"
    assert change.percent is not None
    assert change.percent.value == pytest.approx(25)


def test_an_interval_open_to_one_side_can_still_tell() -> None:
    """A p99 whose upper bound lies among the unanswered: it is worse, by how much at most is not known."""
    change = changed("ttft.p99", a_cell(), a_cell(p99=Interval(value=900.0, low=800.0)))
    assert change.verdict == "worse"
    assert change.difference is not None
    assert change.difference.high is None
    assert (
        changed("ttft.p99", a_cell(), a_cell(p99=Interval(value=500.0, low=480.0))).verdict
        == "not comparable"
    )


def test_a_figure_that_one_run_lacks_is_shown_and_not_judged() -> None:
    """A p99 for want of samples; one that both lack is left out."""
    change = changed("ttft.p99", a_cell(), a_cell(p99=None))
    assert (change.verdict, change.why, change.after) == ("not comparable", "not given after", None)
    assert only_cell(compare(a_run(), a_run())).change("itl.p50") is None


@pytest.mark.parametrize(
    ("b", "why"),
    [
        (a_run(provenance="simulated"), "one is measured, the other simulated"),
        (a_run(a_cell(workload="feedback")), "workload differs"),
        (a_run(a_cell(shape={"type": "rate", "per_s": 5.0})), "shape differs"),
        (a_run(a_cell(problems=BROKEN)), "INVALID after: the server saw 3 streams"),
    ],
)
def test_unlike_is_not_compared(b: BenchResult, why: str) -> None:
    """Simulated with measured, another load, or a run that must not be believed: both figures, no change."""
    changes = only_cell(compare(a_run(), b)).changes
    assert {one.verdict for one in changes} == {"not comparable"}
    assert {(one.difference, one.percent) for one in changes} == {(None, None)}
    assert all(one.before and one.after for one in changes)
    assert all(one.why.startswith(why) for one in changes)


def test_under_another_slo_only_what_the_slo_decides_is_not_compared() -> None:
    """Goodput and attainment; latencies are what they are."""
    cell = only_cell(compare(a_run(), a_run(slo=Slo(ttft_ms=1, tpot_ms=1, attainment=0.9))))
    unlike = {one.metric for one in cell.changes if one.verdict == "not comparable"}
    assert unlike == {"goodput_per_s", "slo_attainment"}


@pytest.mark.parametrize("name", ["device", "model", "target", "profile"])
def test_what_else_differs_is_a_warning(name: str) -> None:
    """It may be the cause, or what was to be compared; figures are judged."""
    found = compare(a_run(), a_run(**{name: "other"}))
    assert [one.startswith(f"{name} differs") for one in found.warnings] == [True]
    assert "not comparable" not in {one.verdict for one in only_cell(found).changes}


def test_another_seed_and_a_partial_run_are_warnings() -> None:
    """Of the run, and of the cell."""
    found = compare(a_run(), a_run(a_cell(partial=True), seed=2, partial=True))
    assert found.warnings == ("seed differs: 1 before, 2 after", "the run after is partial")
    assert only_cell(found).warnings == ("the cell after is partial",)


def test_cells_are_matched_by_suite_and_name() -> None:
    """In the order of the first run; those of one run alone are there, and named so."""
    found = compare(a_run(a_cell("x"), a_cell("y")), a_run(a_cell("z"), a_cell("y")))
    assert [(one.place, one.missing) for one in found.cells] == [
        ("engine/x", "after"),
        ("engine/y", None),
        ("engine/z", "before"),
    ]
    gone = found.cells[0].change("ttft.p99")
    assert gone is not None
    assert (gone.verdict, gone.after, gone.why) == (
        "not comparable",
        None,
        "the cell is not in the run after",
    )


def test_every_latency_is_compared_at_each_quantile() -> None:
    """And the mean."""
    full = a_cell(itl=a_latency(around(30, 1)), tpot=a_latency(around(30, 1)), e2e=a_latency(around(30, 1)))
    metrics = {one.metric for one in only_cell(compare(a_run(full), a_run(full))).changes}
    assert {
        f"{name}.{q}" for name in ("ttft", "itl", "tpot", "e2e") for q in ("p50", "p99", "mean")
    } <= metrics


def _with_db(
    tps: float, provenance: Literal["measured", "simulated"] = "measured", **fields: Any
) -> BenchResult:
    """A run of pgbench alone, which has no cells."""
    one = Measurement(
        key="postgres-read-tps", value=tps, unit="TPS", provenance=provenance, low=tps - 50, high=tps + 50
    )
    return sweep_result(SuiteResult(name="db", headline="h", measurements=(one,), **fields))


def test_what_pgbench_measured_is_compared_too() -> None:
    """By the figure's own direction, in the unit of the document's."""
    (figures,) = compare(_with_db(5000), _with_db(4000)).figures
    (change,) = figures.changes
    assert (figures.place, change.metric, change.unit) == ("db/figures", "postgres-read-tps", "TPS")
    assert change.verdict == "worse"
    assert change.percent is not None
    assert change.percent.value == pytest.approx(-20)


def test_a_figure_that_must_not_be_believed_is_not_compared() -> None:
    """An INVALID suite, another provenance, or no such suite in the other run."""
    problem = Problem(rule="r", reason="the load was late", remedy="")
    for other, why in (
        (_with_db(4000, problems=(problem,)), "INVALID after: the load was late"),
        (_with_db(4000, provenance="simulated"), "one is measured, the other simulated"),
        (_with_db(4000).model_copy(update={"suites": ()}), "the suite is not in the run after"),
    ):
        figures = compare(_with_db(5000), other).figures
        (change,) = next(one for one in figures if one.suite == "db").changes[:1]
        assert (change.verdict, change.why) == ("not comparable", why)


def test_a_partial_suites_figures_carry_a_warning() -> None:
    """They rest on less than was asked for."""
    (figures,) = compare(_with_db(5000), _with_db(5000, partial=True)).figures
    assert figures.warnings == ("the suite after is partial",)
