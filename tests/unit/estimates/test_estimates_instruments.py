"""Every key that a figure waits for is written by something, or says what it would take."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from dreamseed_cli.core.errors import ErrorGroup
from dreamseed_cli.estimates.instruments import INSTRUMENTS, Instrument, instruments_of, unit_of
from dreamseed_cli.estimates.load import load_book, parse_book
from dreamseed_cli.estimates.results import Results, read_results
from dreamseed_cli.estimates.verdict import Word, judge

_ROOT = Path(__file__).parents[3]
_LETTERS = 5
"""That a text with holes must have besides them: less than that would match any key."""


def _entry(key: str, unit: str, **more: object) -> dict[str, Any]:
    about = {"id": "x-y", "section": "B1", "quantity": "q", "value": 1, "better": "higher"}
    return {"estimate": [{**about, "unit": unit, "check": f"measured:{key}", **more}]}


@cache
def _written_by(module: str) -> tuple[re.Pattern[str], ...]:
    """The texts in a module's source that may be keys; what an f-string fills in matches anything."""
    source = (_ROOT / module.replace(".", "/")).with_suffix(".py").read_text(encoding="utf-8")
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.append(re.escape(node.value))
        if isinstance(node, ast.JoinedStr):
            texts = [part.value if isinstance(part, ast.Constant) else None for part in node.values]
            if sum(len(str(text)) for text in texts if text is not None) >= _LETTERS:
                found.append("".join(".+" if text is None else re.escape(str(text)) for text in texts))
    return tuple(re.compile(pattern) for pattern in found)


@pytest.mark.parametrize(
    ("instrument", "key"),
    [(one, key) for one in INSTRUMENTS for key in one.units],
    ids=lambda given: given.module.rpartition(".")[2] if isinstance(given, Instrument) else given,
)
def test_a_declared_key_stands_in_the_module_that_writes_it(instrument: Instrument, key: str) -> None:
    """A declaration without an instrument would hide that nothing measures the figure."""
    one = key.replace("*", "f3-1m")
    assert any(pattern.fullmatch(one) for pattern in _written_by(instrument.module))


def test_a_key_that_a_module_does_not_write_is_found_out() -> None:
    """So that the test above can fail."""
    patterns = _written_by("dreamseed_cli.bench.suites.engine")
    assert not any(pattern.fullmatch("cdn-hit-percent") for pattern in patterns)


def test_every_committed_result_is_of_a_declared_key_and_unit() -> None:
    """What the instruments really wrote, against what is said of them."""
    found = read_results(_ROOT / "benchmarks" / "results").found
    assert found
    for one in found:
        key = one.measurement.key
        assert one.measurement.unit in {unit_of(each, key) for each in instruments_of(key)}, one


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        (_entry("moon-phase", "%"), "no instrument writes a result 'moon-phase'"),
        (_entry("farm-tok-s", "tok/min"), "'farm-tok-s' is written in tok/s, not in tok/min"),
        (_entry("farm-tok-s", "tok/s", needs="three cards"), "is measured by `dreamseed bench --suite"),
        (_entry("farm-tok-s", "tok/s", check="setting", needs="a meter"), "of measured figures only"),
    ],
)
def test_a_figure_that_nothing_can_judge_is_refused(entry: dict[str, Any], said: str) -> None:
    """A misspelt key would wait for its result for ever."""
    with pytest.raises(ErrorGroup) as caught:
        parse_book(entry, source="f")
    (error,) = caught.value.causes()
    assert said in str(error)
    assert "x-y" in str(error)


def test_a_figure_without_an_instrument_says_what_it_takes() -> None:
    """And is judged all the same, if somebody measured it otherwise and wrote it down."""
    book = load_book()
    without = [one for one in book if one.needs is not None]
    assert {one.id for one in without} >= {"a2-cdn-hit-percent", "h3-ups-min", "c1-request-ms"}
    for one in without:
        verdict = judge(book, one, Results())
        assert verdict.word in {Word.NOT_MEASURED, Word.CONTRADICTED}
        assert f"No instrument of this program measures it. It takes {one.needs};" in verdict.sentence
        assert f"'{one.measured_key}'" in verdict.sentence


def test_a_figure_with_an_instrument_names_the_command_and_the_device() -> None:
    """What to run for a result, and where."""
    book = load_book()
    said = judge(book, book.get("b1-card-tok-s"), Results()).sentence
    assert "`dreamseed bench --suite engine` on RTX 5090 gives one." in said
