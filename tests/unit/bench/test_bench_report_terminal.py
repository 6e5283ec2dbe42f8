"""A run on a terminal of 80 columns: nothing cut off, nothing hidden."""

from __future__ import annotations

import io

import pytest
from bench_results import DELAYED, LATE, cell, db_suite, engine_suite, sweep_result
from rich.console import Console
from rich.text import Text

from dreamseed_cli.bench.locust_users.report import _KIND_COLUMNS, _STEP_COLUMNS
from dreamseed_cli.bench.pgbench.settings import settings_table
from dreamseed_cli.bench.report.layout import broken
from dreamseed_cli.bench.report.scorecard import scorecard
from dreamseed_cli.bench.report.terminal import result_view
from dreamseed_cli.bench.report.words import fact
from dreamseed_cli.bench.result import BenchResult, FactTable, SuiteResult
from dreamseed_cli.bench.suites.cache_facts import HITS, SKEW
from dreamseed_cli.database.settings import wanted_settings
from dreamseed_cli.estimates.load import load_book


def shown(result: BenchResult) -> str:
    """As `core.render` prints it."""
    stream = io.StringIO()
    console = Console(file=stream, width=80)
    for item in result_view(result, scorecard(result)):
        console.print(item, soft_wrap=isinstance(item, str | Text))
    return stream.getvalue()


def words(text: str) -> str:
    """Without the line breaks of a terminal."""
    return " ".join(text.split())


def test_a_whole_run_fits_eighty_columns() -> None:
    """No line is longer, and no cell of a table is cut off."""
    text = shown(sweep_result())
    assert max(map(len, text.splitlines())) <= 80
    assert "…" not in text


def test_large_figures_and_long_names_fit_too() -> None:
    """A minute of latency, a million tokens a second, names of forty letters: folded, never shortened."""
    large = cell({"type": "streams", "count": 10000}, tokens_per_s=123_456.0, ttft_ms=123_456.0)
    name = "replay-of-the-last-thursday-evening-peak"
    suite = SuiteResult(name="engine", headline="h " * 90, cells=(large.model_copy(update={"name": name}),))
    text = shown(sweep_result(suite))
    assert max(map(len, text.splitlines())) <= 80
    assert "…" not in text
    assert "123,456" in text


@pytest.mark.parametrize("name", ["users", "mix", "skew", "hits", "settings"])
def test_tables_of_many_columns_keep_their_words(name: str) -> None:
    """Every word and number of the widest tables stands whole in some line of 80 columns."""
    table = _wide_tables()[name]
    suite = SuiteResult(name="load", headline="h", tables=(table,))
    text = shown(sweep_result(suite))
    assert max(map(len, text.splitlines())) <= 80
    there = set(text.split())
    heads = " ".join(f"{column.label} {column.unit}" for column in table.columns)
    figures = " ".join(fact(row.get(column.key)) for row in table.rows for column in table.columns)
    assert set(f"{heads} {figures}".split()) <= there


def _wide_tables() -> dict[str, FactTable]:
    """Tables as the suites make them, every figure as long as it gets."""
    book = load_book()
    row: dict[str, float | int | str | bool | None] = dict.fromkeys(
        [one.key for one in (*_STEP_COLUMNS, *_KIND_COLUMNS, *HITS, *SKEW)], 1_234_567.0
    )
    row |= {"verdict": "missed the SLO", "kind": "static asset (/healthz stands for it)"}
    row |= {"workload": "recommendation", "seed": "2042424242"}
    of = {"users": _STEP_COLUMNS, "mix": _KIND_COLUMNS, "hits": HITS, "skew": SKEW}
    made = {name: FactTable(title="t", columns=columns, rows=(row,)) for name, columns in of.items()}
    return made | {"settings": settings_table(wanted_settings(book), {})}


def test_long_names_are_broken_at_their_joints() -> None:
    """Nowhere else; and what is short enough is left alone."""
    assert broken("rate-0.4567-10 is", 12) == "rate-0.4567-\n10 is"
    assert broken("energy.joules_per_output_token J", 19) == "energy.joules_per_\noutput_token J"
    assert broken("unbreakableunbreakable", 9) == "unbreakableunbreakable"


def test_each_suite_has_its_headline_cells_and_tables() -> None:
    """With units, and how the figures came."""
    text = shown(sweep_result())
    assert "Up to 1,561 tok/s and 7.81 requests/s" in text
    assert "poisson-8     420    948   27.0 10,350 1,561  7.80  7.73     99 yes" in text
    assert "read-mostly          500 5,321 4.21" in text
    assert "SIMULATED, emulated cards: roofline of plan/cards.toml  INVALID" in text
    assert "MEASURED" not in text


