"""A run for the terminal: Rich tables that fit 80 columns."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from dreamseed_cli.bench.report import words
from dreamseed_cli.bench.report.layout import WIDTH, blocks, broken
from dreamseed_cli.bench.report.scorecard import ScoreRow, score_row
from dreamseed_cli.bench.result import BenchResult, CellResult, FactTable, Interval, Problem, SuiteResult
from dreamseed_cli.core.render import wrapped
from dreamseed_cli.estimates.verdict import Verdict
from dreamseed_cli.estimates.view import STYLES

_PROVENANCE = {"measured": "green", "simulated": "magenta", "computed": "yellow", "document": "yellow"}
_HEADS = (
    "TTFT\np50 ms",
    "TTFT\np99 ms",
    "TPOT\np50 ms",
    "e2e\np95 ms",
    "out\ntok/s",
    "done\nreq/s",
    "good\nreq/s",
    "in SLO\n%",
)


_NAME = 12
"""A cell's name is broken at its hyphens beyond this, so that the figures have room."""
_FIGURE = 25


def result_view(result: BenchResult, scorecard: Sequence[Verdict]) -> list[RenderableType]:
    """Everything a person wants at the end of a run: suites, problems, and the document's figures last."""
    shown: list[RenderableType] = [_head(result)]
    for suite in result.suites:
        shown += suite_view(suite, result.provenance)
    if scorecard:
        shown += [Text("\nEstimate against measurement", style="bold"), _scorecard(result, scorecard)]
        shown += [_sentence(one) for one in scorecard]
    return shown


def suite_view(suite: SuiteResult, provenance: str) -> list[RenderableType]:
    """One suite: its headline, cells, own tables, and what is wrong with it."""
    title = Text.assemble(f"\n{suite.name}", style="bold")
    if words.is_partial(suite):
        title.append("  PARTIAL: interrupted", style="bold yellow")
    shown: list[RenderableType] = [title, wrapped(Text(suite.headline))]
    if suite.cells:
        shown += [_cells(suite.cells, provenance)]
    shown += [part for table in suite.tables for part in _facts(table)]
    shown += [wrapped(Text(f"missed: {missed}", style="yellow")) for missed in suite.missed]
    shown += _problems(
        [
            *((suite.name, problem) for problem in suite.problems),
            *((cell.name, problem) for cell in suite.cells for problem in cell.problems),
        ]
    )
    shown += [_failed(cell) for cell in suite.cells if words.failures(cell)]
    shown += [_overload(cell) for cell in suite.cells if cell.over_capacity]
    if told := words.rounds(suite):
        shown += [wrapped(Text.assemble(("ROUNDS: ", "bold"), told))]
    shown += [_note(note, names, suite) for note, names in words.notes(suite).items()]
    return shown


def _head(result: BenchResult) -> RenderableType:
    note = f", {result.provenance_note}" if result.provenance_note else ""
    state_word, style = ("VALID", "bold green") if result.valid else ("INVALID", "bold white on red")
    state = Text.assemble(
        (f"{result.provenance.upper()}{note}", f"bold {_PROVENANCE[result.provenance]}"),
        "  ",
        (state_word, style),
    )
    if result.partial:
        state.append("  PARTIAL: interrupted", style="bold yellow")
    if any(suite.missed for suite in result.suites):
        state.append("  TARGET MISSED", style="bold yellow")
    lines = Table.grid()
    lines.add_column(overflow="fold")
    lines.add_row(Text(f"{result.model} on {result.device}", style="bold"))
    lines.add_row(state)
    return wrapped(lines)


def _cells(cells: Sequence[CellResult], provenance: str) -> Table:
    """A line a cell; a unit stands in each column's head."""
    table = _table()
    names = [broken(cell.name, _NAME) for cell in cells]
    longest = max(len(line) for name in names for line in name.split("\n"))
    table.add_column(Text(f"load\n{provenance}"), overflow="fold", min_width=min(longest, _NAME))
    for head in _HEADS:
        table.add_column(head, justify="right", no_wrap=True)
    table.add_column("\nvalid")
    for cell, name in zip(cells, names, strict=True):
        table.add_row(Text(name), *_cell_row(cell), style=None if cell.valid else "red")
    return table


