"""The file of figures: what it must look like, and that the shipped one is whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dreamseed_cli.core.errors import DreamseedError, ErrorGroup, UsageError
from dreamseed_cli.estimates.load import load_book, parse_book
from dreamseed_cli.estimates.rules import RULES
from dreamseed_cli.estimates.schema import NotComputable

SECTIONS = {
    "Goal", "A", "A1", "A2", "B1", "B2", "B3", "B4", "C1", "C2", "C3", "D1", "D2", "E1", "E2", "E3",
    "F1", "F2", "F3", "G", "H1", "H2", "H3", "I1", "I2", "J1", "J2",
}  # fmt: skip


def _entry(**given: object) -> dict[str, Any]:
    return {
        "id": "x-y",
        "section": "B1",
        "quantity": "q",
        "unit": "W",
        "value": 1,
        "check": "setting",
    } | given


def _errors(*entries: object) -> list[str]:
    with pytest.raises(ErrorGroup) as caught:
        parse_book({"estimate": list(entries)}, source="f")
    return [str(error) for error in caught.value.causes()]


def test_every_section_of_the_document_is_represented() -> None:
    """From the goal to §J2."""
    assert {one.section for one in load_book()} == SECTIONS


def test_every_rule_is_used_and_every_used_rule_exists() -> None:
    """In both directions."""
    assert {rule for one in load_book() for rule in one.rules} == set(RULES)


def test_a_figure_is_a_number_a_range_or_words() -> None:
    """A number has equal ends, words have none."""
    book = parse_book(
        {"estimate": [_entry(), _entry(id="r", value=[1, 3]), _entry(id="w", value="on")]}, source="f"
    )
    assert [(one.low, one.high) for one in list(book)[:2]] == [(1, 1), (1, 3)]
    assert book.number("r") == 2
    assert book.words("w") == "on"
    for wrong in (lambda: book.number("w"), lambda: book.words("r"), lambda: book.get("z")):
        with pytest.raises(NotComputable):
            wrong()
    with pytest.raises(NotComputable, match="no field 'cards'"):
        book.get("r").field("cards")
    with pytest.raises(NotComputable, match="names nothing"):
        book.about(book.get("r"))


@pytest.mark.parametrize(
    ("given", "place", "message"),
    [
        ({"unit": 3}, "x-y.unit", "string"),
        ({"colour": "red"}, "x-y.colour", "no such key"),
        ({"vlaue": 2}, "x-y.vlaue", "Did you mean value?"),
        ({"value": [3, 1]}, "x-y", "low end is above"),
        ({"value": [1, 2, 3]}, "x-y.value", "a range [low, high]"),
        ({"check": "guessed"}, "x-y.check", "should be setting"),
        ({"check": []}, "x-y.check", "or a list of these"),
        ({"check": 3}, "x-y.check", "arithmetic:RULE"),
        ({"check": "price", "value": "dear"}, "x-y", "words can only be a setting"),
        ({"check": "measured:key"}, "x-y", "needs 'better'"),
        ({"check": "computed:key"}, "x-y", "needs 'better'"),
        ({"better": "bigger"}, "x-y.better", "higher"),
        ({"section": "K1"}, "x-y.section", "match pattern"),
        ({"id": "No Kebab"}, "No Kebab.id", "match pattern"),
        ({"id": 3}, "estimate 1.id", "string"),
    ],
)
def test_a_mistake_is_told_with_its_path(given: dict[str, object], place: str, message: str) -> None:
    """By the figure's id, or its place in the file where it has none."""
    (error,) = _errors(_entry(**given))
    assert f"'f: {place}'" in error
    assert message in error


def test_all_mistakes_are_told_at_once() -> None:
    """One round, not three."""
    assert len(_errors(_entry(unit=1), _entry(id="b", section="Z"), "no table")) == 3


def test_ids_are_given_once_and_about_names_one() -> None:
    """The file is whole in itself."""
    assert "ids given twice: x-y" in _errors(_entry(), _entry())[0]
    assert "'about' names no estimate: lost" in _errors(_entry(about="lost"))[0]


def test_an_unknown_rule_is_refused_with_those_there_are() -> None:
    """A misspelt rule would never be checked."""
    (error,) = _errors(_entry(check="arithmetic:magic"))
    assert "x-y.check" in error
    assert "'magic'" in error
    assert "little" in error


def test_a_file_that_is_none_is_a_usage_error(tmp_path: Path) -> None:
    """Bad TOML, a missing file, or no figures in it."""
    bad = tmp_path / "bad.toml"
    bad.write_text("= nothing")
    for path in (bad, tmp_path / "missing.toml"):
        with pytest.raises(UsageError) as caught:
            load_book(path)
        assert caught.value.place == str(path)
    with pytest.raises(DreamseedError, match="estimate"):
        parse_book({}, source="f")
