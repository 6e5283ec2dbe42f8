"""Plots of cells: how their latencies are distributed, and how each went second by second."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf, isnan, nan
from typing import TYPE_CHECKING, TypeVar

from markupsafe import Markup
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from dreamseed_cli.bench.report.words import cut, number, window_words, windows
from dreamseed_cli.bench.result import CellResult
from dreamseed_cli.report.plots import PAIR, PANEL, Key, Plots
from dreamseed_cli.report.svg import BAD, BAND, SERIES, drawing, inline_svg

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_T = TypeVar("_T")
_DASHES = ((None, None), (5, 2), (1.5, 1.5))
_QUANTITIES = {"ttft": "TTFT", "itl": "ITL", "tpot": "TPOT", "e2e": "End to end"}
_MARGINS = {"left": 0.125, "right": 0.985, "top": 0.945, "bottom": 0.105, "hspace": 0.5}
"""Of a timeline, with room for `123,456`: laying them out by their labels takes twice the time."""
_POINTS = 100
"""Of a line at most: more are not seen."""


def cdf_plots(name: str, cells: Sequence[CellResult]) -> Plots | None:
    """The share of requests at or below each latency, a line for every cell; None without any."""
    panels = []
    with drawing():
        for quantity, label in _QUANTITIES.items():
            drawn = [
                (place, cell) for place, cell in enumerate(cells) if len(cell.cdfs.get(quantity, ())) > 1
            ]
            if drawn:
                panels.append(_cdf_panel(f"{name}-cdf-{quantity}", quantity, label, drawn))
    if not panels:
        return None
    keys = [
        Key(f"--s{place % len(SERIES) + 1}", cell.name, "line" if place < len(SERIES) else "dashed")
        for place, cell in enumerate(cells)
        if cell.cdfs
    ]
    return Plots("Distribution of latencies", "The share of requests at or below a latency.", panels, keys)


def timeline_plot(name: str, cell: CellResult) -> Markup | None:
    """In flight, tok/s, TTFT and failures over the seconds of a cell; its steady window is shaded."""
    moments = _thinned(cell.timeline)
    if len(moments) < 2:
        return None
    seconds = [one.t_s for one in moments]
    rows: list[tuple[str, list[float], str]] = [
        ("in flight (requests)", [float(one.in_flight) for one in moments], SERIES[0]),
        ("output (tok/s)", [one.output_tokens_per_s for one in moments], SERIES[2]),
        ("TTFT p50 (ms)", [_or_gap(one.ttft_p50_ms) for one in moments], SERIES[1]),
    ]
    step = max(1, -(-len(cell.timeline) // _POINTS))
    slices = [cell.timeline[begin : begin + step] for begin in range(0, len(cell.timeline), step)]
    failed = [sum(one.failed for one in part) for part in slices]
    with drawing():
        figure = Figure(figsize=(PANEL[0], 4.3))
        figure.subplots_adjust(**_MARGINS)
        strips = figure.subplots(4, 1, sharex=True, gridspec_kw={"height_ratios": [3, 3, 3, 1.3]})
        for axes, (label, values, colour) in zip(strips, rows, strict=False):
            axes.plot(seconds, values, color=colour, linewidth=1.4)
            _strip(axes, label, cell, top=max((value for value in values if not isnan(value)), default=0.0))
        bad = [(part[0].t_s, count) for part, count in zip(slices, failed, strict=True) if count]
        if bad:
            strips[3].bar(*zip(*bad, strict=True), width=seconds[1] - seconds[0], color=BAD)
        _strip(strips[3], "failed (requests)", cell, top=float(max(1, *failed)))
        strips[3].set_xlabel("seconds since the cell's start")
        return inline_svg(
            figure,
            name=f"{name}-timeline",
            title=f"{cell.name} second by second: in flight, tok/s, TTFT p50 in ms, failures",
            description=f"at most {max(one.in_flight for one in cell.timeline)} in flight, "
            f"{sum(failed)} failed; steady from {window_words(cell)}",
        )


def _cdf_panel(name: str, quantity: str, label: str, drawn: Sequence[tuple[int, CellResult]]) -> Markup:
    figure = Figure(figsize=PAIR, layout="constrained")
    axes = figure.subplots()
    axes.set_title(label)
    axes.set_xlabel("ms")
    axes.set_ylabel("requests (%)" if quantity != "itl" else "gaps (%)")
    lowest, highest = inf, 0.0
    for place, cell in drawn:
        points = _thinned(cell.cdfs[quantity])
        times = [milliseconds for milliseconds, _ in points]
        lowest, highest = min(lowest, times[0]), max(highest, times[-1])
        axes.plot(
            times,
            [share * 100 for _, share in points],
            color=SERIES[place % len(SERIES)],
            dashes=_DASHES[place // len(SERIES) % len(_DASHES)],
            linewidth=1.5,
        )
    if lowest > 0 and highest / lowest > 12:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0,) if highest / lowest > 300 else (1.0, 3.0)))
        axes.xaxis.set_minor_locator(NullLocator())
    else:
        axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: number(value)))
    axes.set_ylim(0, 101)
    names = ", ".join(cell.name for _, cell in drawn)
    return inline_svg(
        figure,
        name=name,
        title=f"{label} in ms: share of requests at or below",
        description=f"cells: {names}",
    )


def _strip(axes: Axes, label: str, cell: CellResult, *, top: float) -> None:
    for window in windows(cell):
        axes.axvspan(*window, color=BAND, linewidth=0, zorder=0)
    axes.set_title(cut(label, 40), fontsize=9, fontweight="normal", pad=3)
    axes.set_ylim(0, top * 1.12 or 1)
    axes.yaxis.set_major_locator(MaxNLocator(3, integer=top >= 3 or label.startswith("failed")))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: number(value)))
    axes.set_xlim(cell.timeline[0].t_s, cell.timeline[-1].t_s)


def _or_gap(value: float | None) -> float:
    """Not a number where there is none: the line has a gap there."""
    return nan if value is None else value


def _thinned(points: Sequence[_T]) -> Sequence[_T]:
    """Every nth, and always the last."""
    step = -(-len(points) // _POINTS)
    return points if step <= 1 else [*points[:-1:step], points[-1]]
