"""Files of data (cards, prices, ranges, ...), validated: all mistakes at once, with their paths."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from dreamseed_cli.core.errors import ErrorGroup, UsageError
from dreamseed_cli.core.spelling import no_such_key
from dreamseed_cli.core.toml import read_toml

T = TypeVar("T")


def read_data(path: Path, kind: type[T]) -> T:
    """What a TOML file holds, as `kind`. UsageError or ErrorGroup with every mistake at its path."""
    return validated(read_toml(path), kind, path)


def validated(data: Mapping[str, Any], kind: type[T], path: Path) -> T:
    """The same of data that were read already; `path` names them in errors."""
    adapter = TypeAdapter(kind)
    try:
        # TOML knows no tuples: JSON's rules of strictness take its arrays for them.
        return adapter.validate_json(json.dumps(data, default=str))
    except ValidationError as error:
        details = error.errors()
        raise ErrorGroup([mistake(one, _place(one, path), adapter.json_schema) for one in details]) from error


def _place(detail: ErrorDetails, path: Path) -> str:
    return ": ".join([str(path), ".".join(map(str, detail["loc"]))]) if detail["loc"] else str(path)


def mistake(detail: ErrorDetails, place: str, schema: Callable[[], Mapping[str, Any]]) -> UsageError:
    """One of a file's mistakes. schema: makes the JSON Schema of the whole file."""
    if detail["type"] == "extra_forbidden":
        return no_such_key(detail["loc"], place=place, schema=schema())
    return UsageError(detail["msg"].removeprefix("Value error, "), place=place)
