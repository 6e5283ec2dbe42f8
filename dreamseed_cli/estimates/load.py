"""Reading the file of figures. All mistakes at once, with their paths."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from dreamseed_cli.core.errors import ErrorGroup, UsageError
from dreamseed_cli.core.spelling import no_such_key
from dreamseed_cli.core.toml import read_toml
from dreamseed_cli.estimates.instruments import every_key, instruments_of, unit_of
from dreamseed_cli.estimates.rules import RULES
from dreamseed_cli.estimates.schema import Book, Estimate

_PACKAGE = Path(__file__).resolve().parent.parent
_MESSAGES = {
    "value": "it should be a number, a range [low, high], or words",
    "check": "it should be setting, price, measured:KEY, computed:KEY or arithmetic:RULE, or a list of these",
}
_INSTALLED = _PACKAGE / "_benchmarks"


def shipped_dir() -> Path:
    """Where the shipped figures and results are: inside an installed package, or the checkout's."""
    return _INSTALLED if _INSTALLED.is_dir() else _PACKAGE.parent / "benchmarks"


def load_book(path: Path | None = None) -> Book:
    """Read and validate a file of figures, the shipped one without a path. UsageError or ErrorGroup."""
    path = path or shipped_dir() / "estimates.toml"
    return parse_book(read_toml(path), source=str(path))


def parse_book(data: Mapping[str, Any], *, source: str) -> Book:
    """Validate the figures; `source` names them in errors."""
    try:
        # TOML knows no tuples: JSON's rules of strictness take its arrays for them.
        book = Book.model_validate_json(json.dumps(data, default=str))
    except ValidationError as error:
        # The first of each place: a union complains once for each of its kinds.
        found = {_path(detail, data): detail for detail in reversed(error.errors())}
        raise ErrorGroup([_explain(path, found[path], source) for path in reversed(found)]) from error
    if wrong := [error for one in book for error in (*_unknown_rules(one, source), *_lost_key(one, source))]:
        raise ErrorGroup(wrong)
    return book


def _unknown_rules(one: Estimate, source: str) -> list[UsageError]:
    remedy = f"Rules are: {', '.join(sorted(RULES))}."
    return [
        UsageError(f"no rule is called '{rule}'", place=f"{source}: {one.id}.check", remedy=remedy)
        for rule in one.rules
        if rule not in RULES
    ]


def _lost_key(one: Estimate, source: str) -> list[UsageError]:
    """A key that nothing writes would wait for its result for ever, and so would one in another unit."""
    key, place = one.result_key, f"{source}: {one.id}.check"
    if key is None:
        return []
    units = {unit_of(each, key) for each in instruments_of(key)}
    if not units and one.needs is None:
        remedy = "Say in 'needs' what measuring it would take, or name one of: " + ", ".join(every_key())
        return [UsageError(f"no instrument writes a result '{key}'", place=place, remedy=f"{remedy}.")]
    if units and one.needs is not None:
        command = instruments_of(key)[0].command
        remedy = "Remove 'needs'."
        return [UsageError(f"'{key}' is measured by `{command}`", place=place, remedy=remedy)]
    if units and one.unit not in units:
        written = ", ".join(sorted(str(unit) for unit in units))
        return [UsageError(f"'{key}' is written in {written}, not in {one.unit}", place=place)]
    return []


def _explain(path: str, detail: ErrorDetails, source: str) -> UsageError:
    place = f"{source}: {path}"
    if detail["type"] == "extra_forbidden":
        return no_such_key(detail["loc"], place=place, schema=Book.model_json_schema())
    message = _MESSAGES.get(path.rpartition(".")[2], detail["msg"].removeprefix("Value error, "))
    return UsageError(message, place=place)


def _path(detail: ErrorDetails, data: Mapping[str, Any]) -> str:
    """`b1-cards.unit`: the figure by its id where it has one, else by its place in the file, from 1."""
    steps: list[int | str] = list(detail["loc"])
    if len(steps) < 2 or steps[0] != "estimate" or not isinstance(steps[1], int):
        return ".".join(str(step) for step in steps) or "estimates"
    entry = data["estimate"][steps[1]]
    given = entry.get("id") if isinstance(entry, dict) else None
    name = given if isinstance(given, str) else f"estimate {steps[1] + 1}"
    # `value` may be of three kinds: the path ends at its name, and does not tell which was tried.
    return ".".join([name, *(str(step) for step in steps[2:3])])
