"""Money: exact, in two currencies."""

from decimal import Decimal

import numpy as np
import pytest

from dreamseed_cli.core.errors import UsageError
from dreamseed_cli.costsim.money import MOST, Currency, amount, decimal, show, to_usd, usd


@pytest.mark.parametrize(
    ("amount", "currency", "shown"),
    [
        ("1234.5", Currency.USD, "$1,234.50"),
        ("0.125", Currency.USD, "$0.13"),
        ("-3", Currency.USD, "-$3.00"),
        ("1234.5", Currency.KRW, "₩1,234,500"),
        ("-0.0004", Currency.KRW, "₩0"),
    ],
)
def test_an_amount_is_shown_as_people_write_it(amount: str, currency: Currency, shown: str) -> None:
    """Cents for dollars, whole won, thousands apart, halves up."""
    assert show(Decimal(amount), currency, Decimal(1000)) == shown


def test_won_become_dollars_at_the_rate() -> None:
    """And dollars stay."""
    assert to_usd(Decimal(2946), Currency.KRW, Decimal(1473)) == 2
    assert to_usd(Decimal(2946), Currency.USD, Decimal(1473)) == 2946


@pytest.mark.parametrize("quantity", [0.1, np.float64(0.1), Decimal("0.1")])
def test_a_quantity_is_the_decimal_it_is_written_as(quantity: float | Decimal) -> None:
    """Not its neighbour in binary, 0.1000000000000000055."""
    assert decimal(quantity) == Decimal("0.1")


@pytest.mark.parametrize("text", ["ten", "", "NaN", "Infinity"])
def test_what_is_no_amount_is_refused(text: str) -> None:
    """With what was written."""
    with pytest.raises(UsageError, match=f"'{text}' is not an amount"):
        usd(text)
    assert usd("12.50") == Decimal("12.5")


@pytest.mark.parametrize("said", ["1e400", "1e16", 1e300])
def test_more_than_all_the_money_there_is_is_refused(said: str | float) -> None:
    """A budget of 1e400 dollars was Infinity in JSON, which JSON does not have."""
    with pytest.raises(UsageError, match="all the money there is"):
        amount(said)
    assert amount("1e15") == MOST
