"""The price of a kWh, from the profile or the price book."""

from __future__ import annotations

import pytest

from dreamseed_cli.bench.electricity import usd_per_kwh
from dreamseed_cli.core.errors import ErrorGroup
from dreamseed_cli.costsim.prices.load import load_book
from dreamseed_cli.profile.load import load_profile


def test_a_profile_may_name_its_own_price() -> None:
    """Its other prices are not the bench's; without one the book's stands."""
    profile = load_profile("laptop")
    own = profile.model_copy(update={"prices": {"electricity-flat": "0.15", "b2-storage": "nonsense"}})
    assert usd_per_kwh(own) == 0.15
    assert usd_per_kwh(profile) == usd_per_kwh(None) == float(load_book().amount("electricity-flat"))


def test_what_is_no_amount_is_told_with_its_place() -> None:
    """Before anything is measured."""
    own = load_profile("laptop").model_copy(update={"prices": {"electricity-flat": "-1"}})
    with pytest.raises(ErrorGroup) as caught:
        usd_per_kwh(own)
    assert [one.place for one in caught.value.causes()] == ["prices.electricity-flat"]
