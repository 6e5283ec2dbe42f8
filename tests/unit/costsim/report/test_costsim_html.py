"""The page: whole in itself, with every plot, and safe against what a command line says."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from cost_answers import dollars, whole_answer

from dreamseed_cli.costsim.report.html import html_page

_HOSTILE = "<script>alert('x')</script>\"' onload=\"x"
_PLOTS = {"stack", "bands", "cards", "tornado", "capacity", "latency", "runway", "payback"}


@pytest.fixture(scope="module")
def page() -> str:
    """The page of the whole answer, with a hostile command line."""
    return html_page(whole_answer(), dollars(), "2026-11-29T00:00:00+00:00", _HOSTILE, "dreamseed 0")


def test_every_plot_is_there_once_and_tells_what_it_shows(page: str) -> None:
    """A title and a description each; colours are the page's own."""
    plots = re.findall(r"<svg.*?</svg>", page, re.DOTALL)
    assert {found for plot in plots for found in re.findall(r'<title id="([a-z]+)-title"', plot)} == _PLOTS
    assert len(plots) == len(_PLOTS)
    assert all(re.search(r"<desc[^>]*>[^<]+</desc>", plot) for plot in plots)
    assert [found for plot in plots for found in re.findall(r"#[0-9a-f]{6}\b", plot)] == []


def test_the_page_needs_nothing_else(page: str) -> None:
    """No script, no address, nothing to load; what was typed is text."""
    assert "<script" not in page
    assert re.findall(r'(?:src|href)="(?!#)[^"]*"', page) == []
    assert "&lt;script&gt;" in page


def test_the_documents_figures_stand_beside_ours(page: str) -> None:
    """§F1's range, §F3's totals, §J1's promise, and the verdicts."""
    text = re.sub(r"<[^>]+>", " ", page)
    for words in ("$230-330", "$100", "99.5 %", "contradicted", "KEEPS ITS SLO", "WITHIN THE BUDGET"):
        assert words in " ".join(text.split())


def test_a_sweep_alone_is_a_page_too() -> None:
    """Without a scenario only what is by number of users is drawn."""
    alone = replace(whole_answer(), study=None, budget=None)
    page = html_page(alone, dollars(), "2026-11-29T00:00:00+00:00", "dreamseed", "dreamseed 0")
    assert set(re.findall(r'<title id="([a-z]+)-title"', page)) == {"stack", "bands", "cards"}
