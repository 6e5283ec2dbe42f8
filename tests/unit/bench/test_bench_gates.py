"""`--fail-if`: what it understands, and when CI fails."""

from __future__ import annotations

import pytest
from bench_results import sweep_result
from compared_runs import BROKEN, a_cell, a_run, around

from dreamseed_cli.bench.compare import METRICS, compare
from dreamseed_cli.bench.gates import misses, parse_gate
from dreamseed_cli.bench.result import BenchResult, CellResult, Interval, SuiteResult
from dreamseed_cli.core.errors import UsageError
from dreamseed_cli.estimates.results import Measurement


def missed(gate: str, a: BenchResult | CellResult, b: BenchResult | CellResult) -> tuple[str, ...]:
    """What one gate says of two runs (or of runs of one cell each)."""
    before, after = (one if isinstance(one, BenchResult) else a_run(one) for one in (a, b))
    return misses([parse_gate(gate)], compare(before, after))


@pytest.mark.parametrize(
    ("text", "place", "metric", "above", "limit", "relative"),
    [
        ("ttft.p99>+10%", None, "ttft.p99", True, 10, True),
        ("output_tokens_per_s<-5%", None, "output_tokens_per_s", False, -5, True),
        ("engine/poisson-4:ttft.p99>1500ms", "engine/poisson-4", "ttft.p99", True, 1500, False),
        ("engine/*: itl.p50 > 1.5 s", "engine/*", "itl.p50", True, 1500, False),
        ("slo_attainment<0.99", None, "slo_attainment", False, 0.99, False),
        ("output_tokens_per_s<700tok/s", None, "output_tokens_per_s", False, 700, False),
        ("goodput_per_s<3/s", None, "goodput_per_s", False, 3, False),
        ("energy.joules_per_output_token>4J", None, "energy.joules_per_output_token", True, 4, False),
    ],
)
def test_gates_are_read(
    text: str, place: str | None, metric: str, above: bool, limit: float, relative: bool
) -> None:
    """Place, figure, direction and limit in the figure's unit."""
    gate = parse_gate(text)
    assert (gate.place, gate.metric, gate.above, gate.relative) == (place, metric, above, relative)
    assert gate.limit == pytest.approx(limit)


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("", "it is no bound"),
        ("ttft.p99", "it is no bound"),
        ("ttft.p99>=10ms", "it is no bound"),
        ("ttft.p99>fast", "it is no bound"),
        ("speed<5", "there is no figure 'speed'"),
        ("ttft<5ms", "there is no figure 'ttft'"),
        ("slo_attainment<99%", "without a sign"),
        ("ttft.p99>1500", "'ms' or 's'"),
        ("ttft.p99>+1500ms", "'ms' or 's'"),
        ("slo_attainment<0.99s", "no unit"),
    ],
)
def test_what_is_no_gate_is_refused_with_examples(text: str, cause: str) -> None:
    """And with what is wrong about it."""
    with pytest.raises(UsageError, match=cause) as caught:
        parse_gate(text)
    assert "ttft.p99>+10%" in caught.value.remedy
    assert text in caught.value.place


@pytest.mark.parametrize("metric", METRICS)
def test_every_figure_can_have_a_gate(metric: str) -> None:
    """Relative to the run before."""
    assert parse_gate(f"{metric}>+10%").metric == metric


@pytest.mark.parametrize(
    ("after", "half", "fails"),
    [(600, 20, True), (540, 20, False), (600, 120, False), (560, 20, True), (400, 20, False)],
)
def test_a_relative_gate_needs_a_change_over_the_limit_and_over_chance(
    after: float, half: float, fails: bool
) -> None:
    """500 ms before: 540 is within 10 %, 600 +- 120 may be noise, 560 is 12 % and sure."""
    assert bool(missed("ttft.p99>+10%", a_cell(), a_cell(p99=around(after, half)))) is fails


def test_a_miss_names_gate_cell_and_figures() -> None:
    """For the log of a CI run."""
    (text,) = missed("ttft.p99>+10%", a_cell(), a_cell(p99=around(600, 20)))
    assert text == (
        "ttft.p99>+10%: engine/poisson-4 changed by +20.0 % (+14.3 to +25.7 with 95 % confidence)"
    )


@pytest.mark.parametrize(("after", "fails"), [(699, True), (770, False), (759, True), (900, False)])
def test_a_throughput_gate_looks_down(after: float, fails: bool) -> None:
    """800 tok/s before, 5 % less allowed."""
    assert bool(missed("output_tokens_per_s<-5%", a_cell(), a_cell(tok_s=around(after, 5)))) is fails


@pytest.mark.parametrize(
    ("gate", "fails"),
    [
        ("ttft.p99>501ms", False),
        ("ttft.p99>499ms", True),
        ("slo_attainment<0.999", True),
        ("itl.p50>1ms", True),
    ],
)
def test_an_absolute_gate_takes_the_value_of_the_run_after_as_it_stands(gate: str, fails: bool) -> None:
    """Interval or none. A figure that no cell gives fails, too: nothing was judged."""
    assert bool(missed(gate, a_cell(p99=around(9999, 1)), a_cell())) is fails


