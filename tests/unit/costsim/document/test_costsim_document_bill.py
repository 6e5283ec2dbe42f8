"""The document's tables recomputed, against bills/f1.md and bills/f3.md."""

from decimal import Decimal

import pytest

from dreamseed_cli.core.errors import UsageError
from dreamseed_cli.costsim.document.bill import document_bill, document_rows
from dreamseed_cli.costsim.document.row import Row
from dreamseed_cli.costsim.prices.load import load_book as load_prices
from dreamseed_cli.estimates.load import load_book as load_figures
from dreamseed_cli.estimates.schema import Book, Estimate

_FIGURES = load_figures()
_PRICES = load_prices("document")


def _rows(figures: Book = _FIGURES) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = {}
    for one in document_rows(figures, _PRICES):
        found.setdefault(one.id, []).append(one)
    return found


def _with(estimate_id: str, **changes: object) -> Book:
    """The shipped figures with one changed."""
    changed = [one.model_copy(update=changes) if one.id == estimate_id else one for one in _FIGURES]
    return Book(estimate=tuple(changed))


def _without(estimate_id: str) -> Book:
    return Book.model_construct(estimate=tuple(one for one in _FIGURES if one.id != estimate_id))


@pytest.mark.parametrize(
    ("estimate_id", "recomputed", "difference"),
    [
        ("c1-vcpu-usd", "4.80", "-43.20"),
        ("c1-memory-usd", "1.00", "-9.00"),
        ("c1-total-usd", "6.20", "-51.80"),
        ("c3-storage-usd", "5", "0"),
        ("c3-download-usd", "1", "0"),
        ("c3-total-usd", "6", "0"),
        ("b2-electricity-usd", "129.60", "-0.40"),
        ("f1-electricity-usd", "129.60", "-0.40"),
        ("f1-cloud-run-usd", "6.20", "-43.80"),
        ("f1-cloudflare-usd", "20", "0"),
        ("f1-storage-usd", "6", "-4"),
        ("f1-fixed-ip-usd", "10", "0"),
        ("f1-cloud-sql-usd", "7.67", "-0.33"),
        ("f1-domain-usd", "2", "0"),
        ("f2-total-usd", "12200", "0"),
        ("f2-saving-usd", "1220", "0"),
        ("f2-payback-months", "10", "0"),
        ("f2-saving-2-years-usd", "29280", "0"),
    ],
)
def test_a_line_comes_out_as_worked_by_hand(estimate_id: str, recomputed: str, difference: str) -> None:
    """bills/f1.md, exactly."""
    (found,) = _rows()[estimate_id]
    assert (found.recomputed, found.difference) == (Decimal(recomputed), Decimal(difference))
    assert found.reproduced == (Decimal(difference) == 0)


def test_the_months_total_is_the_sum_of_its_lines_but_not_of_their_prices() -> None:
    """230, 330 and 280 to the cent; 181.47 from the prices."""
    rows = _rows()
    assert [one.recomputed for one in rows["f1-total-usd"]] == [230, 330]
    assert [one.difference for one in rows["f1-total-usd"]] == [0, 0]
    printed, priced = rows["f1-average-usd"]
    assert printed.recomputed == 280
    assert printed.difference == 0
    assert (priced.recomputed, priced.difference) == (Decimal("181.47"), Decimal("-98.53"))
    assert document_bill(_FIGURES, _PRICES).usd == Decimal("181.47")


@pytest.mark.parametrize(
    ("row_id", "cloud_run", "electricity", "columns", "priced"),
    [
        ("f3-1k", "160.704", "43.20", "120", "108.87"),
        ("f3-10k", "803.52", "86.40", "190", "182.07"),
        ("f3-100k", "4821.12", "129.60", "300", "295.27"),
        ("f3-500k", "11249.28", "172.80", "480", "468.47"),
        ("f3-1m", "16070.40", "216", "680", "661.67"),
    ],
)
def test_a_row_of_users(row_id: str, cloud_run: str, electricity: str, columns: str, priced: str) -> None:
    """bills/f3.md, exactly."""
    found = [one.recomputed for one in _rows()[row_id]]
    assert found == [Decimal(one) for one in (cloud_run, electricity, columns, priced)]


def test_only_one_row_of_users_adds_up() -> None:
    """At 500,000 users; the others are off by 20, 10, 10 and -30."""
    off = [_rows()[row][2].difference for row in ("f3-1k", "f3-10k", "f3-100k", "f3-500k", "f3-1m")]
    assert off == [20, 10, 10, 0, -30]


def test_every_price_of_the_document_is_in_its_book() -> None:
    """To the last digit: a price of a second is far below a cent."""
    prices = [one for one in document_rows(_FIGURES, _PRICES) if one.work.endswith("of the book 'document'")]
    assert len(prices) == 10
    assert all(one.reproduced for one in prices)
    (off,) = _rows(_with("c1-vcpu-price-usd", value=0.000025))["c1-vcpu-price-usd"]
    assert not off.reproduced
    assert off.to_data()["difference"] == "-0.000001"


def test_a_row_tells_its_arithmetic() -> None:
    """In one sentence, with the difference."""
    rows = _rows()
    assert rows["c1-vcpu-usd"][0].sentence == (
        "1,000,000 requests x 0.1 s x 2 vCPU x 0.000024 $/vCPU-s = 4.80 USD/month; the document says 48: a "
        "difference of -43.20."
    )
    assert rows["c3-total-usd"][0].sentence.endswith("= 6 USD/month; the document says 5-10: within it.")
    assert rows["f3-500k"][2].sentence.endswith("= 480 USD/month; the document says 480: to the cent.")


def test_todays_prices_and_a_changed_figure_change_the_rows() -> None:
    """Three cards at today's price, or two drives of 300."""
    today = {one.id: one for one in document_rows(_FIGURES, load_prices())}
    assert today["f2-cards-usd"].recomputed == 3 * load_prices().unit_usd("rtx5090")
    dearer = {
        one.id: one for one in document_rows(_FIGURES, _PRICES.with_amounts({"nvme-2tb": Decimal(300)}))
    }
    assert dearer["f2-total-usd"].difference == 200
    half = _rows(_with("b2-hours", value=360.0))
    assert half["b2-electricity-usd"][0].recomputed == Decimal("64.80")


def test_a_missing_or_zero_figure_is_told() -> None:
    """The file of estimates is the user's to edit."""
    with pytest.raises(UsageError, match="at 'estimates': the file has no 'b2-hours'"):
        document_rows(_without("b2-hours"), _PRICES)
    same = Estimate.model_copy(_FIGURES.get("f2-saving-usd"), update={"fields": {"hybrid_usd": 1500}})
    with pytest.raises(UsageError, match="at 'estimates'"):
        document_rows(_with("f2-saving-usd", fields={**same.fields, "full_cloud_usd": 1500}), _PRICES)
