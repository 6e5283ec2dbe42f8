"""§C1, §C3, §F1, §F2 and §F3 recomputed from the document's own assumptions.

Quantities come from the estimates, prices from the book (`document` for the document's own); where its
arithmetic is right the printed figure comes out to the cent, elsewhere the difference shows.
"""

from __future__ import annotations

from dreamseed_cli.costsim.billing.bill import Bill, Line
from dreamseed_cli.costsim.document.amounts import MONTH, computable
from dreamseed_cli.costsim.document.row import Row
from dreamseed_cli.costsim.document.tables import (
    cloud_rows,
    investment_rows,
    month_rows,
    price_rows,
    user_rows,
)
from dreamseed_cli.costsim.prices.schema import PriceBook
from dreamseed_cli.estimates.schema import Book as Figures


def document_bill(figures: Figures, book: PriceBook) -> Bill:
    """§F1's lines, each from its price; Cloud Run as §C1 works it out. UsageError if a figure is missing."""
    lines = []
    with computable():
        for key, amount in MONTH.items():
            usd, how = amount(figures, book)
            lines.append(Line(key, figures.get(f"f1-{key}-usd").quantity, usd, how, "F1"))
    return Bill(tuple(lines))


def document_rows(figures: Figures, book: PriceBook) -> tuple[Row, ...]:
    """Every figure of these sections beside the recomputed one. UsageError if a figure is missing."""
    with computable():
        return (
            *price_rows(figures, book),
            *cloud_rows(figures, book),
            *month_rows(figures, book),
            *investment_rows(figures, book),
            *user_rows(figures, book),
        )
