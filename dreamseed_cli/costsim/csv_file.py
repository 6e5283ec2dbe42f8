"""The bill and the sweep as CSV, one line a row, amounts in US dollars to the cent."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any

from dreamseed_cli.costsim.bill import CENT
from dreamseed_cli.costsim.decisions.sweep import Row
from dreamseed_cli.costsim.figures import printed
from dreamseed_cli.costsim.holding import Held
from dreamseed_cli.costsim.study import Study

BILL = (
    "line",
    "title",
    "section",
    "usd",
    "p5_usd",
    "p95_usd",
    "document_low_usd",
    "document_high_usd",
    "how",
)
SWEEP = (
    "users", "concurrent", "cards", "cards_needed", "usd", "p5_usd", "p50_usd", "p95_usd", "document_usd",
    "document_cards", "holds_simulated", "kept_slo_percent_simulated", "ttft_p95_ms_simulated",
)  # fmt: skip


def bill_csv(one: Study) -> str:
    """Every line of the bill, its total, and what stands aside."""
    rows: list[Sequence[Any]] = []
    for line in one.bill.lines:
        band, said = one.bands.lines[line.key], printed(line, one.question.figures) or ("", "")
        amounts = [_cents(amount) for amount in (line.usd, band.p5, band.p95)]
        rows.append((line.key, line.title, line.section, *amounts, *said, line.how))
    total, printed_total = one.bands.total, one.question.figures.get("f1-total-usd")
    amounts = [_cents(amount) for amount in (one.bill.usd, total.p5, total.p95)]
    rows.append(("total", "Total", "F1", *amounts, printed_total.low, printed_total.high, ""))
    rows.extend(
        (line.key, line.title, line.section, _cents(line.usd), "", "", "", "", line.how)
        for line in one.bill.aside
    )
    return _text(BILL, rows)


def sweep_csv(rows: Sequence[Row[Held]]) -> str:
    """Every row of the sweep, §F3's figures beside ours where it has them."""
    return _text(SWEEP, [_sweep_row(row) for row in rows])


def _sweep_row(row: Row[Held]) -> Sequence[Any]:
    band, held, said = row.bands.total, row.verdict, row.point.document
    ttft_s = held.outcome.overall.ttft.quantiles_s.get("p95")
    return (
        row.point.users,
        row.point.concurrent,
        row.scenario.gpus,
        row.cards_needed,
        *(_cents(amount) for amount in (row.bill.usd, band.p5, band.p50, band.p95)),
        "" if said is None else said.middle,
        "" if said is None else said.field("cards"),
        "yes" if held.holds else "no",
        f"{held.attainment * 100:.2f}",
        "" if ttft_s is None else f"{ttft_s * 1000:.1f}",
    )


def _text(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    stream = io.StringIO(newline="")
    writer = csv.writer(stream)
    writer.writerow(head)
    writer.writerows(rows)
    return stream.getvalue()


def _cents(amount: Decimal) -> str:
    return f"{amount.quantize(CENT):f}"