def test_too_few_samples_leave_a_gap() -> None:
    """300 requests give no p99."""
    assert "streams-8     128      -" in shown(sweep_result())


def test_an_invalid_cell_tells_why_and_what_to_do() -> None:
    """Below its suite, in whole sentences."""
    text = words(shown(sweep_result(engine_suite())))
    for problem in (LATE, DELAYED):
        assert f"INVALID poisson-10: {problem.reason}. {problem.remedy}" in text
    assert "missed: p99 TTFT 948 ms at 8 requests/s is over the SLO's 800 ms" in text


def test_what_to_do_stands_once_below_all_that_it_mends() -> None:
    """Four steps of a load that ran out of cores are four reasons and one remedy."""
    engine = engine_suite()
    cells = [one.model_copy(update={"valid": False, "problems": (LATE,)}) for one in engine.cells[:4]]
    last = cells[3].model_copy(update={"problems": (LATE, DELAYED)})
    suite = engine.model_copy(update={"cells": (*cells[:3], last)})
    text = words(shown(sweep_result(suite)))
    assert (text.count(LATE.reason), text.count(LATE.remedy), text.count(DELAYED.remedy)) == (4, 1, 1)
    assert text.index(LATE.remedy) < text.index(DELAYED.reason)


def test_a_failure_is_named_in_the_servers_words() -> None:
    """How many, of which kind, and why; a cell without one has no such line."""
    engine = engine_suite()
    endings = {"complete": 9, "server_error": 1200, "cut": 2}
    bad = engine.cells[3].model_copy(
        update={"endings": endings, "details": {"HTTP 500: CUDA error": 1200}, "requests": 1211}
    )
    good = engine.cells[2].model_copy(update={"endings": {"complete": 5}, "details": {}})
    text = words(shown(sweep_result(engine.model_copy(update={"cells": (good, bad)}))))
    assert text.count("FAILED") == 1
    said = "1,202 of 1,211 requests: server error 1,200, cut 2 (1,200 x HTTP 500: CUDA error)"
    assert f"FAILED {bad.name}: {said}" in text


def test_a_note_stands_once_with_its_cells() -> None:
    """Below what failed; one of every cell does not name them all."""
    engine = engine_suite()
    told = (("alone", "of all"), ("of two", "of all"), ("of two", "of all"))
    cells = tuple(
        one.model_copy(update={"notes": notes}) for one, notes in zip(engine.cells[:3], told, strict=True)
    )
    text = words(shown(sweep_result(engine.model_copy(update={"cells": cells}))))
    first, second, third = (one.name for one in cells)
    assert text.index("FAILED") < text.index(f"NOTE {first}: alone NOTE every cell: of all")
    assert f"NOTE {second}, {third}: of two" in text
    alone = words(shown(sweep_result(engine.model_copy(update={"cells": cells[:1]}))))
    assert f"NOTE {first}: of all" in alone


def test_a_load_over_capacity_is_marked_and_explained() -> None:
    """Valid, in the table as below it."""
    engine = engine_suite()
    last = engine.cells[3].model_copy(update={"over_capacity": True})
    text = words(shown(sweep_result(engine.model_copy(update={"cells": (last,)}))))
    assert " 99 over" in text
    assert f"OVER CAPACITY {last.name}: ever more requests wait or are under way (" in text


def test_an_interrupted_run_is_marked_partial() -> None:
    """The run, the suite, and the cell."""
    engine = engine_suite()
    last = engine.cells[3].model_copy(update={"partial": True})
    suite = engine.model_copy(update={"cells": (last,)})
    text = shown(sweep_result(suite).model_copy(update={"partial": True}))
    assert words(text).count("PARTIAL: interrupted") == 2
    assert "yes, part" in words(text)


def test_it_ends_with_the_estimates_and_their_sentences() -> None:
    """The document's figure, the run's, the verdict; then how each comes about."""
    text = shown(sweep_result())
    last = words(text[text.index("Estimate against measurement") :])
    assert "e1-write-tps §E1 500-1,000 TPS 432 TPS falls short" in last
    assert "3 cards x 500 tok/s = 1,500 tok/s; the document says 1,500 tok/s." in last


def test_names_are_words_not_markup() -> None:
    """Rich's own brackets in what a server says stay brackets."""
    suite = db_suite().model_copy(update={"headline": "[red]not red[/red]", "missed": ("[/] odd",)})
    text = shown(sweep_result(suite).model_copy(update={"model": "[bold]m[/bold]"}))
    assert "[red]not red[/red]" in text
    assert "missed: [/] odd" in text
    assert "[bold]m[/bold]" in text
