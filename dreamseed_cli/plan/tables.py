"""The tables of cards and models, as data with their units in their names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from dreamseed_cli.core.data_file import read_data
from dreamseed_cli.core.errors import UsageError
from dreamseed_cli.plan.hf_config import is_model_folder, read_model
from dreamseed_cli.plan.parts import Card, Model

__all__ = ["Card", "Model", "Tables", "cards", "extended", "find_model", "models", "require_model", "shipped"]

_HERE = Path(__file__).resolve().parent


@dataclass(frozen=True, slots=True)
class Tables:
    """Every card by its short name and every model by the name a profile uses."""

    cards: Mapping[str, Card]
    models: Mapping[str, Model]


@cache
def shipped() -> Tables:
    """The tables that come with the package."""
    return Tables(_read_cards(_HERE / "cards.toml"), _read_models(_HERE / "models.toml"))


def cards() -> Mapping[str, Card]:
    """Every card of the shipped table."""
    return shipped().cards


def models() -> Mapping[str, Model]:
    """Every model of the shipped table."""
    return shipped().models


def extended(cards_file: Path | None, models_file: Path | None) -> Tables:
    """The shipped tables with those of files added; a file's line replaces the shipped one of its name."""
    tables = shipped()
    return Tables(
        {**tables.cards, **(_read_cards(cards_file) if cards_file else {})},
        {**tables.models, **(_read_models(models_file) if models_file else {})},
    )


def find_model(tables: Tables, name: str) -> Model | None:
    """A model by its name in the table, or from a folder with its `config.json`; None if it is neither.

    Raises UsageError for a folder whose configuration cannot be computed.
    """
    known = tables.models.get(name)
    if known is None and is_model_folder(name):
        return read_model(name)
    return known


def require_model(tables: Tables, name: str) -> Model:
    """The same; UsageError if it is neither."""
    model = find_model(tables, name)
    if model is None:
        raise UsageError(
            f"no model of this name is in the table: {name}",
            place="--model",
            remedy=f"Known are: {', '.join(tables.models)}. "
            "Others: --models FILE, or a folder with its config.json.",
        )
    return model


def _read_cards(path: Path) -> dict[str, Card]:
    return read_data(path, dict[str, Card])


def _read_models(path: Path) -> dict[str, Model]:
    return read_data(path, dict[str, Model])
