"""What a month costs: line upon line by the number of users, its band, and what moves it most."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, MaxNLocator

from dreamseed_cli.costsim.decisions.sweep import Row
from dreamseed_cli.costsim.holding import Held
from dreamseed_cli.costsim.report.axes import money_axis, panel, short, users_axis
from dreamseed_cli.costsim.report.words import Money
from dreamseed_cli.costsim.study import Study
from dreamseed_cli.estimates.schema import Book as Figures
from dreamseed_cli.report.plots import PAIR, Key, Plots
from dreamseed_cli.report.svg import BAND, INK, MUTED, SERIES, drawing, inline_svg

_SHOWN = len(SERIES) - 1
"""Lines of the bill with a colour of their own; the rest share one."""
_BARS = 12
_WIDTH = 0.62


def stack_plot(rows: Sequence[Row[Held]], money: Money) -> Plots:
    """A bar for each row, its lines upon each other, §F3's total as a mark beside it."""
    kinds = _kinds(rows)
    places = range(len(rows))
    with drawing():
        figure, axes = panel("A month's bill by number of users", "users", size=(PAIR[0], 3.9))
        below = [0.0] * len(rows)
        for colour, (_, lines) in zip(SERIES, kinds, strict=False):
            heights = [float(sum(row.bill.of(key) for key in lines)) for row in rows]
            axes.bar(places, heights, _WIDTH, bottom=below, color=colour)
            below = [low + height for low, height in zip(below, heights, strict=True)]
        said = [(place, row.point.document.middle) for place, row in enumerate(rows) if row.point.document]
        if said:
            axes.plot(*zip(*said, strict=True), "D", color=INK, markersize=6, linestyle="none", zorder=4)
        axes.set_xticks(list(places), [short(row.point.users) for row in rows])
        axes.grid(visible=False, axis="x")
        money_axis(axes, money)
        told = ", ".join(f"{money.whole(row.bill.usd)} at {row.point.users:,} users" for row in rows)
        svg = inline_svg(figure, name="stack", title="a month's bill by number of users", description=told)
    keys = [Key(f"--s{number}", title, "block") for number, (title, _) in enumerate(kinds, 1)]
    note = "With the cards of §F3's row and the traffic model. The mark is §F3's total (document)."
    return Plots("Cost stack by users", note, [svg], [*keys, Key("--ink", "§F3's total", "mark")])


def band_plot(rows: Sequence[Row[Held]], figures: Figures, money: Money) -> Plots:
    """p5 to p95 of a month over the users, with §F3's totals and the goal."""
    users = [row.point.users for row in rows]
    totals = [row.bands.total for row in rows]
    goal = figures.get("goal-monthly-usd")
    with drawing():
        figure, axes = panel("A month, p5 to p95", "users")
        axes.fill_between(
            users, [float(one.p5) for one in totals], [float(one.p95) for one in totals],
            color=SERIES[0], alpha=0.22, linewidth=0,
        )  # fmt: skip
        axes.plot(users, [float(one.p50) for one in totals], "o-", color=SERIES[0])
        said = [(row.point.users, row.point.document.middle) for row in rows if row.point.document]
        if said:
            axes.plot(*zip(*said, strict=True), "D--", color=SERIES[1], linewidth=1.2)
        axes.axhspan(goal.low, goal.high, color=BAND, zorder=0)
        money_axis(axes, money, logarithmic=True)
        users_axis(axes, users)
        told = ", ".join(
            f"{money.whole(one.p5)} to {money.whole(one.p95)} at {many:,} users"
            for many, one in zip(users, totals, strict=True)
        )
        svg = inline_svg(figure, name="bands", title="p5 to p95 of a month by users", description=told)
        cards = _cards_panel(rows)
    keys = [
        Key("--s1", "ours: p50, the band p5 to p95; cards needed"),
        Key("--s2", "§F3 (document)", "dashed"),
        Key("--band", "the goal, $200 to $500 for 1,000,000 users (document)", "block"),
    ]
    note = f"{rows[0].bands.draws:,} draws from the stated ranges. Cards: for the busiest hour, on average."
    return Plots("Cost bands and cards by users", note, [svg, cards], keys)


def tornado_plot(one: Study, money: Money) -> Plots:
    """A bar for each input, from the bill with it low to the bill with it high."""
    bars = list(one.bars[:_BARS])
    with drawing():
        figure, axes = panel("The bill with one input at its ends", "a month", size=(PAIR[0], 5.6))
        centre = float(one.bill.usd)
        for place, bar in enumerate(bars):
            for value, colour in ((bar.usd_low, SERIES[0]), (bar.usd_high, SERIES[1])):
                axes.add_patch(
                    Rectangle((centre, place - 0.33), float(value) - centre, 0.66, color=colour, linewidth=0)
                )
        ends = [float(value) for bar in bars for value in (bar.usd_low, bar.usd_high)]
        room = (max([*ends, centre]) - min([*ends, centre])) * 0.06 or 1.0
        axes.set_xlim(min([*ends, centre]) - room, max([*ends, centre]) + room)
        axes.set_ylim(len(bars) - 0.4, -0.6)
        axes.axvline(centre, color=MUTED, linewidth=1.0)
        axes.set_yticks(range(len(bars)), [_name(bar.name, bar.low, bar.high) for bar in bars])
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: money.whole(value)))
        axes.grid(visible=False, axis="y")
        told = ", ".join(
            f"{bar.name}: {money.whole(bar.usd_low)} to {money.whole(bar.usd_high)}" for bar in bars
        )
        svg = inline_svg(figure, name="tornado", title="what moves the bill most", description=told)
    keys = [Key("--s1", "at its low end", "block"), Key("--s2", "at its high end", "block")]
    note = "Factors of what is assumed. What was set with --set or in the profile is known and does not vary."
    return Plots("What moves the bill most", note, [svg], keys)


def _kinds(rows: Sequence[Row[Held]]) -> list[tuple[str, list[str]]]:
    """The dearest lines with their titles, and all others together."""
    lines = {line.key: line.title for row in rows for line in row.bill.lines}
    order = sorted(lines, key=lambda key: -max(row.bill.of(key) for row in rows))
    named = [(lines[key], [key]) for key in order[:_SHOWN]]
    rest = order[_SHOWN:]
    return [*named, *([("all else", rest)] if rest else [])]


def _cards_panel(rows: Sequence[Row[Held]]) -> Markup:
    users = [row.point.users for row in rows]
    figure, axes = panel("Cards", "users")
    axes.plot(users, [row.cards_needed for row in rows], "o-", color=SERIES[0])
    said = [(row.point.users, row.point.document.field("cards")) for row in rows if row.point.document]
    if said:
        axes.plot(*zip(*said, strict=True), "D--", color=SERIES[1], linewidth=1.2)
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_locator(MaxNLocator(6, integer=True))
    users_axis(axes, users)
    told = ", ".join(f"{row.cards_needed} at {row.point.users:,} users" for row in rows)
    return inline_svg(figure, name="cards", title="cards needed by users", description=told)


def _name(name: str, low: float, high: float) -> str:
    return f"{name.replace('_', ' ')}\nx {low:g} to x {high:g}"
