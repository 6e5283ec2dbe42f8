"""The bill and the sweep as CSV, one line a row, amounts in US dollars to the cent."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any

from dreamseed_cli.costsim.decisions.sweep import Row
from dreamseed_cli.costsim.holding import Held
from dreamseed_cli.costsim.money import cents
from dreamseed_cli.costsim.report.bill_rows import BillRow, bill_rows
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
    return _text(BILL, [_bill_row(row) for row in bill_rows(one)])


def sweep_csv(rows: Sequence[Row[Held]]) -> str:
    """Every row of the sweep, §F3's figures beside ours where it has them."""
    return _text(SWEEP, [_sweep_row(row) for row in rows])


def _bill_row(row: BillRow) -> Sequence[Any]:
    line, band = row.line, row.band
    ends = ("", "") if band is None else (_cents(band.p5), _cents(band.p95))
    return (line.key, line.title, line.section, _cents(line.usd), *ends, *(row.printed or ("", "")), line.how)


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
    return f"{cents(amount):f}"
