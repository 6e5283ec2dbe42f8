"""Numbers and loads as a report writes them. Pure."""

from __future__ import annotations

from math import floor, log10, sqrt
from statistics import fmean, stdev
from typing import Any

from dreamseed_cli.bench.records import Ending
from dreamseed_cli.bench.result import BenchResult, CellResult, Interval, Latency, Problem, SuiteResult

NOTHING = "-"
_KINDS = {
    "rate": ("per_s", "rate asked for (requests/s)", "requests/s"),
    "streams": ("count", "concurrency (streams)", "streams"),
    "users": ("count", "users", "users"),
    "replay": ("speed", "replay speed (times)", "times"),
}
"""By the shape's kind: what of it is the load, the axis's label, and the unit."""


def number(value: float | None) -> str:
    """Three digits that matter, thousands set apart: 12,340; 431; 4.31; 0.00431; 0."""
    if value is None:
        return NOTHING
    if value == 0:
        return "0"
    digits = max(0, 2 - floor(log10(abs(value))))
    text = f"{value:,.{digits}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def measure(value: float | None) -> str:
    """As `number`, but with the zeros that tell how exact it is: 4.00 beside 3.96."""
    if value is None or value == 0:
        return number(value)
    return f"{value:,.{max(0, 2 - floor(log10(abs(value))))}f}"


def percent(share: float | None) -> str:
    """A share of one as a percentage: 0.987 is `98.7 %`; it never rounds up to 100 %."""
    if share is None:
        return NOTHING
    rounded = round(share * 100, 1)
    return f"{99.9 if rounded >= 100 > share * 100 else rounded:g} %"


def spread(one: Interval | None) -> str:
    """The 95 % interval: `412-439`; empty where the samples do not give one."""
    if one is None or one.low is None or one.high is None:
        return ""
    return f"{measure(one.low)}-{measure(one.high)}"


def fact(value: Any) -> str:
    """A value of a suite's own table."""
    if value is None:
        return NOTHING
    if isinstance(value, bool):
        return "yes" if value else "no"
    return number(value) if isinstance(value, int | float) else str(value)


def quantile(times: Latency | None, level: str) -> Interval | None:
    """A quantile, or None where there were too few samples for it."""
    return None if times is None else times.quantiles.get(level)


def load_of(cell: CellResult) -> float | None:
    """What a cell's load is measured by: requests/s, streams or users."""
    key = _KINDS.get(kind_of(cell), ("",))[0]
    value = cell.shape.get(key)
    return float(value) if isinstance(value, int | float) else None


def kind_of(cell: CellResult) -> str:
    """`rate`, `streams`, `users` or `replay`, as `shapes.py` tags them."""
    return str(cell.shape.get("type", ""))


def load_words(cell: CellResult) -> str:
    """`8 requests/s`, `16 streams`; the cell's name where the shape is none of ours."""
    value = load_of(cell)
    return cell.name if value is None else f"{number(value)} {_KINDS[kind_of(cell)][2]}"


def axis_label(kind: str) -> str:
    """What stands below an axis of loads."""
    return _KINDS[kind][1]


def stem_of(cell: CellResult) -> str:
    """What a cell's name has before its load: cells of one stem are one sweep (`poisson-4`: `poisson`)."""
    stem, _, tail = cell.name.rpartition("-")
    return stem if stem and tail.replace(".", "", 1).isdigit() else cell.name


def all_problems(result: BenchResult) -> list[tuple[str, Problem]]:
    """Every reason not to believe something, with where: `engine`, or `engine / poisson-8`."""
    found: list[tuple[str, Problem]] = []
    for suite in result.suites:
        found += [(suite.name, problem) for problem in suite.problems]
        found += [(f"{suite.name} / {cell.name}", one) for cell in suite.cells for one in cell.problems]
    return found


def failures(cell: CellResult) -> str:
    """How requests of the window failed, and the commonest reasons; empty if none did."""
    kinds = {ending: count for ending, count in cell.endings.items() if ending != Ending.COMPLETE}
    if not kinds:
        return ""
    told = ", ".join(f"{ending.replace('_', ' ')} {count:,}" for ending, count in kinds.items())
    why = "; ".join(f"{count:,} x {detail}" for detail, count in cell.details.items())
    return f"{sum(kinds.values()):,} of {cell.requests:,} requests: {told}" + (f" ({why})" if why else "")


def notes(suite: SuiteResult) -> dict[str, list[str]]:
    """Each note of a suite's cells once, with the names of those that it belongs to."""
    found: dict[str, list[str]] = {}
    for cell in suite.cells:
        for note in cell.notes:
            found.setdefault(note, []).append(cell.name)
    return found


def windows(cell: CellResult) -> list[tuple[float, float]]:
    """The steady windows on the cell's own time: one, or that of each of its rounds."""
    each = [(one.begin_s + one.window_s[0], one.begin_s + one.window_s[1]) for one in cell.rounds]
    return each or [cell.window_s]


def window_words(cell: CellResult) -> str:
    """`2.25 to 45 s of 51.9 s`; of rounds one after another."""
    spans = ", ".join(f"{number(start)} to {number(end)}" for start, end in windows(cell))
    return f"{spans} s of {number(cell.duration_s)} s"


def rounds(suite: SuiteResult) -> str:
    """How far the rounds of one load lie apart: empty of a suite that was not measured in any."""
    drifts = [
        stdev(times) / fmean(times)
        for cell in suite.cells
        if len(times := [one.tpot_mean_ms for one in cell.rounds if one.tpot_mean_ms]) > 1
    ]
    if not drifts:
        return ""
    many = max(len(cell.rounds) for cell in suite.cells)
    middle, worst = sqrt(fmean(one * one for one in drifts)), max(drifts)
    return (
        f"{many} rounds of each load, from the second on in shuffled order: the time between tokens differs "
        f"by {percent(middle)} between the rounds of one load (standard deviation; at most "
        f"{percent(worst)}), which is the machine's drift and chance"
    )


def overload(cell: CellResult) -> str:
    """How a load over capacity shows, by the seconds of the (last) steady window."""
    start_s, end_s = windows(cell)[-1]
    # A moment tells of the end of its second.
    waiting = [one.in_flight for one in cell.timeline if start_s <= one.t_s + 1 <= end_s]
    grew = f" ({waiting[0]:,} at first, {waiting[-1]:,} in the end)" if waiting else ""
    return (
        f"ever more requests wait or are under way{grew}, and the latencies grow with the length of the cell"
    )


def is_partial(suite: SuiteResult) -> bool:
    """Whether the suite, or any cell of it, was cut short."""
    return suite.partial or any(cell.partial for cell in suite.cells)


def cut(text: str, length: int) -> str:
    """At most so many characters; what was cut off shows as an ellipsis."""
    return text if len(text) <= length else f"{text[: length - 1]}…"
