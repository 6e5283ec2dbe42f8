"""Measurements against the document's figures (benchmarks/estimates.toml). Pure."""

from __future__ import annotations

from collections.abc import Sequence

from dreamseed_cli.estimates.outcome import figure, place, say
from dreamseed_cli.estimates.results import Measurement
from dreamseed_cli.estimates.schema import Book, Estimate
from dreamseed_cli.estimates.verdict import Word, judged


def judged_by(book: Book) -> dict[str, Estimate]:
    """The figure that each key of a measurement judges."""
    return {one.measured_key: one for one in book if one.measured_key is not None}


def missed(found: Sequence[Measurement], book: Book) -> tuple[str, ...]:
    """Those that fall short of the document, in words; not those of which that cannot be told."""
    figures = judged_by(book)
    return tuple(
        f"{row.quantity}: {say(one.value)} {one.unit}, {place(row)} says {figure(row)}"
        for one in found
        if (row := figures.get(one.key)) is not None and judged(row, one) is Word.FALLS_SHORT
    )
