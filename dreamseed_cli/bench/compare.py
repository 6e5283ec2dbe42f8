"""Two runs side by side: what changed, and whether it is more than chance."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

from dreamseed_cli.bench.change import CellChange, Change, Metric, change_of
from dreamseed_cli.bench.compare_figures import compare_figures, figure_metrics
from dreamseed_cli.bench.result import BenchResult, CellResult, Interval, Latency
from dreamseed_cli.profile.part import Part

SLO_METRICS: Final = ("goodput_per_s", "slo_attainment")


@dataclass(frozen=True, slots=True, kw_only=True)
class CellMetric(Metric):
    """A figure of a cell."""

    of: Callable[[CellResult], Interval | None]


class Comparison(Part):
    """B against A. warnings: what else differs between the runs, and may be the cause of a change.

    figures: suite by suite, those by which the document's are judged.
    """

    before: str
    after: str
    warnings: tuple[str, ...] = ()
    cells: tuple[CellChange, ...] = ()
    figures: tuple[CellChange, ...] = ()


def compare(a: BenchResult, b: BenchResult) -> Comparison:
    """What changed from run A to run B, cell by cell and suite by suite.

    A change is better or worse if the 95 % interval of the difference leaves out zero, else there is no
    difference. That interval comes from those of both values by MOVER (Zou and Donner, Statistics in Medicine
    27, 2008), which is narrower than to ask that the two do not overlap, and no less sure. It is of chance
    within the runs; what differs between two runs of the same is not in it.
    """
    blocked = "" if a.provenance == b.provenance else f"one is {a.provenance}, the other {b.provenance}"
    before, after = _cells(a), _cells(b)
    suites, others = ({suite.name: suite for suite in run.suites} for run in (a, b))
    figures = (
        compare_figures(name, suites.get(name), others.get(name))
        for name in dict.fromkeys([*suites, *others])
    )
    return Comparison(
        before=_label(a),
        after=_label(b),
        warnings=_run_warnings(a, b),
        cells=tuple(
            _compare_cells(place, before.get(place), after.get(place), blocked, same_slo=a.slo == b.slo)
            for place in dict.fromkeys([*before, *after])
        ),
        figures=tuple(one for one in figures if one is not None),
    )


def known_metric(key: str) -> Metric | None:
    """A figure that runs may give, of a cell or of a suite; None if there is none of this name."""
    return METRICS.get(key) or figure_metrics().get(key)


def _latency_metric(name: str, figure: str) -> CellMetric:
    def of(cell: CellResult) -> Interval | None:
        found: Latency | None = getattr(cell, name)
        if found is None:
            return None
        return found.mean if figure == "mean" else found.quantiles.get(figure)

    return CellMetric(key=f"{name}.{figure}", unit="ms", more_is_better=False, of=of)


def _more_metric(key: str, unit: str) -> CellMetric:
    """One of which more is better."""
    return CellMetric(key=key, unit=unit, more_is_better=True, of=lambda cell: getattr(cell, key))


def _energy(cell: CellResult) -> Interval | None:
    joules = cell.energy.joules_per_output_token if cell.energy else None
    return None if joules is None else Interval(value=joules)


METRICS: Final = {
    one.key: one
    for one in (
        *(
            _latency_metric(name, figure)
            for name in ("ttft", "ttft_from_send", "itl", "tpot", "e2e")
            for figure in ("p50", "p90", "p95", "p99", "mean")
        ),
        _more_metric("output_tokens_per_s", "tok/s"),
        _more_metric("total_tokens_per_s", "tok/s"),
        _more_metric("requests_per_s", "/s"),
        _more_metric("goodput_per_s", "/s"),
        _more_metric("slo_attainment", ""),
        CellMetric(
            key="energy.joules_per_output_token",
            unit="J",
            more_is_better=False,
            has_interval=False,
            of=_energy,
        ),
    )
}


def _cells(run: BenchResult) -> dict[tuple[str, str], CellResult]:
    return {(suite.name, cell.name): cell for suite in run.suites for cell in suite.cells}


def _label(run: BenchResult) -> str:
    return f"{run.date}, {run.device}, {run.model} ({run.provenance})"


def _run_warnings(a: BenchResult, b: BenchResult) -> tuple[str, ...]:
    names = ("device", "provenance", "model", "seed", "profile", "target", "slo", "tool")
    told = [
        f"{name} differs: {_say(getattr(a, name))} before, {_say(getattr(b, name))} after"
        for name in names
        if getattr(a, name) != getattr(b, name)
    ]
    told += [f"the run {which} is partial" for which, run in (("before", a), ("after", b)) if run.partial]
    return tuple(told)


def _say(value: object) -> str:
    return "none" if value is None else str(value)


def _compare_cells(
    place: tuple[str, str], a: CellResult | None, b: CellResult | None, blocked: str, *, same_slo: bool
) -> CellChange:
    suite, name = place
    if a is not None and b is not None:
        warnings, unlike = _unlike(a, b)
        blocked = blocked or unlike or _invalid_word(a, "before") or _invalid_word(b, "after")
        missing: Literal["before", "after"] | None = None
    else:
        warnings = ()
        missing = "before" if a is None else "after"
        blocked = f"the cell is not in the run {missing}"
    changes = (
        _change(metric, a, b, blocked or ("" if same_slo or key not in SLO_METRICS else "the SLOs differ"))
        for key, metric in METRICS.items()
    )
    return CellChange(
        suite=suite,
        cell=name,
        missing=missing,
        invalid_before=_reasons(a),
        invalid_after=_reasons(b),
        warnings=warnings,
        changes=tuple(one for one in changes if one is not None),
    )


def _unlike(a: CellResult, b: CellResult) -> tuple[tuple[str, ...], str]:
    """What differs in what was asked, all of it, and the first for the verdict."""
    pairs = (("shape", a.shape, b.shape), ("workload", a.workload, b.workload))
    told = [f"{name} differs: {x} before, {y} after" for name, x, y in pairs if x != y]
    blocked = told[0] if told else ""
    told += [f"the cell {which} is partial" for which, cell in (("before", a), ("after", b)) if cell.partial]
    return tuple(told), blocked


def _reasons(cell: CellResult | None) -> str:
    if cell is None or cell.valid:
        return ""
    return "; ".join(problem.reason for problem in cell.problems) or "no reason is told"


def _invalid_word(cell: CellResult, which: str) -> str:
    return "" if cell.valid else f"INVALID {which}: {_reasons(cell)}"


def _change(metric: CellMetric, a: CellResult | None, b: CellResult | None, blocked: str) -> Change | None:
    before, after = (metric.of(cell) if cell is not None else None for cell in (a, b))
    return change_of(metric, before, after, blocked)
