"""The price books: complete, sourced, overridable, and wrong entries found with their paths."""

from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from dreamseed_cli.commands.cost_sim import BookName
from dreamseed_cli.core.errors import DreamseedError, ErrorGroup, UsageError
from dreamseed_cli.costsim.prices.load import apply_overrides, load_book

_NEEDED = """
cloud-run-cpu cloud-run-memory cloud-run-requests cloud-run-instance-cpu cloud-run-idle-cpu egress
cloudflare-free cloudflare-pro cloudflare-business b2-storage b2-download b2-class-a b2-class-b b2-class-c
r2-storage r2-class-a r2-class-b r2-download cloud-sql-micro glacier-storage glacier-retrieval domain
fixed-ip electricity-flat rtx5090 rtx4090 rtx3090 server nvme-2tb switch-10g ups-1500w psu-2000w full-cloud
cloud-a100-40 cloud-a100-80-spot cloud-h100 cloud-l4-spot fallback-gpt-5-mini-input krw-per-usd
"""


def _file(folder: Path, text: str) -> Path:
    path = folder / "mine.toml"
    path.write_text(text, encoding="utf-8")
    return path


def _places(error: DreamseedError) -> list[str]:
    return [one.place.rpartition(": ")[2].rpartition("/")[2] for one in error.causes()]


@pytest.mark.parametrize("name", [one.value for one in BookName])
def test_every_book_prices_what_the_model_needs(name: str) -> None:
    """Each with a title, a source and a date; what is cheaper as Spot is."""
    book = load_book(name)
    assert not set(_NEEDED.split()) - set(book.prices)
    assert all(one.date is not None for one in book.prices.values())
    assert all(one.date is not None for one in book.tariffs.values())
    for price_id in book.prices:
        if price_id.endswith("-spot"):
            assert book.unit_usd(price_id) < book.unit_usd(price_id.removesuffix("-spot"))


def test_the_documents_prices_name_their_section_and_its_date() -> None:
    """What it does not price is today's."""
    document, current = load_book("document"), load_book()
    assert document.prices["rtx5090"].source.startswith("document §F2")
    assert document.prices["rtx5090"].date == date(2025, 11, 10)
    assert document.unit_usd("rtx5090") == 2000 < current.unit_usd("rtx5090")
    assert document.prices["r2-class-a"] == current.prices["r2-class-a"]


def test_a_price_older_than_the_set_age_is_stale() -> None:
    """Of the day itself, it is not yet; a tariff can be, too."""
    book = load_book()
    oldest = min(one.date for one in book.prices.values() if one.date is not None)
    assert not book.stale(oldest + timedelta(days=30), max_age_days=30)
    stale = {one.id for one in book.stale(oldest + timedelta(days=31), max_age_days=30)}
    assert "kr-general-low" in stale
    assert "rtx5090" not in stale


def test_a_file_changes_the_fields_it_names(tmp_path: Path) -> None:
    """The rest stays; the source becomes the file, and no date is made up for it."""
    path = _file(tmp_path, '[prices.rtx5090]\namount = "2900"\n[prices.egress]\namount = "0.24"\n')
    book, shipped = load_book(overrides=path), load_book()
    assert book.unit_usd("rtx5090") == 2900
    assert (book.prices["rtx5090"].source, book.prices["rtx5090"].date) == ("your own: mine.toml", None)
    assert book.prices["rtx5090"].title == shipped.prices["rtx5090"].title
    assert "rtx5090" not in {one.id for one in book.stale(date(2099, 1, 1))}
    assert shipped.unit_usd("rtx5090") != 2900
    assert book.usd("egress", 1025) == Decimal("0.24") * 1024 + Decimal("0.11")


def test_a_file_adds_a_tariff_of_ones_own(tmp_path: Path) -> None:
    """A complete table needs no shipped one to stand on."""
    path = _file(
        tmp_path,
        """
        [tariffs.village]
        title = "The village's power"
        currency = "USD"
        source = "its leaflet"
        date = 2026-01-01
        vat = "0.1"
        [[tariffs.village.seasons]]
        months = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]
        blocks = [{ up_to = "100", per_kwh = "0.10" }, { per_kwh = "0.20", base = "3" }]
        """,
    )
    book = load_book(overrides=path)
    assert book.electricity_usd("village", 100, 6) == Decimal("11.00")
    assert book.electricity_usd("village", 150, 6) == Decimal("1.1") * (3 + 10 + 10)


