"""The bill's rows for every output: each line beside the document's, the total, what stands aside."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum

from dreamseed_cli.costsim.billing.bill import Line
from dreamseed_cli.costsim.decisions.bands import Band
from dreamseed_cli.costsim.report.words import NOTHING, Money
from dreamseed_cli.costsim.study import Study


class Kind(StrEnum):
    """What a row is."""

    LINE = "line"
    TOTAL = "total"
    ASIDE = "aside"
    """Not in the total."""


@dataclass(frozen=True, slots=True)
class BillRow:
    """One row. Amounts are US dollars of a month."""

    kind: Kind
    line: Line
    printed: tuple[float, float] | None = None
    """What §F1 prints, from low to high; None if it forgets it."""
    recomputed: Decimal | None = None
    """§F1's own quantities at its own prices."""
    band: Band | None = None

    def cells(self, money: Money) -> tuple[str, ...]:
        """Title, §F1, §F1 recomputed, this scenario, p5, p95."""
        if self.kind is Kind.ASIDE:
            return f"beside it: {self.line.title}", "", "", money(self.line.usd), "", ""
        p5, p95 = (None, None) if self.band is None else (self.band.p5, self.band.p95)
        said = NOTHING if self.printed is None else money.span(*self.printed)
        return self.line.title, said, *map(money, (self.recomputed, self.line.usd, p5, p95))


def bill_rows(one: Study) -> Iterator[BillRow]:
    """Every line, the total, and what stands aside."""
    figures, document = one.question.figures, {line.key: line.usd for line in one.document.lines}
    for line in one.bill.lines:
        said = figures.get(f"f1-{line.key}-usd") if line.section == "F1" else None
        printed = None if said is None else (said.low, said.high)
        yield BillRow(Kind.LINE, line, printed, document.get(line.key), one.bands.lines[line.key])
    total, said = Line("total", "Total", one.bill.usd, "", "F1"), figures.get("f1-total-usd")
    yield BillRow(Kind.TOTAL, total, (said.low, said.high), one.document.usd, one.bands.total)
    for line in one.bill.aside:
        yield BillRow(Kind.ASIDE, line)
