"""What changed in one figure, and whether it is more than chance."""

from __future__ import annotations

from dataclasses import dataclass
from math import hypot
from typing import Final, Literal

from dreamseed_cli.bench.result import Interval
from dreamseed_cli.profile.part import Part

Verdict = Literal["better", "worse", "no difference", "not comparable"]
NOTHING: Final = 1e-9
"""In any unit: a value below this is no base for a percentage."""
NO_INTERVAL: Final = "there is no interval to tell it from chance"


@dataclass(frozen=True, slots=True)
class Metric:
    """A figure of a run. has_interval: whether runs give its confidence interval at all."""

    key: str
    unit: str
    more_is_better: bool
    has_interval: bool = True


class Change(Part):
    """One figure before and after.

    difference: in the metric's unit, percent: of the value before; a bound of None is not known. Neither is
    told of what is not alike: a change between a measured and a simulated figure is none.
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


def difference(before: Interval, after: Interval) -> Interval:
    """After minus before with its 95 % interval; a bound is None where one that it needs is None."""
    value = after.value - before.value
    low = high = None
    if after.low is not None and before.high is not None:
        low = value - hypot(after.value - after.low, before.high - before.value)
    if after.high is not None and before.low is not None:
        high = value + hypot(after.high - after.value, before.value - before.low)
    return Interval(value=value, low=low, high=high)


def change_of(metric: Metric, before: Interval | None, after: Interval | None, blocked: str) -> Change | None:
    """From one run to the other; None where neither gives it. blocked: why it cannot be compared."""
    if before is None and after is None:
        return None
    shown = Change(metric=metric.key, unit=metric.unit, before=before, after=after, verdict="not comparable")
    if before is None or after is None or blocked:
        why = blocked or f"not given {'before' if before is None else 'after'}"
        return shown.model_copy(update={"why": why})
    gap = difference(before, after)
    verdict, why = _verdict(gap, metric.more_is_better)
    told = {"difference": gap, "percent": _percent(gap, before.value), "verdict": verdict, "why": why}
    return shown.model_copy(update=told)


def _verdict(gap: Interval, more_is_better: bool) -> tuple[Verdict, str]:
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
