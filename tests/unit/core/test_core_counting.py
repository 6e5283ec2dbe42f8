"""A number with its noun."""

from __future__ import annotations

import pytest

from dreamseed_cli.core.counting import counted


@pytest.mark.parametrize(
    ("number", "words", "said"),
    [
        (0, ("row",), "0 rows"),
        (1, ("row",), "1 row"),
        (1204, ("row",), "1,204 rows"),
        (1, ("try", "tries"), "1 try"),
        (2, ("try", "tries"), "2 tries"),
    ],
)
def test_the_noun_is_in_its_number(number: int, words: tuple[str, ...], said: str) -> None:
    """With an s, or the plural that is given."""
    assert counted(number, *words) == said
