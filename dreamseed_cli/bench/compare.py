"""Two runs side by side: what changed, and whether it is more than chance."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import hypot
from typing import Final, Literal

from dreamseed_cli.bench.result import BenchResult, CellResult, Interval, Latency
from dreamseed_cli.profile.part import Part

Verdict = Literal["better", "worse", "no difference", "not comparable"]
SLO_METRICS: Final = ("goodput_per_s", "slo_attainment")
NOTHING: Final = 1e-9
"""In any unit: a value below this is no base for a percentage."""
NO_INTERVAL: Final = "there is no interval to tell it from chance"


@dataclass(frozen=True, slots=True)
class Metric:
    """A figure of a cell. has_interval: whether runs give its confidence interval at all."""

    key: str
    unit: str
    more_is_better: bool
    of: Callable[[CellResult], Interval | None]
    has_interval: bool = True


class Change(Part):
    """One figure before and after.

    difference: in the metric's unit, percent: of the value before; a bound of None is not known.
    """

    metric: str
    unit: str
    before: Interval | None
    after: Interval | None
    difference: Interval | None = None
    percent: Interval | None = None
    verdict: Verdict
    why: str = ""
    """Why it is not comparable."""


class CellChange(Part):
    """One cell, matched by suite and name."""

    suite: str
    cell: str
    missing: Literal["before", "after"] | None = None
    """The run that does not have it."""
    invalid_before: str = ""
    invalid_after: str = ""
    """Why the cell is INVALID in that run: its figures are shown, and judged by no gate."""
    warnings: tuple[str, ...] = ()
    changes: tuple[Change, ...] = ()

    @property
    def place(self) -> str:
        return f"{self.suite}/{self.cell}"

    def change(self, metric: str) -> Change | None:
        """That metric's change; None where neither run has the figure."""
        return next((one for one in self.changes if one.metric == metric), None)


class Comparison(Part):
    """B against A. warnings: what else differs between the runs, and may be the cause of a change."""

    before: str
    after: str
    warnings: tuple[str, ...] = ()
    cells: tuple[CellChange, ...] = ()


def compare(a: BenchResult, b: BenchResult) -> Comparison:
    """What changed from run A to run B, cell by cell.

    A change is better or worse if the 95 % interval of the difference leaves out zero, else there is no
    difference. That interval comes from those of both values by MOVER (Zou and Donner, Statistics in Medicine
    27, 2008), which is narrower than to ask that the two do not overlap, and no less sure.
    """
    blocked = "" if a.provenance == b.provenance else f"one is {a.provenance}, the other {b.provenance}"
    before, after = _cells(a), _cells(b)
    return Comparison(
        before=_label(a),
        after=_label(b),
        warnings=_run_warnings(a, b),
        cells=tuple(
            _compare_cells(place, before.get(place), after.get(place), blocked, same_slo=a.slo == b.slo)
            for place in dict.fromkeys([*before, *after])
        ),
    )


def difference(before: Interval, after: Interval) -> Interval:
    """After minus before with its 95 % interval; a bound is None where one that it needs is None."""
    value = after.value - before.value
    low = high = None
    if after.low is not None and before.high is not None:
        low = value - hypot(after.value - after.low, before.high - before.value)
    if after.high is not None and before.low is not None:
        high = value + hypot(after.high - after.value, before.value - before.low)
    return Interval(value=value, low=low, high=high)


def _latency_metric(name: str, figure: str) -> Metric:
    def of(cell: CellResult) -> Interval | None:
        found: Latency | None = getattr(cell, name)
        if found is None:
            return None
        return found.mean if figure == "mean" else found.quantiles.get(figure)

    return Metric(f"{name}.{figure}", "ms", more_is_better=False, of=of)


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
        Metric("output_tokens_per_s", "tok/s", True, lambda cell: cell.output_tokens_per_s),
        Metric("total_tokens_per_s", "tok/s", True, lambda cell: cell.total_tokens_per_s),
        Metric("requests_per_s", "/s", True, lambda cell: cell.requests_per_s),
        Metric("goodput_per_s", "/s", True, lambda cell: cell.goodput_per_s),
        Metric("slo_attainment", "", True, lambda cell: cell.slo_attainment),
        Metric("energy.joules_per_output_token", "J", False, _energy, has_interval=False),
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


def _change(metric: Metric, a: CellResult | None, b: CellResult | None, blocked: str) -> Change | None:
    before = metric.of(a) if a is not None else None
    after = metric.of(b) if b is not None else None
    if before is None and after is None:
        return None
    both = before is not None and after is not None
    gap = difference(before, after) if before is not None and after is not None else None
    verdict, why = _verdict(gap, metric.more_is_better)
    if blocked or not both:
        verdict, why = "not comparable", blocked or f"not given {'before' if before is None else 'after'}"
    return Change(
        metric=metric.key,
        unit=metric.unit,
        before=before,
        after=after,
        difference=gap,
        percent=_percent(gap, before.value) if gap is not None and before is not None else None,
        verdict=verdict,
        why=why,
    )


def _verdict(gap: Interval | None, more_is_better: bool) -> tuple[Verdict, str]:
    if gap is None:
        return "not comparable", ""
    if gap.low is not None and gap.low > 0:
        return ("better" if more_is_better else "worse"), ""
    if gap.high is not None and gap.high < 0:
        return ("worse" if more_is_better else "better"), ""
    if gap.low is None or gap.high is None:
        return "not comparable", NO_INTERVAL
    return "no difference", ""


def _percent(gap: Interval, base: float) -> Interval | None:
    if abs(base) < NOTHING:
        return None
    scale = 100 / abs(base)
    return Interval(
        value=gap.value * scale,
        low=None if gap.low is None else gap.low * scale,
        high=None if gap.high is None else gap.high * scale,
    )