def test_every_mistake_of_a_file_is_told_at_once(tmp_path: Path) -> None:
    """Unknown fields, negative amounts, floats, wrong units, texts that are no numbers: each at its path."""
    path = _file(
        tmp_path,
        """
        [prices.rtx5090]
        amount = "-1"
        [prices.domain]
        unit = "furlong"
        [prices.fixed-ip]
        amount = 9.5
        [prices.server]
        amount = "cheap"
        colour = "red"
        [prices.egress]
        up_to = "20000"
        [tariffs.kr-general-low]
        vat = "10"
        """,
    )
    with pytest.raises(ErrorGroup) as caught:
        load_book(overrides=path)
    assert sorted(_places(caught.value)) == [
        "prices.domain.unit",
        "prices.egress",
        "prices.fixed-ip.amount",
        "prices.rtx5090.amount",
        "prices.server.amount",
        "prices.server.colour",
        "tariffs.kr-general-low.vat",
    ]
    assert all(one.place.startswith(f"{path}: ") for one in caught.value.causes())
    assert 'write it in quotes, as "9.5"' in str(caught.value)
    assert "'cheap' is not a number" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "place", "said"),
    [
        ('[prices.rtx5091]\namount = "1"', "prices.rtx5091", "Did you mean rtx5090"),
        ('[tariffs.moon]\nvat = "0"', "tariffs.moon", "A new one needs all of its fields"),
        ('[pricse.rtx5090]\namount = "1"', "pricse", "Tables are: prices, tariffs"),
        ('[prices]\nrtx5090 = "1"', "prices.rtx5090", "it should be a table"),
        ("prices = 3", "prices", "it should be a table"),
        ('[prices.krw-per-usd]\namount = "0"', "mine.toml", "the rate is missing"),
        ('[prices.kr-general-low]\ntitle = "twice"', "prices.kr-general-low.unit", "Field required"),
    ],
)
def test_a_name_that_is_none_is_refused(tmp_path: Path, text: str, place: str, said: str) -> None:
    """With what may have been meant."""
    with pytest.raises(ErrorGroup, match=said) as caught:
        load_book(overrides=_file(tmp_path, text))
    assert place in _places(caught.value)


@pytest.mark.parametrize(
    ("tariff", "said"),
    [
        ("months = [1]\nblocks = [{ per_kwh = '1' }]", "every month from 1 to 12"),
        ("months = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]\nblocks = [{ per_kwh = '0' }]", "must be above 0"),
        (
            "months = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]\nblocks = [{ per_kwh = '1' }]\n"
            "[tariffs.kr-general-low]\nfuel_per_kwh = '-11'",
            "cheaper than nothing",
        ),
        ("months = [13]\nblocks = [{ per_kwh = '1' }]", "less than or equal to 12"),
        ("months = [1]\nblocks = [{ per_kwh = '1' }, { per_kwh = '2' }]", "every block but the last"),
        (
            "months = [1]\nblocks = [{ up_to = '9', base = '5', per_kwh = '1' }, { per_kwh = '2' }]",
            "base must not fall",
        ),
        (
            "months = [1]\nblocks = [{ up_to = '9', per_kwh = '1' }, { up_to = '8', per_kwh = '2' }, "
            "{ per_kwh = '3' }]",
            "up_to must rise",
        ),
    ],
)
def test_a_tariff_that_does_not_hang_together_is_refused(tmp_path: Path, tariff: str, said: str) -> None:
    """Months missing, blocks without an end, fees that fall."""
    with pytest.raises(ErrorGroup, match=said):
        load_book(overrides=_file(tmp_path, f"[[tariffs.kr-general-low.seasons]]\n{tariff}\n"))


_WHOLE = 'unit = "call"\ncurrency = "USD"\nsource = "a leaflet"\ndate = 2026-01-01\n'


@pytest.mark.parametrize(
    ("price", "said"),
    [
        ('title = "A"\namount = "1"\nup_to = "5"', "the last one has none"),
        ('title = "A"\namount = "1"\nmore = [{ amount = "2" }]', "every block but the last one needs up_to"),
        ('title = "A"\namount = "1"\nfree = "5"\nup_to = "5"\nmore = [{ amount = "2" }]', "from above free"),
        ('title = "A"\namount = "0"\nup_to = "5"\nmore = [{ amount = "2" }]', "needs an amount above 0"),
    ],
)
def test_a_price_that_does_not_hang_together_is_refused(tmp_path: Path, price: str, said: str) -> None:
    """Blocks without an end, an end below the free units, nothing to move the others with."""
    with pytest.raises(ErrorGroup, match=said) as caught:
        load_book(overrides=_file(tmp_path, f"[prices.mine]\n{_WHOLE}{price}\n"))
    assert _places(caught.value) == ["prices.mine"]


