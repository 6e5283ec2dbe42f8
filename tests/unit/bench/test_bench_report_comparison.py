"""`bench compare` on the terminal: the change, its interval, and what a gate found."""

from __future__ import annotations

import io

from bench_results import sweep_result
from compared_runs import a_cell, a_run, around
from rich.console import Console

from dreamseed_cli.bench.compare import compare
from dreamseed_cli.bench.report.comparison import comparison_view


def _shown(*missed: str) -> str:
    before = a_run(a_cell(output_tokens_per_s=around(100, 1)))
    after = a_run(a_cell(output_tokens_per_s=around(150, 1)), a_cell("poisson-8"))
    console = Console(file=io.StringIO(), width=100)
    console.print(*comparison_view(compare(before, after), missed), sep="\n")
    file = console.file
    assert isinstance(file, io.StringIO)
    return file.getvalue()


def test_a_gain_is_shown_with_its_interval_and_called_better() -> None:
    """Half as many tokens again, far outside of both intervals."""
    line = next(line for line in _shown().splitlines() if line.startswith("output_tokens_per_s"))
    assert "+50.0 %" in line
    assert "+48." in line
    assert line.rstrip().endswith("better")


def test_a_comparison_of_whole_runs_fits_eighty_columns() -> None:
    """No figure's name is cut off, and no verdict is broken within a word."""
    run = sweep_result()
    console = Console(file=io.StringIO(), width=80)
    console.print(*comparison_view(compare(run, run), []), sep="\n")
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    assert max(map(len, text.splitlines())) <= 80
    assert "…" not in text
    assert {"energy.joules_per_", "ttft_from_send.p99", "difference", "comparable:"} <= set(text.split())


def test_a_cell_that_one_run_lacks_is_named() -> None:
    """It is not left out in silence."""
    shown = _shown()
    assert "poisson-8" in shown
    assert "not in the run before" in shown


def test_a_missed_gate_is_the_last_word() -> None:
    """After the tables, so that it is what stands on the screen."""
    assert _shown("ttft.p99 grew by 20 %").rstrip().endswith("missed: ttft.p99 grew by 20 %")
