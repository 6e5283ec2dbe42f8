"""What the plots of the page have in common: a panel, and axes of money and of users."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator

from dreamseed_cli.costsim.report.words import Money
from dreamseed_cli.report.plots import PAIR

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def panel(title: str, below: str, *, size: tuple[float, float] = PAIR) -> tuple[Figure, Axes]:
    """An empty panel with its title and what its x axis is."""
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots()
    axes.set_title(title)
    axes.set_xlabel(below)
    return figure, axes


def money_axis(axes: Axes, money: Money, *, logarithmic: bool = False) -> None:
    """Amounts upwards; from zero on unless logarithmic."""
    if logarithmic:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0), numticks=9))
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: money.whole(value)))


def users_axis(axes: Axes, users: Sequence[int]) -> None:
    """A tick at the rows there are, as far as they have room."""
    if users[-1] > users[0]:
        axes.set_xscale("log")
    ticks = users if len(users) <= 6 else users[:: -(-len(users) // 6)]
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))


def whole_ticks(axes: Axes, count: int) -> None:
    """At most so many ticks below, at whole numbers."""
    axes.xaxis.set_major_locator(MaxNLocator(count, integer=True))


def short(users: float) -> str:
    """`500 k`, `1 M`."""
    for unit, size in (("M", 1e6), ("k", 1e3)):
        if users >= size:
            return f"{users / size:g} {unit}"
    return f"{users:g}"
