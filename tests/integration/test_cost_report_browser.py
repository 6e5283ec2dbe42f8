"""The page of `cost-sim --out` in a real browser: on a telephone's and on a desk's width, light and dark."""

from __future__ import annotations

from pathlib import Path

import pytest
from cost_answers import dollars, whole_answer
from page_browser import looks, shades

from dreamseed_cli.costsim.report.html import html_page

_PLOTS = 8
"""Stack, bands, cards, tornado, capacity, latency, runway and payback."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the page of an answer that has everything in it."""
    folder = tmp_path_factory.mktemp("cost")
    page = html_page(
        whole_answer(), dollars(), "2026-11-29T00:00:00+00:00", "dreamseed cost-sim", "dreamseed 0"
    )
    (folder / "report.html").write_text(page, encoding="utf-8")
    return folder


@pytest.mark.parametrize("width", [360, 1280])
def test_the_page_fits_its_width_loads_nothing_and_clips_no_label(folder: Path, width: int) -> None:
    """Every plot is drawn, no label leaves its plot, nothing is wider than the window, nothing is fetched."""
    found = looks(folder, width)
    assert found["title"] == "dreamseed cost-sim: 100,000 users on 3 x rtx5090"
    assert found["plots"] == _PLOTS
    assert found["flat"] == 0
    assert found["width"] <= width
    assert found["labels"] > 8 * _PLOTS
    assert found["clipped"] == []
    assert found["loaded"] == []


def test_the_page_is_light_or_dark_as_the_reader_likes(folder: Path) -> None:
    """The same file shows a light page to one reader and a dark one to another."""
    assert shades(folder) == {"dark": pytest.approx(28, abs=8), "light": 255}
