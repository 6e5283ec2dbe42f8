"""The price book against invoices worked by hand, which lie beside with their arithmetic."""

import re
from decimal import Decimal
from pathlib import Path

import pytest

from dreamseed_cli.costsim.prices.load import load_book
from dreamseed_cli.costsim.prices.schema import PriceBook

_INVOICES = Path(__file__).parent / "invoices"
_BILLS = sorted(_INVOICES.glob("electricity-*.md"))
_ORDERS = sorted(set(_INVOICES.glob("*.md")) - set(_BILLS))


def _number(text: str) -> Decimal:
    return Decimal(text.replace(",", "").replace("$", ""))


def _rows(invoice: Path) -> list[list[str]]:
    """The cells of the table, without its head."""
    lines = [line for line in invoice.read_text(encoding="utf-8").splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def _named(invoice: Path, name: str) -> str:
    found = re.search(rf"{name}: ([\w,-]+)", invoice.read_text(encoding="utf-8"))
    assert found, f"{invoice.name} does not say its {name}"
    return found.group(1)


def _asked(book: PriceBook, price_id: str, quantity: str, at: str) -> Decimal:
    """What the book says of a row, at the price that the invoice was worked with."""
    amount, _, of = quantity.partition(" of ")
    book = book.with_amounts({price_id: Decimal(at)})
    return book.usd(price_id, _number(amount), of=_number(of or "0"))


@pytest.mark.parametrize("invoice", _ORDERS, ids=lambda path: path.stem)
def test_an_invoice_comes_out_to_the_last_digit(invoice: Path) -> None:
    """Free amounts, blocks, credits and base fees of every row, and their sum."""
    book = load_book(_named(invoice, "Book"))
    *rows, total = _rows(invoice)
    costs = [_asked(book, price_id, quantity, at) for price_id, quantity, at, *_ in rows]
    assert costs == [_number(row[-1]) for row in rows]
    assert total[0] == "total"
    assert sum(costs) == _number(total[-1])


@pytest.mark.parametrize("invoice", _BILLS, ids=lambda path: path.stem)
def test_a_korean_electricity_bill_comes_out_to_the_won(invoice: Path) -> None:
    """Base fee, blocks, season, climate and fuel charges, VAT, fund, and what is rounded where."""
    kwh, month = _number(_named(invoice, "Use")), int(_named(invoice, "Month"))
    bill = load_book().electricity_bill(_named(invoice, "Tariff"), kwh, month)
    assert {line: getattr(bill, line) for line, *_ in _rows(invoice)} == {
        line: _number(won) for line, _, won in _rows(invoice)
    }


def test_the_documents_month_of_electricity() -> None:
    """§B2: 1,500 W x 720 h x $0.12 = $129.60, which it rounds to $130; the progressive bill is twice that."""
    book = load_book("document")
    assert book.electricity_usd("electricity-flat", 1080, 11) == Decimal("129.60")
    assert book.electricity_usd("kr-residential-low", 1080, 11) == Decimal(336_180) / book.rate


def test_the_documents_investment() -> None:
    """§F2: three cards, the server, two disks, the switch and the UPS are $12,200."""
    book = load_book("document")
    parts = {"rtx5090": 3, "server": 1, "nvme-2tb": 2, "switch-10g": 1, "ups-1500w": 1}
    assert sum(book.usd(part, count) for part, count in parts.items()) == 12_200


def test_the_documents_fixed_lines() -> None:
    """§F1: Cloudflare Pro $20, fixed IP $10, Cloud SQL $7.67 (it writes $8), domain $24 a year."""
    book = load_book("document")
    assert [book.usd(one, 1) for one in ("cloudflare-pro", "fixed-ip", "cloud-sql-micro", "domain")] == [
        20,
        10,
        Decimal("7.67"),
        24,
    ]
