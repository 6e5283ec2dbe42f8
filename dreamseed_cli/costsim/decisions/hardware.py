"""What is bought (§F2), at a book's prices, and what it brings when it is sold again."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Annotated

from pydantic import Field

from dreamseed_cli.core.data_file import read_data
from dreamseed_cli.costsim.decisions.investment import Wear
from dreamseed_cli.costsim.prices.schema import PriceBook
from dreamseed_cli.profile.part import Part

BESIDE_CARDS: Mapping[str, int] = {"server": 1, "nvme-2tb": 2, "switch-10g": 1, "ups-1500w": 1}
"""§F2's pieces beside the cards, by price id."""
LIFE_MONTHS = 60
"""Over which hardware is written off: five years, an assumption (your tax law may say otherwise)."""

Share = Annotated[Decimal, Field(ge=0, lt=1)]


class Loss(Part):
    """How a piece loses its price."""

    first_year_loss: Share
    yearly_loss: Share
    source: Annotated[str, Field(min_length=1)]


@cache
def shipped_losses() -> dict[str, Loss]:
    """The losses that come with the package, by price id."""
    return read_data(Path(__file__).resolve().with_name("resale.toml"), dict[str, Loss])


def pieces(gpus: int, card: str = "rtx5090") -> dict[str, int]:
    """What a box with so many cards takes, by price id."""
    return {card: gpus, **BESIDE_CARDS}


def bought(book: PriceBook, quantities: Mapping[str, int], losses: Mapping[str, Loss]) -> list[Wear]:
    """Every kind of piece that a loss is known of; what none is known of is taken to bring nothing.

    UsageError for a price that the book does not have.
    """
    return [
        Wear(book.usd(name, count), losses[name].first_year_loss, losses[name].yearly_loss)
        for name, count in quantities.items()
        if name in losses
    ]


def initial_usd(book: PriceBook, quantities: Mapping[str, int]) -> Decimal:
    """The price of all of it. UsageError for a price that the book does not have."""
    return sum((book.usd(name, count) for name, count in quantities.items()), Decimal(0))
