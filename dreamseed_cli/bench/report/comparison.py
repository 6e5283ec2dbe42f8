"""What `bench compare` shows: a table for each cell, and what a gate found. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from dreamseed_cli.bench.change import CellChange, Change
from dreamseed_cli.bench.compare import Comparison
from dreamseed_cli.bench.report import words
from dreamseed_cli.bench.report.layout import broken
from dreamseed_cli.core.render import wrapped

_STYLES = {"better": "green", "worse": "bold red", "no difference": "dim", "not comparable": "yellow"}

_WITHIN = (
    "Intervals are of chance within each run. How much two runs of the same differ is not in them: "
    "repeat both."
)
_FIGURE, _VERDICT = len("output_tokens_per_s"), len("no difference")


def comparison_view(comparison: Comparison, missed: Sequence[str]) -> list[RenderableType]:
    """Before and after, the change with its 95 % interval, and whether it may be called one."""
    shown: list[RenderableType] = [
        Text.assemble(("before  ", "dim"), comparison.before),
        Text.assemble(("after   ", "dim"), comparison.after),
    ]
    shown += [Text(f"Note: {warning}", "yellow") for warning in comparison.warnings]
    shown.append(wrapped(Text(_WITHIN, "dim")))
    for cell in (*comparison.cells, *comparison.figures):
        shown += _cell(cell)
    shown += [Text(f"missed: {one}", "bold red") for one in missed]
    return shown


def _cell(cell: CellChange) -> Iterator[RenderableType]:
    yield Text(f"\n{cell.place}", "bold")
    if cell.missing is not None:
        yield Text(f"not in the run {cell.missing}", "yellow")
        return
    for which, why in (("before", cell.invalid_before), ("after", cell.invalid_after)):
        if why:
            yield Text(f"INVALID {which}: {why}", "red")
    for warning in cell.warnings:
        yield Text(f"Note: {warning}", "yellow")
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 1, 0, 0))
    table.add_column("figure", width=_FIGURE)
    for head in ("before", "after", "change", "95 % interval"):
        table.add_column(head, justify="right", no_wrap=True)
    table.add_column("verdict", overflow="fold", min_width=_VERDICT)
    for change in cell.changes:
        table.add_row(*_row(change))
    yield table


def _row(change: Change) -> list[Text]:
    percent = change.percent
    interval = f"{_percent(percent.low)} to {_percent(percent.high)}" if percent else words.NOTHING
    verdict = f"{change.verdict}: {change.why}" if change.why else change.verdict
    return [
        Text(broken(f"{change.metric} {change.unit}".strip(), _FIGURE)),
        Text(words.measure(change.before.value if change.before else None)),
        Text(words.measure(change.after.value if change.after else None)),
        Text(_percent(percent.value) if percent else words.NOTHING),
        Text(interval),
        Text(verdict, _STYLES.get(change.verdict, "")),
    ]


def _percent(value: float | None) -> str:
    """`+3.2 %`; an open end of an interval is `?`."""
    return "?" if value is None else f"{value:+.1f} %"