def _cell_row(cell: CellResult) -> list[Text]:
    times = (
        words.quantile(cell.ttft, "p50"), words.quantile(cell.ttft, "p99"), words.quantile(cell.tpot, "p50"),
        words.quantile(cell.e2e, "p95"),
    )  # fmt: skip
    speeds = (cell.output_tokens_per_s, cell.requests_per_s, cell.goodput_per_s)
    valid = ("over" if cell.over_capacity else "yes") if cell.valid else "NO"
    return [
        *(_value(one) for one in (*times, *speeds)),
        Text(words.percent(cell.slo_attainment.value).removesuffix(" %")),
        Text(f"{valid},\npart" if cell.partial else valid, style="" if cell.valid else "bold red"),
    ]


def _facts(table: FactTable) -> list[RenderableType]:
    """A table that is too wide becomes several, each with the first column."""
    title = Text.assemble(f"{table.title} ", (table.provenance, _PROVENANCE[table.provenance]))
    shown: list[RenderableType] = ["", wrapped(title)]
    for block in blocks(table):
        part = _table()
        for laid in block:
            column = laid.column
            part.add_column(
                Text(f"{column.label}\n{column.unit}" if column.unit else column.label),
                justify="right" if laid.number and laid is not block[0] else "left",
                overflow="fold",
                width=laid.width,
            )
        for row in table.rows:
            part.add_row(*(Text(broken(words.fact(row.get(one.column.key)), one.width)) for one in block))
        shown += [*([""] if len(shown) > 2 else []), part]
    return shown


def _problems(found: Sequence[tuple[str, Problem]]) -> list[RenderableType]:
    """What is wrong with what, and below those that it mends what to do."""
    shown: list[RenderableType] = []
    for number, (place, problem) in enumerate(found, start=1):
        shown += [wrapped(Text.assemble((f"INVALID {place}: ", "bold red"), (f"{problem.reason}.", "red")))]
        if number == len(found) or found[number][1].remedy != problem.remedy:
            shown += [wrapped(Text(problem.remedy))]
    return shown


def _failed(cell: CellResult) -> RenderableType:
    return wrapped(Text.assemble((f"FAILED {cell.name}: ", "bold yellow"), words.failures(cell)))


def _overload(cell: CellResult) -> RenderableType:
    return wrapped(Text.assemble((f"OVER CAPACITY {cell.name}: ", "bold yellow"), words.overload(cell)))


def _note(note: str, names: Sequence[str], suite: SuiteResult) -> RenderableType:
    every = 1 < len(names) == len(suite.cells)
    return wrapped(Text.assemble((f"NOTE {'every cell' if every else ', '.join(names)}: ", "bold"), note))


def _scorecard(result: BenchResult, scorecard: Sequence[Verdict]) -> Table:
    table = _table()
    table.add_column("figure", overflow="fold", width=_FIGURE)
    table.add_column("document", overflow="fold", ratio=3)
    table.add_column("this run", overflow="fold", ratio=4)
    table.add_column("verdict", overflow="fold", ratio=3)
    table.expand, table.width = True, WIDTH
    for row in (score_row(result, one) for one in scorecard):
        table.add_row(*_score(row))
    return table


def _sentence(verdict: Verdict) -> RenderableType:
    """How a verdict comes about."""
    return wrapped(Text.assemble((f"{verdict.estimate.id}: ", "bold"), (verdict.sentence, "dim")))


def _score(row: ScoreRow) -> list[Text]:
    estimate = row.verdict.estimate
    return [
        Text.assemble(
            (broken(estimate.id, _FIGURE), "bold"), f" §{estimate.section}\n", (estimate.quantity, "dim")
        ),
        Text(row.document),
        Text.assemble(
            row.found,
            f"\n{row.spread}" if row.spread else "",
            "\n",
            (row.provenance, _PROVENANCE.get(row.provenance, "")),
        ),
        Text(row.word, style=STYLES[row.verdict.word]),
    ]


def _table() -> Table:
    return Table(box=None, pad_edge=False, header_style="dim", padding=(0, 1, 0, 0))


def _value(one: Interval | None) -> Text:
    return Text(words.measure(None if one is None else one.value))
