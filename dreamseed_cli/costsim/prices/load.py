"""Reading the price books, and prices of one's own over them. All mistakes at once, with their paths."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

from dreamseed_cli.core.data_file import validated
from dreamseed_cli.core.errors import DreamseedError, ErrorGroup, UsageError
from dreamseed_cli.core.spelling import did_you_mean
from dreamseed_cli.core.toml import read_toml
from dreamseed_cli.costsim.money import amount
from dreamseed_cli.costsim.prices.schema import RATE, PriceBook, Tables

_HERE = Path(__file__).resolve().parent
_LAYERS = {
    "current": ("prices.toml", "hardware.toml", "electricity.toml"),
    "document": ("prices.toml", "hardware.toml", "electricity.toml", "document.toml"),
}
"""A book's files; a later one's tables go over the earlier ones', field by field."""
_KINDS = ("prices", "tariffs")
_Tables = dict[str, dict[str, Any]]


def load_book(name: str = "current", overrides: Path | None = None) -> PriceBook:
    """A shipped book, with the tables of a file over it.

    In the file, `[prices.ID]` and `[tariffs.ID]` change the fields they name; a complete table adds a price.
    A changed amount without a source and a date of its own has the file as its source, and no date.
    UsageError or ErrorGroup with every mistake: an unknown name, a negative amount, a unit that is none.
    """
    if name not in _LAYERS:
        raise UsageError(
            f"no price book is called '{name}'", place=name, remedy=f"Known are: {', '.join(_LAYERS)}."
        )
    return _shipped(name) if overrides is None else _validated(name, _overridden(name, overrides), overrides)


def apply_overrides(
    book: PriceBook, amounts: Mapping[str, Decimal | str | float], place: Callable[[str], str]
) -> PriceBook:
    """The book with other amounts: name to amount, in the price's own currency.

    ErrorGroup with every mistake, each at its name's `place`.
    """
    errors: list[DreamseedError] = []
    new: dict[str, Decimal] = {}
    for name, value in amounts.items():
        try:
            new[name] = _amount(book, name, value)
        except UsageError as error:
            errors.append(UsageError(error.cause, place=place(name), remedy=error.remedy))
    if errors:
        raise ErrorGroup(errors)
    own = {"source": "your own: prices of the profile", "date": None}
    prices = {
        name: price.at(new[name]).model_copy(update=own) if name in new else price
        for name, price in book.prices.items()
    }
    tariffs = {
        name: tariff.at(new[name]).model_copy(update=own) if name in new else tariff
        for name, tariff in book.tariffs.items()
    }
    return PriceBook.of(book.name, Tables(prices=prices, tariffs=tariffs))


@cache
def _shipped(name: str) -> PriceBook:
    return _validated(name, _merged(name), _HERE / _LAYERS[name][-1])


def _amount(book: PriceBook, name: str, value: Decimal | str | float) -> Decimal:
    """UsageError if there is no such price, or it cannot have this amount."""
    book.amount(name)
    said = amount(value)
    if said == 0 and (name in book.tariffs or book.prices[name].more):
        raise UsageError("several blocks move with this amount: it cannot be 0", remedy="Write more than 0.")
    if said == 0 and name == RATE:
        raise UsageError("a dollar cannot cost nothing", remedy="Write the won that a dollar costs.")
    return said


def _merged(name: str) -> _Tables:
    """The files of a book as one."""
    tables: _Tables = {kind: {} for kind in _KINDS}
    for file in _LAYERS[name]:
        data = read_toml(_HERE / file)
        for kind in _KINDS:
            for entry, fields in data.get(kind, {}).items():
                tables[kind][entry] = {**tables[kind].get(entry, {}), **fields, "id": entry}
    return tables


def _overridden(name: str, path: Path) -> _Tables:
    """A book's tables with a file's over them. ErrorGroup for names that it does not have."""
    tables, data = _merged(name), read_toml(path)
    errors: list[DreamseedError] = [
        UsageError("no such table", place=f"{path}: {key}", remedy=f"Tables are: {', '.join(_KINDS)}.")
        for key in data
        if key not in _KINDS
    ]
    for kind in _KINDS:
        for entry, fields in _entries(data, kind, path, errors).items():
            if entry not in tables[kind] and "title" not in fields:
                errors.append(_unknown(path, kind, entry, tables[kind]))
                continue
            own = {"source": f"your own: {path.name}", "date": None}
            tables[kind][entry] = {**tables[kind].get(entry, {}), **own, **fields, "id": entry}
    if errors:
        raise ErrorGroup(errors)
    return tables


def _entries(data: Mapping[str, Any], kind: str, path: Path, errors: list[DreamseedError]) -> _Tables:
    """The tables of one kind; what is none is added to the errors."""
    given = data.get(kind, {})
    if not isinstance(given, dict):
        errors.append(_no_table(path, kind, f"{kind}.ID"))
        return {}
    wrong = [entry for entry, fields in given.items() if not isinstance(fields, dict)]
    errors.extend(_no_table(path, f"{kind}.{entry}", f"{kind}.{entry}") for entry in wrong)
    return {entry: fields for entry, fields in given.items() if entry not in wrong}


def _no_table(path: Path, place: str, wanted: str) -> UsageError:
    return UsageError(
        "it should be a table", place=f"{path}: {place}", remedy=f"Write [{wanted}], and the fields below it."
    )


def _unknown(path: Path, kind: str, name: str, known: Mapping[str, object]) -> UsageError:
    return UsageError(
        f"no {kind.removesuffix('s')} is called '{name}'",
        place=f"{path}: {kind}.{name}",
        remedy=f"{did_you_mean(name, known)} A new one needs all of its fields, from title on.".lstrip(),
    )


def _validated(name: str, tables: _Tables, path: Path) -> PriceBook:
    return PriceBook.of(name, validated(tables, Tables, path))
