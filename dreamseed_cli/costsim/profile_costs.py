"""What a profile says to `cost-sim`: its box, its [prices], its [costs]. `profile check` judges the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dreamseed_cli.core.errors import DreamseedError, UsageError
from dreamseed_cli.costsim.prices.load import apply_overrides, load_book
from dreamseed_cli.costsim.prices.schema import PriceBook
from dreamseed_cli.costsim.scenario import Scenario
from dreamseed_cli.costsim.settings import Settings, sort_settings
from dreamseed_cli.plan.tables import Tables, shipped
from dreamseed_cli.profile.schema import EmulatedEngine, Profile

NOBODY = Scenario(users=0, concurrent=0)
"""What is assumed where nothing is said."""


def own_prices(profile: Profile, book: PriceBook) -> PriceBook:
    """The book with the profile's [prices]. ErrorGroup with every mistake, at `PROFILE: prices.NAME`."""
    if not profile.prices:
        return book
    return apply_overrides(book, profile.prices, lambda name: f"{profile.name}: prices.{name}")


def own_settings(profile: Profile, book: PriceBook) -> Settings:
    """The profile's [costs]. ErrorGroup with every mistake, at `PROFILE: costs.NAME`."""
    return sort_settings(profile.costs, book, lambda name: f"{profile.name}: costs.{name}")


def box_fields(profile: Profile, tables: Tables) -> dict[str, float]:
    """What the profile says about the machine, in the scenario's terms."""
    box, card = profile.box, tables.cards.get(profile.box.gpu_model or "")
    replicas = profile.engine.replicas if isinstance(profile.engine, EmulatedEngine) else 0
    found: dict[str, float] = {"gpus": box.gpus or replicas}
    if box.gpu_power_limit_w is not None:
        found["card_loaded_w"] = box.gpu_power_limit_w
    elif card is not None:
        found["card_loaded_w"] = card.board_power_w
    parts = [watts for watts in (box.cpu_power_w, box.other_power_w) if watts is not None]
    if parts:
        found["rest_loaded_w"] = sum(parts)
        found["rest_idle_w"] = min(NOBODY.rest_idle_w, sum(parts))
    return found


def profile_errors(profile: Profile) -> list[UsageError]:
    """All that `cost-sim` would not take of the profile, each at its path."""
    book = load_book()
    return [*_refused(lambda: own_prices(profile, book)), *_refused(lambda: _own_scenario(profile, book))]


def _own_scenario(profile: Profile, book: PriceBook) -> Scenario:
    settings = own_settings(profile, book)
    fields: dict[str, Any] = {**box_fields(profile, shipped()), **settings.fields}
    try:
        return Scenario(users=0, concurrent=0, **fields)
    except UsageError as error:
        raise placed(error, settings, f"{profile.name}: costs.") from error


def _refused(attempt: Callable[[], object]) -> list[UsageError]:
    """The mistakes for which an attempt is refused."""
    try:
        attempt()
    except DreamseedError as error:
        return [one for one in error.causes() if isinstance(one, UsageError)]
    return []


def placed(error: UsageError, settings: Settings, where: str) -> UsageError:
    """An error of a field, at the place where the field was set; as it is, if it was not set there."""
    if error.place not in settings.fields:
        return error
    return UsageError(error.cause, place=f"{where}{error.place}", remedy=error.remedy)
