"""The figures that judge the document's, suite by suite: those of pgbench and Locust have no cells."""

from __future__ import annotations

from functools import cache
from typing import Final, Literal

from dreamseed_cli.bench.change import CellChange, Change, Metric, change_of
from dreamseed_cli.bench.document import judged_by
from dreamseed_cli.bench.result import Interval, SuiteResult
from dreamseed_cli.estimates.load import load_book
from dreamseed_cli.estimates.results import Measurement

FIGURES: Final = "figures"
"""The place of a suite's figures, as a cell's name is that of its own."""


@cache
def figure_metrics() -> dict[str, Metric]:
    """By the key under which a run gives them. Raises as `load_book`."""
    return {
        key: Metric(key, row.unit, more_is_better=row.better == "higher")
        for key, row in judged_by(load_book()).items()
    }


def compare_figures(name: str, a: SuiteResult | None, b: SuiteResult | None) -> CellChange | None:
    """One suite's in both runs; None where neither gives any."""
    before, after = _given(a), _given(b)
    metrics = [one for key, one in figure_metrics().items() if key in before or key in after]
    if not metrics:
        return None
    missing: Literal["before", "after"] | None = "before" if a is None else "after" if b is None else None
    blocked = f"the suite is not in the run {missing}" if missing is not None else ""
    invalid = _invalid(a), _invalid(b)
    for which, why in zip(("before", "after"), invalid, strict=True):
        blocked = blocked or (f"INVALID {which}: {why}" if why else "")
    changes = (_change(one, before.get(one.key), after.get(one.key), blocked) for one in metrics)
    return CellChange(
        suite=name,
        cell=FIGURES,
        missing=missing,
        invalid_before=invalid[0],
        invalid_after=invalid[1],
        warnings=tuple(
            f"the suite {which} is partial"
            for which, suite in (("before", a), ("after", b))
            if suite is not None and suite.partial
        ),
        changes=tuple(one for one in changes if one is not None),
    )


def _given(suite: SuiteResult | None) -> dict[str, Measurement]:
    return {one.key: one for one in suite.measurements} if suite is not None else {}


def _change(metric: Metric, a: Measurement | None, b: Measurement | None, blocked: str) -> Change | None:
    if a is not None and b is not None and a.provenance != b.provenance:
        blocked = blocked or f"one is {a.provenance}, the other {b.provenance}"
    before, after = (
        Interval(value=one.value, low=one.low, high=one.high) if one is not None else None for one in (a, b)
    )
    return change_of(metric, before, after, blocked)


def _invalid(suite: SuiteResult | None) -> str:
    if suite is None:
        return ""
    found = (*suite.problems, *(one for cell in suite.cells for one in cell.problems))
    return "; ".join(one.reason for one in found)
