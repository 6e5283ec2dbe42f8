"""So many of something, in words: one noun in its number."""

from __future__ import annotations


def counted(number: int, noun: str, plural: str = "") -> str:
    """`1 table`, `9 tables`, `1,204 rows`. plural: where it is not the noun with an s."""
    return f"{number:,} {noun if number == 1 else plural or f'{noun}s'}"
