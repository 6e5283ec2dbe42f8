"""Plots over the load: throughput, latency, and the balance between replicas. One small SVG each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from markupsafe import Markup
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator

from dreamseed_cli.bench.report.words import axis_label, cut, load_of, number, quantile
from dreamseed_cli.bench.result import CellResult, Interval, Latency, Slo
from dreamseed_cli.report.plots import PAIR, PANEL, Key, Plots
from dreamseed_cli.report.svg import BAD, MUTED, SERIES, drawing, inline_svg

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LEVELS = ("p50", "p95", "p99")
_WIDE = 6.0
"""From this ratio of the largest to the smallest on, an axis is logarithmic."""
_BAR = 0.3


def throughput_plots(name: str, cells: Sequence[CellResult], kind: str) -> Plots:
    """Output tokens and requests a second over the load, each with its 95 % interval."""
    quantities = (
        ("output", "tok/s", [cell.output_tokens_per_s for cell in cells]),
        ("requests", "requests/s", [cell.requests_per_s for cell in cells]),
    )
    goodput = [cell.goodput_per_s for cell in cells]
    panels = []
    with drawing():
        for part, unit, values in quantities:
            figure, axes = _panel(f"{part.capitalize()} ({unit})", axis_label(kind), size=PAIR)
            _line(axes, cells, values, SERIES[0])
            if part == "requests":
                _line(axes, cells, goodput, SERIES[2], dashes=(4, 2))
            _value_axis(axes, ())
            _load_axis(axes, cells)
            title = f"{part} in {unit} over the {axis_label(kind)}"
            panels.append(
                inline_svg(figure, name=f"{name}-{part}", title=title, description=_told(cells, values, unit))
            )
    keys = [Key("--s1", "output, requests"), Key("--s3", "goodput: requests that kept the SLO", "dashed")]
    return Plots("Throughput against load", _BARS, panels, [*keys, *_invalid_key(cells)])


def latency_plots(name: str, cells: Sequence[CellResult], kind: str, slo: Slo) -> Plots:
    """TTFT, TPOT and end-to-end latency over the load: median, p95 and p99 where there are enough samples."""
    quantities = (
        ("TTFT", [cell.ttft for cell in cells], slo.ttft_ms),
        ("TPOT", [cell.tpot for cell in cells], slo.tpot_ms),
        ("End to end", [cell.e2e for cell in cells], None),
    )
    panels = []
    with drawing():
        for quantity, times, limit in quantities:
            if any(times):
                part = quantity.split()[0].lower()
                panels.append(_latency_panel(f"{name}-{part}", quantity, cells, times, kind, limit))
    keys = [Key(f"--s{number}", level) for number, level in enumerate(LEVELS, 1)]
    keys.append(Key("--muted", "the SLO's limit", "dashed"))
    note = f"From the scheduled time on. {_BARS}"
    return Plots("Latency against load", note, panels, [*keys, *_invalid_key(cells)])


def balance_plots(name: str, cells: Sequence[CellResult]) -> Plots | None:
    """Output of each replica, a bar each, a panel for every cell; None where there is but one replica."""
    shared = [cell for cell in cells if len(cell.replicas) > 1]
    if not shared:
        return None
    names = sorted({replica for cell in shared for replica in cell.replicas})
    colours = {replica: SERIES[place % len(SERIES)] for place, replica in enumerate(names)}
    size = (PANEL[0], 0.75 + _BAR * max(len(cell.replicas) for cell in shared))
    panels = []
    with drawing():
        for place, cell in enumerate(shared):
            replicas = sorted(cell.replicas)
            values = [cell.replicas[replica].output_tokens_per_s for replica in replicas]
            figure, axes = _panel(cut(cell.name, 44), "output (tok/s)", size=size)
            bars = axes.barh(
                [cut(replica, 18) for replica in replicas],
                values,
                color=[colours[replica] for replica in replicas],
                height=0.66,
            )
            axes.bar_label(bars, labels=[number(value) for value in values], padding=4, fontsize=9)
            axes.set_xlim(0, max(values, default=0) * 1.16 or 1)
            axes.xaxis.set_major_locator(MaxNLocator(5))
            axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: number(value)))
            axes.grid(visible=False, axis="y")
            axes.invert_yaxis()
            told = ", ".join(
                f"{replica} {number(value)} tok/s" for replica, value in zip(replicas, values, strict=True)
            )
            panels.append(
                inline_svg(
                    figure,
                    name=f"{name}-balance-{place}",
                    title=f"output of each replica in tok/s, {cell.name}",
                    description=told,
                )
            )
    return Plots("Balance between replicas", "Output of each engine in the steady window.", panels)


def _latency_panel(
    name: str,
    quantity: str,
    cells: Sequence[CellResult],
    times: Sequence[Latency | None],
    kind: str,
    limit: float | None,
) -> Markup:
    figure, axes = _panel(f"{quantity} (ms)", axis_label(kind))
    told = []
    shown: list[float] = []
    for level, colour in zip(LEVELS, SERIES, strict=False):
        values = [quantile(one, level) for one in times]
        _line(axes, cells, values, colour)
        shown += [one.value for one in values if one is not None]
        told.append(f"{level}: {_told(cells, values, 'ms')}")
    if limit is not None and shown and limit <= 3 * max(shown):
        axes.axhline(limit, color=MUTED, linewidth=1.2, dashes=(3, 3))
        shown.append(limit)
    _value_axis(axes, shown)
    _load_axis(axes, cells)
    title = f"{quantity} in ms over the {axis_label(kind)}"
    return inline_svg(figure, name=name, title=title, description="; ".join(told))


def _panel(title: str, below: str, *, size: tuple[float, float] = PANEL) -> tuple[Figure, Axes]:
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots()
    axes.set_title(title)
    axes.set_xlabel(below)
    return figure, axes


def _line(
    axes: Axes,
    cells: Sequence[CellResult],
    values: Sequence[Interval | None],
    colour: str,
    dashes: tuple[int, int] | None = None,
) -> None:
    """One quantity over the load; a cross stands where the cell is invalid."""
    points = _points(cells, values)
    if not points:
        return
    loads, heights = [load for load, _, _ in points], [value.value for _, value, _ in points]
    errors = [
        [value.value - value.low if value.low is not None else 0.0 for _, value, _ in points],
        [value.high - value.value if value.high is not None else 0.0 for _, value, _ in points],
    ]
    axes.errorbar(
        loads, heights, yerr=errors, color=colour, capsize=2.5, elinewidth=1.1, dashes=dashes or (None, None)
    )
    for good, marker, shade, size in ((True, "o", colour, 4.5), (False, "X", BAD, 7.5)):
        chosen = [(load, value.value) for load, value, valid in points if valid is good]
        if chosen:
            axes.plot(
                *zip(*chosen, strict=True), marker, color=shade, markersize=size, markeredgewidth=0, zorder=4
            )


def _points(
    cells: Sequence[CellResult], values: Sequence[Interval | None]
) -> list[tuple[float, Interval, bool]]:
    """Load, value and validity of the cells that have both, by the load."""
    found = [
        (load, value, cell.valid)
        for cell, value in zip(cells, values, strict=True)
        if (load := load_of(cell)) is not None and value is not None
    ]
    return sorted(found, key=lambda point: point[0])


def _load_axis(axes: Axes, cells: Sequence[CellResult]) -> None:
    """A tick at the loads that were measured, as far as they have room."""
    loads = sorted({load for cell in cells if (load := load_of(cell)) is not None})
    if loads[0] > 0 and loads[-1] / loads[0] >= _WIDE and len(loads) > 3:
        axes.set_xscale("log")
    ticks = loads if len(loads) <= 8 else loads[:: -(-len(loads) // 8)]
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: number(value)))


def _value_axis(axes: Axes, shown: Sequence[float]) -> None:
    """Logarithmic where values differ much, else from zero on."""
    positive = [value for value in shown if value > 0]
    if positive and max(positive) / min(positive) >= 5 * _WIDE:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0), numticks=9))
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.yaxis.set_minor_locator(NullLocator())
    else:
        axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: number(value)))


def _told(cells: Sequence[CellResult], values: Sequence[Interval | None], unit: str) -> str:
    """The points in words, for who cannot see them."""
    points = [f"{number(value.value)} {unit} at {number(load)}" for load, value, _ in _points(cells, values)]
    return ", ".join(points) or "no values"


def _invalid_key(cells: Sequence[CellResult]) -> list[Key]:
    return [] if all(cell.valid for cell in cells) else [Key("--bad", "INVALID: not to be believed", "cross")]


_BARS = "Bars are 95 % confidence intervals."
