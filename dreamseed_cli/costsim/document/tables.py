"""The document's tables row by row: what it prints, and what its assumptions come to at the book's prices."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal

from dreamseed_cli.costsim.decisions.hardware import initial_usd, pieces
from dreamseed_cli.costsim.decisions.investment import Investment, document_investment
from dreamseed_cli.costsim.document import amounts
from dreamseed_cli.costsim.document.amounts import field, figure
from dreamseed_cli.costsim.document.row import Row, row
from dreamseed_cli.costsim.document.scenario import ROWS
from dreamseed_cli.costsim.money import decimal, dollars
from dreamseed_cli.costsim.prices.schema import PriceBook
from dreamseed_cli.estimates.cost_rules import FIXED_LINES, MONTHLY_LINES
from dreamseed_cli.estimates.outcome import say
from dreamseed_cli.estimates.schema import Book as Figures

_PRICES = (
    ("a1-storage-usd-tb", "b2-storage", amounts.GB_PER_TB),
    ("b2-usd-kwh", "electricity-flat", 1),
    ("c1-vcpu-price-usd", "cloud-run-cpu", 1),
    ("c1-memory-price-usd", "cloud-run-memory", 1),
    ("c1-requests-price-usd", "cloud-run-requests", 10**6),
    ("c2-free-usd", "cloudflare-free", 1),
    ("c2-pro-usd", "cloudflare-pro", 1),
    ("c2-business-usd", "cloudflare-business", 1),
    ("c3-storage-price-usd-tb", "b2-storage", amounts.GB_PER_TB),
    ("e3-standby-usd", "cloud-sql-micro", 1),
)
"""An estimate that is a price, the book's price, and how many of its units the estimate is for."""
_PIECES = (
    ("f2-cards-usd", "rtx5090"),
    ("f2-server-usd", "server"),
    ("f2-nvme-usd", "nvme-2tb"),
    ("f2-network-usd", "switch-10g"),
    ("f2-ups-usd", "ups-1500w"),
)
"""A line of §F2, and the book's price of a piece."""


def price_rows(figures: Figures, book: PriceBook) -> Iterator[Row]:
    """The document's prices beside the book's."""
    for estimate_id, price, units in _PRICES:
        yield row(
            figures.get(estimate_id), book.unit_usd(price) * units, f"{price} of the book '{book.name}'"
        )


def cloud_rows(figures: Figures, book: PriceBook) -> Iterator[Row]:
    """§C1 and §C3."""
    requests = figure(figures, "c1-requests-per-month")
    yield row(figures.get("c1-vcpu-usd"), *amounts.run_cpu(figures, book, requests))
    yield row(figures.get("c1-memory-usd"), *amounts.run_memory(figures, book, requests))
    yield row(figures.get("c1-total-usd"), *amounts.run_total(figures, book, requests))
    yield row(figures.get("c3-storage-usd"), *amounts.stored(figures, book))
    yield row(figures.get("c3-download-usd"), *amounts.downloaded(figures, book))
    yield row(figures.get("c3-total-usd"), *amounts.storage(figures, book))


def month_rows(figures: Figures, book: PriceBook) -> Iterator[Row]:
    """§B2's electricity; §F1's lines from their prices; its total from its own lines, and from these."""
    yield row(figures.get("b2-electricity-usd"), *amounts.electricity(figures, book))
    ours = {key: amount(figures, book) for key, amount in amounts.MONTH.items()}
    for key, (usd, work) in ours.items():
        yield row(figures.get(f"f1-{key}-usd"), usd, work)
    lines = [figures.get(f"f1-{key}-usd") for key in MONTHLY_LINES]
    total, average = figures.get("f1-total-usd"), figures.get("f1-average-usd")
    for end in ("low", "high"):
        printed = [decimal(getattr(line, end)) for line in lines]
        said = decimal(getattr(total, end))
        yield row(total, sum(printed, Decimal(0)), _sum(printed), what=f"its lines, {end} ends", printed=said)
    middles = [decimal(line.middle) for line in lines]
    yield row(average, sum(middles, Decimal(0)), _sum(middles), what="the middle of its lines")
    priced = [usd for usd, _ in ours.values()]
    yield row(average, sum(priced, Decimal(0)), _sum(priced), what="every line from its price, §C1's too")


def investment_rows(figures: Figures, book: PriceBook) -> Iterator[Row]:
    """§F2: what is bought, what is saved."""
    bought = pieces(round(field(figures, "f2-cards-usd", "cards")))
    for estimate_id, name in _PIECES:
        yield row(
            figures.get(estimate_id),
            book.usd(name, bought[name]),
            f"{bought[name]} x {dollars(book.unit_usd(name))}",
        )
    found = investment(figures, book)
    paid, saved = dollars(found.initial), dollars(found.saving)
    yield row(
        figures.get("f2-total-usd"), found.initial, _sum(book.usd(name, bought[name]) for _, name in _PIECES)
    )
    yield row(
        figures.get("f2-saving-usd"), found.saving, f"{dollars(found.alternative)} - {dollars(found.monthly)}"
    )
    yield row(figures.get("f2-payback-months"), found.initial / found.saving, f"{paid} / {saved}")
    yield row(
        figures.get("f2-saving-2-years-usd"),
        found.saved(),
        f"{saved} x 24 (less the initial {paid} it is {dollars(found.net())})",
    )


def user_rows(figures: Figures, book: PriceBook) -> Iterator[Row]:
    """§F3: both of its columns, and its totals from its columns and from the prices.

    Cloud Run is §C1's arithmetic for the row's requests per second all month, so nothing is shared; the
    traffic model and `contradictions` tell what instances that serve many at a time cost.
    """
    others = [figure(figures, f"f1-{key}-usd") for key in FIXED_LINES]
    priced = sum((amounts.MONTH[key](figures, book)[0] for key in FIXED_LINES), Decimal(0))
    card_w = figure(figures, "b2-full-load-w") / figure(figures, "b1-cards")
    seconds = figure(figures, "b2-hours") * 3600
    for row_id in ROWS:
        one = figures.get(row_id)
        run, power = field(figures, row_id, "cloud_run_usd"), field(figures, row_id, "electricity_usd")
        requests = field(figures, row_id, "api_rps") * seconds
        run_usd, run_work = amounts.run_total(figures, book, requests)
        power_usd, power_work = amounts.electricity(figures, book, card_w * field(figures, row_id, "cards"))
        yield row(
            one,
            run_usd,
            f"{say(float(requests))} requests: {run_work}",
            what="Cloud Run, by §C1",
            printed=run,
        )
        yield row(one, power_usd, power_work, what="electricity, by §B2", printed=power)
        yield row(
            one,
            run + power + sum(others, Decimal(0)),
            _sum([run, power, *others]),
            what="total of its columns and §F1's other lines",
        )
        yield row(
            one,
            run + power_usd + priced,
            f"Cloud Run as printed {dollars(run)} + electricity {dollars(power_usd)} "
            f"+ the rest {dollars(priced)}",
            what="total from the prices",
        )


def investment(figures: Figures, book: PriceBook) -> Investment:
    """§F2 and §J2 with the pieces and the full cloud at the book's prices; the hybrid's month as printed."""
    bought = pieces(round(field(figures, "f2-cards-usd", "cards")))
    return replace(
        document_investment(figures),
        initial=initial_usd(book, bought),
        alternative=book.usd("full-cloud", 1),
    )


def _sum(parts: Iterator[Decimal] | list[Decimal]) -> str:
    return " + ".join(dollars(part) for part in parts)
