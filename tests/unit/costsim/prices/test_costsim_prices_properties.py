"""What holds of every price and tariff, whatever is asked."""

from decimal import Decimal

from hypothesis import given, settings
from hypothesis import strategies as st

from dreamseed_cli.costsim.prices.load import load_book
from dreamseed_cli.costsim.prices.schema import RATE, PriceBook

_BOOKS = st.sampled_from([load_book("current"), load_book("document")])
_QUANTITIES = st.decimals(0, 10**9, places=3)
_FACTORS = st.decimals(Decimal("0.01"), 100, places=2)
_MONTHS = st.integers(1, 12)
_TINY = Decimal("1e-9")


def _asked(book: PriceBook) -> set[str]:
    """Every price but the rate, at which a dollar is always a dollar."""
    return set(book.prices) - {RATE}


@given(book=_BOOKS, quantities=st.tuples(_QUANTITIES, _QUANTITIES), factor=_FACTORS)
@settings(max_examples=25, deadline=None)
def test_cost_never_falls_when_quantity_or_price_rises(
    book: PriceBook, quantities: tuple[Decimal, Decimal], factor: Decimal
) -> None:
    """For every price of the book."""
    less, more = sorted(quantities)
    dearer = book.with_amounts({key: book.amount(key) * (1 + factor) for key in _asked(book)})
    for key in book.prices:
        assert 0 <= book.usd(key, less) <= book.usd(key, more) <= dearer.usd(key, more)


@given(book=_BOOKS, kwh=st.tuples(_QUANTITIES, _QUANTITIES), month=_MONTHS, factor=_FACTORS)
@settings(max_examples=50, deadline=None)
def test_electricity_never_gets_cheaper_by_use_or_price(
    book: PriceBook, kwh: tuple[Decimal, Decimal], month: int, factor: Decimal
) -> None:
    """Rounding and base fees included."""
    less, more = sorted(kwh)
    for key in book.tariffs:
        dearer = book.with_amounts({key: book.amount(key) * (1 + factor)})
        costs = [
            book.electricity_usd(key, less, month),
            book.electricity_usd(key, more, month),
            dearer.electricity_usd(key, more, month),
        ]
        assert costs == sorted(costs)


@given(book=_BOOKS, factor=_FACTORS)
@settings(max_examples=25, deadline=None)
def test_no_price_jumps_at_a_blocks_border(book: PriceBook, factor: Decimal) -> None:
    """A hair more costs at most a hair's price more: prices are marginal, at any amount."""
    book = book.with_amounts({key: book.amount(key) * factor for key in _asked(book)})
    for key, price in book.prices.items():
        dearest = max(book.unit_usd(key), *(one.amount for one in book.price(key).more), Decimal(0))
        for border in (price.free, price.up_to, *(one.up_to for one in price.more)):
            if border is not None:
                step = book.usd(key, border + _TINY) - book.usd(key, border)
                assert 0 <= step <= dearest * _TINY * (1 + _TINY)


@given(month=_MONTHS)
@settings(max_examples=12, deadline=None)
def test_a_tariffs_energy_is_marginal_and_its_fee_a_step(month: int) -> None:
    """At a border only the base fee may jump."""
    for tariff in load_book().tariffs.values():
        season = next(one for one in tariff.seasons if month in one.months)
        for block in season.blocks[:-1]:
            assert block.up_to is not None
            assert 0 <= season.energy(block.up_to + _TINY) - season.energy(block.up_to) <= 1000 * _TINY
            assert season.base(block.up_to) <= season.base(block.up_to + _TINY)


@given(book=_BOOKS, stored=_QUANTITIES)
@settings(max_examples=25, deadline=None)
def test_nothing_used_costs_the_base_fee_alone(book: PriceBook, stored: Decimal) -> None:
    """Free units are never paid back."""
    for key, price in book.prices.items():
        assert book.usd(key, 0, of=stored) == price.base
    assert book.electricity_bill("kr-residential-low", 0, 8).energy == 0
    assert book.electricity_bill("kr-general-low", 0, 8).base == 30_800
