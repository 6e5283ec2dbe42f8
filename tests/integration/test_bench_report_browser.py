"""The report in a real browser: headless Chromium, on a telephone's and on a desk's width, light and dark."""

from __future__ import annotations

from pathlib import Path

import pytest
from bench_results import sweep_result
from page_browser import looks, shades

from dreamseed_cli.bench.report.html import html_page
from dreamseed_cli.bench.report.scorecard import scorecard
from dreamseed_cli.bench.result import CellResult, Column, FactTable

_PLOTS = 2 * (2 + 3 + 4 + 5 + 5)
"""Two suites of five cells: throughput, latency, distributions, balance and timeline."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the report of a whole run."""
    folder = tmp_path_factory.mktemp("report")
    result = sweep_result()
    (folder / "report.html").write_text(html_page(result, scorecard(result)), encoding="utf-8")
    return folder


@pytest.mark.parametrize("width", [400, 1280])
def test_the_page_fits_its_width_loads_nothing_and_clips_no_label(folder: Path, width: int) -> None:
    """Every plot is drawn, no label leaves its plot, nothing is wider than the window, nothing is fetched."""
    found = looks(folder, width)
    assert found["title"] == "dreamseed bench: Qwen/Qwen2.5-7B-Instruct on 3 x emulated RTX 5090 on 2 cores"
    assert found["plots"] == _PLOTS
    assert found["flat"] == 0
    assert found["width"] <= width
    assert found["labels"] > 10 * _PLOTS
    assert found["clipped"] == []
    assert found["loaded"] == []


def test_the_widest_tables_need_no_scrolling_on_a_desk(tmp_path: Path) -> None:
    """Answers that took a minute, a load over capacity, and a cache's long heads."""
    result = sweep_result()
    heads = ("document (§I1)", "computed for this run", "asked before, to fill it", "it takes exponent")
    columns = tuple(Column(key=f"c{n}", label=heads[n % len(heads)], unit="%") for n in range(11))
    table = FactTable(title="Answers", columns=columns, rows=({one.key: 177_179 for one in columns},))
    suites = [
        suite.model_copy(update={"cells": tuple(map(_slow, suite.cells)), "tables": (table,)})
        for suite in result.suites
    ]
    slow = result.model_copy(update={"suites": tuple(suites)})
    (tmp_path / "report.html").write_text(html_page(slow, scorecard(slow)), encoding="utf-8")
    assert looks(tmp_path, 1280)["wide"] == 0


def _slow(cell: CellResult) -> CellResult:
    """The same, twelve times slower and over capacity."""
    slower = {
        name: times.model_copy(
            update={"quantiles": {level: one.times(12) for level, one in times.quantiles.items()}}
        )
        for name in ("ttft", "e2e")
        if (times := getattr(cell, name)) is not None
    }
    return cell.model_copy(update={**slower, "over_capacity": True, "partial": True})


def test_the_page_is_light_or_dark_as_the_reader_likes(folder: Path) -> None:
    """The same file shows a light page to one reader and a dark one to another."""
    assert shades(folder) == {"dark": pytest.approx(28, abs=8), "light": 255}
