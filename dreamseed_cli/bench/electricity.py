"""What a kWh costs, for the price of a token."""

from __future__ import annotations

from dreamseed_cli.costsim.prices.load import apply_overrides, load_book
from dreamseed_cli.profile.schema import Profile

_PRICE = "electricity-flat"


def usd_per_kwh(profile: Profile | None) -> float:
    """The amount of a profile's own `[prices]`, else that of the price book; US dollars.

    ErrorGroup if the profile's is no amount.
    """
    own = profile.prices if profile is not None else {}
    amounts = {name: amount for name, amount in own.items() if name == _PRICE}
    return float(apply_overrides(load_book(), amounts, "prices.{}".format).amount(_PRICE))