def test_a_gate_looks_at_its_cells_alone() -> None:
    """By a pattern of suite and cell."""
    a = a_run(a_cell("poisson-4"), a_cell("streams-8"))
    b = a_run(a_cell("poisson-4"), a_cell("streams-8", p99=around(900, 20)))
    assert not missed("engine/poisson-*:ttft.p99>+10%", a, b)
    assert len(missed("ttft.p99>+10%", a, b)) == 1
    assert missed("engine/poisson-9:ttft.p99>+10%", a, b) == (
        "engine/poisson-9:ttft.p99>+10%: there is no such cell",
    )


def test_an_invalid_run_passes_no_gate() -> None:
    """After: neither kind. Before: there is nothing to be relative to; the absolute gate still is kept."""
    broken = a_cell(problems=BROKEN)
    assert "INVALID (the server saw 3 streams)" in missed("ttft.p99>+10%", a_cell(), broken)[0]
    assert missed("ttft.p99>9s", a_cell(), broken)
    assert missed("ttft.p99>+10%", broken, a_cell())
    assert not missed("ttft.p99>9s", broken, a_cell())


def test_a_figure_that_vanishes_fails() -> None:
    """A p99 among the failures is not given; else breaking every hundredth request would pass the gate."""
    assert "no longer gives it" in missed("ttft.p99>+10%", a_cell(), a_cell(p99=None))[0]
    assert "no longer gives it" in missed("ttft.p99>9s", a_cell(), a_cell(p99=None))[0]


def test_a_cell_that_vanishes_fails_and_a_new_one_does_not() -> None:
    """The new one has nothing to be compared with; an absolute gate judges it."""
    a, b = a_run(a_cell("x"), a_cell("y")), a_run(a_cell("x"), a_cell("z", p99=around(9000, 1)))
    assert missed("ttft.p99>+10%", a, b) == ("ttft.p99>+10%: engine/y is not in the run after",)
    assert [text.split(": ")[1] for text in missed("ttft.p99>1s", a, b)] == [
        "engine/y is not in the run after",
        "engine/z has 9,000 ms",
    ]


def test_simulated_and_measured_pass_no_relative_gate() -> None:
    """They cannot be compared, energy included; what is asked of the run after alone can be judged."""
    b = a_run(a_cell(joules=4.0), provenance="simulated")
    assert "cannot be compared" in missed("ttft.p99>+10%", a_run(), b)[0]
    assert missed("energy.joules_per_output_token>+10%", a_run(a_cell(joules=4.0)), b)
    assert not missed("ttft.p99>9s", a_run(), b)


def test_energy_is_judged_by_its_figure_alone() -> None:
    """It has no interval."""
    gate = "energy.joules_per_output_token>+10%"
    assert not missed(gate, a_cell(joules=4.0), a_cell(joules=4.3))
    assert missed(gate, a_cell(joules=4.0), a_cell(joules=4.5))


def test_a_change_over_the_limit_without_an_interval_is_not_passed_over() -> None:
    """Too few samples to tell it from chance: CI is told, and not let through."""
    bare = a_cell(p99=Interval(value=900.0))
    assert "no interval" in missed("ttft.p99>+10%", a_cell(), bare)[0]
    assert not missed("ttft.p99>+10%", a_cell(), a_cell(p99=Interval(value=510.0)))


def test_from_zero_no_percentage_is_judged() -> None:
    """It asks for an absolute limit; zero and zero again is kept."""
    nothing = a_cell(attainment=Interval(value=0.0, low=0.0, high=0.0))
    assert "absolute" in missed("slo_attainment<-1%", nothing, a_cell())[0]
    assert not missed("slo_attainment<-1%", nothing, nothing)


def test_a_figure_that_is_new_has_nothing_to_be_relative_to() -> None:
    """Of one cell: nothing was judged, which fails. Beside a cell that has it in both it is passed over."""
    assert "no cell gives ttft.p99 in both runs" in missed("ttft.p99>+10%", a_cell(p99=None), a_cell())[0]
    a = a_run(a_cell("x", p99=None), a_cell("y"))
    assert not missed("ttft.p99>+10%", a, a_run(a_cell("x"), a_cell("y")))


def test_all_gates_are_judged() -> None:
    """Not only until the first miss."""
    gates = [parse_gate("ttft.p99>1ms"), parse_gate("ttft.p99>9s"), parse_gate("slo_attainment<1")]
    assert len(misses(gates, compare(a_run(), a_run()))) == 2


@pytest.mark.parametrize(
    ("gate", "fails"),
    [
        ("postgres-read-tps<-5%", True),
        ("db/*:postgres-read-tps<4500", True),
        ("postgres-read-tps<4500 TPS", True),
        ("postgres-read-tps<-30%", False),
        ("postgres-write-tps<-5%", True),
    ],
)
def test_a_figure_of_a_suite_can_have_a_gate(gate: str, fails: bool) -> None:
    """pgbench's have no cells; one that no run gives is no pass."""

    def run(tps: float) -> BenchResult:
        one = Measurement(
            key="postgres-read-tps", value=tps, unit="TPS", provenance="measured", low=tps - 9, high=tps + 9
        )
        return sweep_result(SuiteResult(name="db", headline="h", measurements=(one,)))

    found = misses([parse_gate(gate)], compare(run(5000), run(4000)))
    assert bool(found) is fails
