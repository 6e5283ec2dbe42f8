"""How busy each hour of a week is: 168 weights, and the same week made as steep as wanted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache

import numpy as np
import numpy.typing as npt

from dreamseed_cli.core.errors import UsageError
from dreamseed_cli.costsim.columns import plain

Floats = npt.NDArray[np.float64]

HOURS = 168
_POWERS = np.concatenate(([0.0], np.geomspace(0.02, 400.0, 300)))
"""Exponents that flatten or sharpen a week: 0 makes every hour alike."""

# An assumption, not a measurement: pupils in Korea (KST) after school and in the evening, at weekends all
# day, most of all on the evening before school begins. One row is a day from 00:00; 1 is the busiest hour.
_WEEKDAY = (
    *(0.28, 0.14, 0.07, 0.04, 0.03, 0.04, 0.08, 0.18, 0.22, 0.20, 0.21, 0.23),
    *(0.30, 0.26, 0.24, 0.28, 0.42, 0.55, 0.58, 0.70, 0.85, 0.93, 0.82, 0.54),
)
_FRIDAY = (
    *(0.28, 0.14, 0.07, 0.04, 0.03, 0.04, 0.08, 0.18, 0.22, 0.20, 0.21, 0.23),
    *(0.30, 0.26, 0.24, 0.27, 0.38, 0.46, 0.46, 0.52, 0.58, 0.62, 0.58, 0.44),
)
_SATURDAY = (
    *(0.32, 0.20, 0.10, 0.05, 0.04, 0.05, 0.08, 0.16, 0.32, 0.50, 0.62, 0.66),
    *(0.60, 0.66, 0.72, 0.74, 0.70, 0.64, 0.58, 0.64, 0.72, 0.76, 0.68, 0.48),
)
_SUNDAY = (
    *(0.32, 0.20, 0.10, 0.05, 0.04, 0.05, 0.07, 0.14, 0.28, 0.46, 0.60, 0.66),
    *(0.62, 0.68, 0.76, 0.80, 0.78, 0.72, 0.68, 0.78, 0.92, 1.00, 0.90, 0.58),
)


@dataclass(frozen=True, slots=True, eq=False)
class Week:
    """A week's curve; hour 0 is Monday, 00:00 to 01:00. Made by `week_of`."""

    weights: Floats
    """Of the busiest hour, which is 1."""
    _steepness: Floats = field(repr=False)
    """Peak over average of each curve below, rising."""
    _curves: Floats = field(repr=False)

    def curve(self, peak_to_average: float) -> Floats:
        """Each hour's share of the busiest, with just that ratio of peak to average; hours first of a column.

        UsageError if this week cannot be as steep. Between two curves the mixture keeps both the peak
        and, since averages mix linearly, the ratio: nothing is solved for, and a call takes microseconds.
        """
        wanted = np.asarray(peak_to_average, dtype=np.float64)
        self._require(wanted)
        if len(self._steepness) == 1:
            return np.ones((HOURS, *wanted.shape), order="F")
        above = self._steepness.searchsorted(wanted).clip(1, len(self._steepness) - 1)
        low, high = self._steepness[above - 1], self._steepness[above]
        share = (1 / low - 1 / wanted) / (1 / low - 1 / high)
        flatter, steeper = self._curves[above - 1], self._curves[above]
        mixed: Floats = flatter + share[..., None] * (steeper - flatter)
        return mixed.T

    def _require(self, wanted: Floats) -> None:
        steepest = self._steepness[-1]
        wrong = wanted[~((wanted >= 1) & (wanted <= steepest))]
        if wrong.size:
            raise UsageError(
                f"the week's busiest hour cannot be {wrong[0]:g} times its average",
                place="peak_to_average",
                remedy=f"Write 1 to {steepest:.4g}, or give a week with a sharper peak.",
            )


def week_of(weights: Sequence[float]) -> Week:
    """A week from 168 weights of any size. UsageError if they are none."""
    given = np.asarray(weights, dtype=np.float64)
    if given.shape != (HOURS,) or not np.isfinite(given).all() or given.min() < 0 or given.max() == 0:
        raise UsageError(
            f"a week is {HOURS} weights that are 0 or more, and not all 0",
            place="week",
            remedy="Write one for every hour, from Monday 00:00.",
        )
    shape = given / given.max()
    curves = shape[None, :] ** _POWERS[:, None]
    steepness = 1 / curves.mean(axis=1)
    # A curve no steeper than the one before adds nothing: past the week's sharpest, or of a flat week.
    used = np.concatenate(([True], np.diff(steepness) > 1e-9))
    return Week(shape, steepness[used], curves[used])


def all_week(figure: float) -> Floats:
    """The same in each hour of a week."""
    return np.full((HOURS, *np.shape(figure)), figure, order="F")


def over_hours(rates: Floats, hours: Floats) -> float:
    """The sum of rates times hours, of one week or of several.

    A draw's hours must lie side by side in memory (Fortran's order): BLAS adds others up in another order,
    and the last digit would not be a single scenario's. Weeks are added one by one, so that a draw without
    exam season has the same sum beside draws with one.
    """
    weeks = [slice(at, at + HOURS) for at in range(0, len(rates), HOURS)]
    total: float = plain(sum(np.vecdot(rates[week].T, hours[week].T) for week in weeks))
    return total


@cache
def default_week() -> Week:
    """The shipped curve of an EdTech service, in Korean time."""
    return week_of((*_WEEKDAY * 4, *_FRIDAY, *_SATURDAY, *_SUNDAY))
