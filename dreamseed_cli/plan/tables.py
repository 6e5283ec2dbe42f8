"""The tables of cards and models, as data with their units in their names."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TypeVar

from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from dreamseed_cli.core.errors import ErrorGroup, UsageError
from dreamseed_cli.core.spelling import no_such_key
from dreamseed_cli.core.toml import read_toml
from dreamseed_cli.plan.hf_config import is_model_folder, read_model
from dreamseed_cli.plan.parts import Card, Model

__all__ = ["Card", "Model", "Tables", "cards", "extended", "find_model", "models", "require_model", "shipped"]

_Line = TypeVar("_Line", Card, Model)
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
    return _validated(TypeAdapter(dict[str, Card]), path)


def _read_models(path: Path) -> dict[str, Model]:
    return _validated(TypeAdapter(dict[str, Model]), path)


def _validated(adapter: TypeAdapter[dict[str, _Line]], path: Path) -> dict[str, _Line]:
    """A table from its file. Raises UsageError or ErrorGroup with every mistake in it."""
    try:
        return adapter.validate_json(json.dumps(read_toml(path), default=str))
    except ValidationError as error:
        raise ErrorGroup([_explain(one, path, adapter) for one in error.errors()]) from error


def _explain(detail: ErrorDetails, path: Path, adapter: TypeAdapter[dict[str, _Line]]) -> UsageError:
    place = f"{path}: {'.'.join(map(str, detail['loc'])) or 'table'}"
    if detail["type"] == "extra_forbidden":
        return no_such_key(str(detail["loc"][-1]), place=place, schema=adapter.json_schema())
    return UsageError(detail["msg"], place=place)
