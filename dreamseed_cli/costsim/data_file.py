"""Files of data (prices, ranges, failures, ...), validated: all mistakes at once, with their paths."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from dreamseed_cli.core.errors import ErrorGroup, UsageError
from dreamseed_cli.core.toml import read_toml

T = TypeVar("T")


def read_data(path: Path, kind: type[T]) -> T:
    """What a TOML file holds, as `kind`. UsageError or ErrorGroup with every mistake at its path."""
    return validated(read_toml(path), kind, path)


def validated(data: Mapping[str, Any], kind: type[T], path: Path) -> T:
    """The same of data that were read already; `path` names them in errors."""
    try:
        # TOML knows no tuples: JSON's rules of strictness take its arrays for them.
        return TypeAdapter(kind).validate_json(json.dumps(data, default=str))
    except ValidationError as error:
        raise ErrorGroup([_explain(detail, path) for detail in error.errors()]) from error


def _explain(detail: ErrorDetails, path: Path) -> UsageError:
    place = ": ".join([str(path), ".".join(map(str, detail["loc"]))]) if detail["loc"] else str(path)
    remedy = "Remove it, or mind the spelling." if detail["type"] == "extra_forbidden" else ""
    return UsageError(detail["msg"].removeprefix("Value error, "), place=place, remedy=remedy)