def test_a_price_of_ones_own_is_added_unless_a_tariff_has_its_name(tmp_path: Path) -> None:
    """Complete with its source and date, which stay as written."""
    text = f'[prices.mine]\n{_WHOLE}title = "A"\namount = "1"\n'
    entry = load_book(overrides=_file(tmp_path, text)).prices["mine"]
    assert (entry.id, entry.source, entry.date) == ("mine", "a leaflet", date(2026, 1, 1))
    with pytest.raises(ErrorGroup, match="both a price and a tariff are called 'kr-general-low'"):
        load_book(overrides=_file(tmp_path, text.replace("mine", "kr-general-low")))


def test_a_profiles_amounts_replace_the_books() -> None:
    """Numbers or texts; a tariff moves as a whole; the source says whose they are."""
    amounts: dict[str, str | float] = {"electricity-flat": 0.15, "rtx5090": "2500", "krw-per-usd": 1400}
    book = apply_overrides(load_book(), {**amounts, "kr-general-low": "264.8"}, str)
    assert book.usd("electricity-flat", 100) == 15
    assert book.usd("rtx5090", 3) == 7500
    assert book.rate == 1400
    assert book.electricity_bill("kr-general-low", 1080, 8).energy == 2 * 142_992
    assert book.electricity_bill("kr-general-low", 1000, 3).energy == 2 * 91_900
    assert book.prices["rtx5090"].source == "your own: prices of the profile"


def test_a_profiles_wrong_amounts_are_all_told() -> None:
    """At `prices.NAME`, as they stand in the profile."""
    wrong: dict[str, str | float] = {
        "rtx": 1, "domain": "-2", "server": "ten", "egress": 0, "kr-general-low": 0, "krw-per-usd": 0,
    }  # fmt: skip
    with pytest.raises(ErrorGroup) as caught:
        apply_overrides(load_book(), wrong, "prices.{}".format)
    assert _places(caught.value) == [f"prices.{name}" for name in wrong]


def test_a_what_if_moves_blocks_in_proportion_and_leaves_the_book_alone() -> None:
    """Its price shows the new amounts; back at the old one, the costs are the old ones."""
    book = load_book()
    dear = book.with_amounts({"egress": Decimal("0.24"), "kr-general-low": Decimal("264.8")})
    assert dear.usd("egress", 20_000) == 2 * book.usd("egress", 20_000)
    assert [dear.amount(one) for one in ("egress", "kr-general-low")] == [Decimal("0.24"), Decimal("264.8")]
    assert dear.price("egress").more[0].amount == Decimal("0.22")
    assert book.price("egress") is book.prices["egress"]
    assert book.amount("egress") == Decimal("0.12")
    free = dear.with_amounts({"egress": Decimal(0), "kr-general-low": Decimal(0)})
    back = free.with_amounts({"egress": Decimal("0.12"), "kr-general-low": Decimal("132.4")})
    assert free.usd("egress", 20_000) == 0
    assert back.usd("egress", 20_000) == book.usd("egress", 20_000)
    assert back.electricity_usd("kr-general-low", 900, 1) == book.electricity_usd("kr-general-low", 900, 1)


def test_the_rate_is_a_price_among_others() -> None:
    """A dearer dollar makes won cheaper, and leaves dollars."""
    book = load_book()
    cheap = book.with_amounts({"krw-per-usd": book.rate * 2})
    assert cheap.usd("krw-per-usd", 3) == 3
    assert cheap.unit_usd("krw-per-usd") == 1
    won = book.electricity_bill("kr-residential-low", 500, 1).total
    assert cheap.electricity_usd("kr-residential-low", 500, 1) == won / (2 * book.rate)
    assert cheap.usd("rtx5090", 1) == book.usd("rtx5090", 1)


def test_what_cannot_be_asked_is_refused_at_its_name() -> None:
    """Unknown prices and tariffs, negative quantities, months that are none, books that are none."""
    book = load_book()
    with pytest.raises(UsageError, match="Did you mean rtx5090") as caught:
        book.usd("rtx509", 1)
    assert caught.value.place == "rtx509"
    for quantity in (-1, float("nan"), float("inf")):
        with pytest.raises(UsageError, match="is not a quantity"):
            book.usd("rtx5090", quantity)
    with pytest.raises(UsageError, match="no tariff is called"):
        book.electricity_usd("rtx5090", 1, 1)
    with pytest.raises(UsageError, match="13 is not a month"):
        book.electricity_usd("kr-general-low", 1, 13)
    with pytest.raises(UsageError, match="Known are: current, document"):
        load_book("tomorrow")


def test_another_contract_changes_the_base_fee_alone() -> None:
    """10 kW instead of the tariff's 5 kW: 61,600 won instead of 30,800."""
    book = load_book()
    ten = book.electricity_bill("kr-general-low", 1080, 8, contract_kw=Decimal(10))
    assert ten.base == 61_600
    assert ten.energy == 142_992
