"""The plots of a drill's page: its timeline, and RPO and RTO over the drills so far."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Final

from markupsafe import Markup
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from dreamseed_cli.drill.record import DrillRecord
from dreamseed_cli.drill.timeline import Event, Step
from dreamseed_cli.drill.words import duration
from dreamseed_cli.report.plots import PAIR, Key, Plots
from dreamseed_cli.report.svg import BAD, BAND, INK, SERIES, drawing, inline_svg

_ROW: Final = 0.34
"""Inches that a step takes."""


def timeline_plot(record: DrillRecord) -> Plots:
    """Each step as a bar up to the next; the band is what RTO counts."""
    events = list(record.events)
    with drawing():
        figure = Figure(figsize=(PAIR[0], 1.1 + _ROW * len(events)), layout="constrained")
        axes = figure.subplots()
        axes.set_title("From the beginning to the end")
        axes.set_xlabel("seconds since the drill began")
        loss, answered = _at(events, Step.LOSS), _at(events, Step.ANSWERED)
        if loss is not None:
            axes.axvspan(loss, answered if answered is not None else events[-1].at_s, color=BAND, zorder=0)
            axes.axvline(loss, color=BAD, linewidth=1.4)
        for place, (event, following) in enumerate(pairwise([*events, events[-1]])):
            axes.barh(place, following.at_s - event.at_s, left=event.at_s, height=0.5, color=SERIES[0])
            axes.plot([event.at_s], [place], "o", color=INK, markersize=4)
        axes.set_yticks(range(len(events)), [event.step for event in events])
        axes.invert_yaxis()
        axes.grid(visible=False, axis="y")
        axes.set_xlim(0, 1.02 * events[-1].at_s or 1.0)
        told = ", ".join(f"{event.step} at {event.at_s:.1f} s" for event in events)
        svg = inline_svg(figure, name="timeline", title="the drill's timeline", description=told)
    keys = [
        Key("--s1", "a step, until the next begins"),
        Key("--bad", "the loss"),
        Key("--band", "what RTO counts: from the loss to the first verified answer", "block"),
    ]
    return Plots("Timeline", "Seconds of a clock that nobody sets.", [svg], keys)


def trend_plot(records: Sequence[DrillRecord]) -> Plots | None:
    """RPO and RTO of one scenario's drills, oldest first; None for fewer than two."""
    if len(records) < 2:
        return None
    targets = records[-1].targets
    with drawing():
        panels = [
            _trend("rpo", "RPO", [one.rpo_s for one in records], targets.rpo_s),
            _trend("rto", "RTO", [one.rto_s for one in records], targets.rto_s),
        ]
    note = "One point a drill, oldest on the left; a gap: it was never reached. Targets are told, not drawn,"
    note += " where they lie far above."
    return Plots("Trend", note, panels, [Key("--s1", "measured"), Key("--bad", "the target", "dashed")])


def _trend(name: str, title: str, values: Sequence[float | None], target: float) -> Markup:
    figure = Figure(figsize=PAIR, layout="constrained")
    axes = figure.subplots()
    known = [value for value in values if value is not None]
    axes.set_title(f"{title}, target {duration(target)}")
    axes.set_xlabel("drill")
    axes.set_ylabel("seconds")
    places = range(1, len(values) + 1)
    axes.plot(places, [float("nan") if one is None else one for one in values], "o-", color=SERIES[0])
    most = max(known, default=target)
    if target < 3 * most:
        axes.axhline(target, color=BAD, linestyle="--", linewidth=1.2)
    axes.set_ylim(0, 1.15 * max(most, target if target < 3 * most else 0.0, 1e-3))
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    told = ", ".join(duration(one) for one in values)
    return inline_svg(figure, name=name, title=f"{title} by drill", description=told)


def _at(events: Sequence[Event], step: Step) -> float | None:
    return next((event.at_s for event in events if event.step is step), None)
