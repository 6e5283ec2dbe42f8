"""Tables in 80 columns: many columns become blocks below each other, and words stay whole. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from dreamseed_cli.bench.report.words import fact
from dreamseed_cli.bench.result import Column, FactTable

WIDTH = 78
"""Of 80: a terminal's last columns stay free."""
_GAP = 1
_TEXT = 16
"""A text may be broken between its words, but not into less than this."""
_JOINTS = re.compile(r"(?<=[-/=,_])(?=.)|(?<=\.)(?=[a-z])")


@dataclass(frozen=True, slots=True)
class Laid:
    """A column with its width in characters. number: whether it is set to the right."""

    column: Column
    width: int
    number: bool


def blocks(table: FactTable, width: int = WIDTH) -> list[list[Laid]]:
    """The columns in blocks of at most `width`, each of which begins with the first column."""
    first, *others = (_least(table, column) for column in table.columns)
    found = [[first]]
    for laid in others:
        if _width([*found[-1], laid]) > width and len(found[-1]) > 1:
            found.append([first])
        room = max(1, width - _width(found[-1]) - _GAP)
        found[-1].append(replace(laid, width=min(laid.width, room)))
    return [_widened(table, block, width) for block in found]


def broken(text: str, width: int) -> str:
    """A text whose words that are longer than `width` are broken at their joints (`-`, `_`, `/`, ...)."""
    return " ".join(_broken(word, width) for word in text.split(" "))


def _broken(word: str, width: int) -> str:
    lines = [""]
    for part in _JOINTS.split(word):
        if lines[-1] and len(lines[-1]) + len(part) > width:
            lines.append("")
        lines[-1] += part
    return "\n".join(lines)


def _least(table: FactTable, column: Column) -> Laid:
    """As narrow as it can be without a broken word or number."""
    values = [row.get(column.key) for row in table.rows]
    number = all(isinstance(value, int | float | None) for value in values)
    texts = _cells(table, column)
    whole = max(map(len, texts), default=0)
    cells = whole if number else max(_longest_word(texts), min(whole, _TEXT))
    return Laid(column, max(cells, _longest_word([column.label, column.unit])), number)


def _widened(table: FactTable, block: Sequence[Laid], width: int) -> list[Laid]:
    """The room that is left goes to what is in the rows first, then to the heads, from the left."""
    done = list(block)
    for texts in (lambda column: _cells(table, column), lambda column: [column.label]):
        for place, laid in enumerate(done):
            spare = width - _width(done)
            more = min(spare, max(map(len, texts(laid.column)), default=0) - laid.width)
            done[place] = replace(laid, width=laid.width + max(0, more))
    return done


def _cells(table: FactTable, column: Column) -> list[str]:
    return [fact(row.get(column.key)) for row in table.rows]


def _width(block: Sequence[Laid]) -> int:
    return sum(laid.width + _GAP for laid in block)


def _longest_word(texts: Sequence[str]) -> int:
    return max((len(word) for text in texts for word in text.split()), default=0)
