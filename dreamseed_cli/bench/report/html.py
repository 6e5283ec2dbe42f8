"""The whole run as one page that needs nothing else: no network, no script, no font."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from jinja2 import Environment

from dreamseed_cli.bench.report import words
from dreamseed_cli.bench.report.cell_plots import cdf_plots, timeline_plot
from dreamseed_cli.bench.report.plots import balance_plots, latency_plots, throughput_plots
from dreamseed_cli.bench.report.scorecard import score_row
from dreamseed_cli.bench.result import BenchResult, CellResult, SuiteResult
from dreamseed_cli.estimates.verdict import Verdict
from dreamseed_cli.report.page import environment
from dreamseed_cli.report.plots import Plots


@dataclass(frozen=True)
class SuiteView:
    """A suite with what is drawn of it. best: of its cells, the valid one with the most goodput."""

    name: str
    suite: SuiteResult
    plots: Sequence[Plots]
    best: CellResult | None

    @property
    def valid(self) -> bool:
        return not self.suite.problems and all(cell.valid for cell in self.suite.cells)

    @property
    def partial(self) -> bool:
        return words.is_partial(self.suite)

    @property
    def energy(self) -> list[CellResult]:
        return [cell for cell in self.suite.cells if cell.energy is not None]


def html_page(result: BenchResult, scorecard: Sequence[Verdict]) -> str:
    """The report as HTML. What servers and models call themselves is escaped."""
    page = _environment().get_template("page.html.j2")
    return page.render(
        result=result,
        suites=[_suite(place, suite, result) for place, suite in enumerate(result.suites)],
        problems=words.all_problems(result),
        partial=result.partial or any(words.is_partial(suite) for suite in result.suites),
        scorecard=[score_row(result, one) for one in scorecard],
        provenance=result.provenance,
    )


def best_cell(suite: SuiteResult) -> CellResult | None:
    """The valid cell with the most goodput; None if no cell is valid."""
    good = [cell for cell in suite.cells if cell.valid]
    return max(good, key=lambda cell: cell.goodput_per_s.value, default=None)


def _suite(place: int, suite: SuiteResult, result: BenchResult) -> SuiteView:
    name = f"s{place}"
    return SuiteView(name, suite, _plots(name, suite, result), best_cell(suite))


def _plots(name: str, suite: SuiteResult, result: BenchResult) -> list[Plots]:
    """All panels of a suite: over the load where several loads were measured, then cell by cell."""
    found: list[Plots | None] = []
    for place, cells in enumerate(_sweeps(suite.cells)):
        kind, sweep = words.kind_of(cells[0]), f"{name}-{place}"
        found.append(throughput_plots(sweep, cells, kind))
        found.append(latency_plots(sweep, cells, kind, result.slo))
    found.append(cdf_plots(name, suite.cells))
    found.append(balance_plots(name, suite.cells))
    timelines = [timeline_plot(f"{name}-{place}", cell) for place, cell in enumerate(suite.cells)]
    drawn = [
        (cell, timeline)
        for cell, timeline in zip(suite.cells, timelines, strict=True)
        if timeline is not None
    ]
    if drawn:
        found.append(
            Plots(
                "Second by second",
                "The steady window, from which every figure comes, is shaded.",
                [timeline for _, timeline in drawn],
                names=[cell.name for cell, _ in drawn],
            )
        )
    return [one for one in found if one is not None and one.panels]


def _sweeps(cells: Sequence[CellResult]) -> list[list[CellResult]]:
    """Cells of one kind and name (`poisson-2`, `poisson-4`, ...) that measured several loads."""
    groups: dict[tuple[str, str], list[CellResult]] = {}
    for cell in cells:
        if words.load_of(cell) is not None:
            groups.setdefault((words.kind_of(cell), words.stem_of(cell)), []).append(cell)
    return [group for group in groups.values() if len({words.load_of(cell) for cell in group}) > 1]


def _environment() -> Environment:
    page = environment("dreamseed_cli.bench.report")
    page.filters |= {
        "number": words.number,
        "measure": words.measure,
        "percent": words.percent,
        "spread": words.spread,
        "load": words.load_words,
        "overload": words.overload,
        "rounds": words.rounds,
        "window_words": words.window_words,
        "fact": words.fact,
        "level": words.quantile,
    }
    return page
