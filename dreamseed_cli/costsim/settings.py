"""What a user sets, by what it is: a field of the scenario, a choice, a price, or the operator's own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from decimal import Decimal
from typing import Any, get_args, get_type_hints

from dreamseed_cli.core.errors import DreamseedError, ErrorGroup, UsageError
from dreamseed_cli.core.spelling import did_you_mean
from dreamseed_cli.costsim.billing.choices import Choices
from dreamseed_cli.costsim.money import amount
from dreamseed_cli.costsim.prices.schema import PriceBook
from dreamseed_cli.costsim.scenario import Scenario

_FIELDS = {one.name: str(one.type) for one in fields(Scenario) if one.name not in {"users", "concurrent"}}
_CHOICES = get_type_hints(Choices)


@dataclass(frozen=True, slots=True)
class Means:
    """What only the operator can say."""

    funds_usd: Decimal
    """To begin with (§J2: 20,000)."""
    usd_per_lost_request: Decimal = Decimal("0.001")
    """What a request is worth that nobody answers. A judgement: a dollar for each thousand."""


_MEANS = tuple(one.name for one in fields(Means))


@dataclass(frozen=True, slots=True)
class Settings:
    """By name; what is not there stays as it is."""

    fields: Mapping[str, float] = field(default_factory=dict)
    choices: Mapping[str, str | int] = field(default_factory=dict)
    prices: Mapping[str, Decimal] = field(default_factory=dict)
    """In each price's own currency."""
    means: Mapping[str, Decimal] = field(default_factory=dict)

    @property
    def names(self) -> frozenset[str]:
        """All that is set: it is known then, and does not vary."""
        return frozenset((*self.fields, *self.choices, *self.prices, *self.means))

    def then(self, later: Settings) -> Settings:
        """Both; the later one's win."""
        return Settings(
            {**self.fields, **later.fields},
            {**self.choices, **later.choices},
            {**self.prices, **later.prices},
            {**self.means, **later.means},
        )


def parse_pairs(texts: Sequence[str]) -> dict[str, str]:
    """`NAME=VALUE` each, as `--set` takes them. ErrorGroup for every text that is none."""
    pairs = [(text, *text.partition("=")) for text in texts]
    wrong: list[DreamseedError] = [
        UsageError(f"'{text}' is no setting", place="--set", remedy="Write it as ai_share=0.02.")
        for text, name, sign, value in pairs
        if not (name.strip() and sign and value.strip())
    ]
    if wrong:
        raise ErrorGroup(wrong)
    return {name.strip(): value.strip() for _, name, _, value in pairs}


def sort_settings(given: Mapping[str, str | float], book: PriceBook, place: Callable[[str], str]) -> Settings:
    """Each value as what it is. ErrorGroup with every unknown name and unfit value, each at its `place`."""
    sorted_: dict[str, dict[str, Any]] = {"fields": {}, "choices": {}, "prices": {}, "means": {}}
    errors: list[DreamseedError] = []
    for name, value in given.items():
        try:
            kind, read = _read(name, value, book)
        except UsageError as error:
            errors.append(UsageError(error.cause, place=place(name), remedy=error.remedy))
            continue
        sorted_[kind][name] = read
    if errors:
        raise ErrorGroup(errors)
    return Settings(**sorted_)


def _read(name: str, value: str | float, book: PriceBook) -> tuple[str, Any]:
    if name in _FIELDS:
        return "fields", _number(value, whole=_FIELDS[name] == "int")
    if name in _CHOICES:
        return "choices", _choice(name, value, book)
    if name in _MEANS:
        return "means", amount(value)
    if name in book.prices or name in book.tariffs:
        return "prices", amount(value)
    remedy = f"{did_you_mean(name, _known(book))} docs/runbooks/cost-sim.md lists the names.".lstrip()
    raise UsageError("no assumption and no price has this name", remedy=remedy)


def _known(book: PriceBook) -> Iterator[str]:
    yield from (*_FIELDS, *_CHOICES, *_MEANS, *book.prices, *book.tariffs)


def _number(value: str | float, *, whole: bool) -> float:
    try:
        number = float(value)
    except ValueError as error:
        raise UsageError(f"'{value}' is not a number", remedy="Write a number such as 0.045.") from error
    if not whole:
        return number
    if not number.is_integer():
        raise UsageError(f"{value} is not a whole number", remedy="Write a number such as 3.")
    return int(number)


def _choice(name: str, value: str | float, book: PriceBook) -> str | int:
    """UsageError for a choice that there is not, or that the book has no price for."""
    known = get_args(_CHOICES[name])
    whole = _CHOICES[name] is int or isinstance(next(iter(known), ""), int)
    read: str | int = int(_number(value, whole=True)) if whole else str(value)
    if known and read not in known:
        raise UsageError(f"there is no '{value}'", remedy=f"Write {', '.join(map(str, known))}.")
    if name == "tariff":
        book.electricity_usd(str(read), 0, 1)
    elif name == "fallback":
        book.fallback_usd(str(read), 0, 0)
    return read
