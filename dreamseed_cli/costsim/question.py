"""What `cost-sim` is asked, put together from options, profile and price book."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from dreamseed_cli.core.errors import UsageError
from dreamseed_cli.costsim.billing.choices import Choices
from dreamseed_cli.costsim.decisions.box_power import BoxPower
from dreamseed_cli.costsim.decisions.ranges import Ranges, shipped_ranges
from dreamseed_cli.costsim.decisions.sweep import concurrent_users
from dreamseed_cli.costsim.document.scenario import ROWS
from dreamseed_cli.costsim.money import decimal
from dreamseed_cli.costsim.prices.load import apply_overrides, load_book
from dreamseed_cli.costsim.prices.schema import PriceBook
from dreamseed_cli.costsim.profile_costs import box_fields, own_prices, own_settings, placed
from dreamseed_cli.costsim.queueing.card import CardModel
from dreamseed_cli.costsim.replica import STATED, replica_of, stated
from dreamseed_cli.costsim.scenario import Scenario
from dreamseed_cli.costsim.settings import Means, Settings, parse_pairs, sort_settings
from dreamseed_cli.estimates.load import load_book as load_figures
from dreamseed_cli.estimates.schema import Book as Figures
from dreamseed_cli.plan.parts import Card
from dreamseed_cli.plan.tables import Tables, shipped
from dreamseed_cli.profile.load import load_profile, with_gpus
from dreamseed_cli.profile.schema import Profile

DEFAULT_PROFILE = "rtx5090x3"
"""The document's box (§B2) with a model that fits it, whatever this machine is."""
_OPTIONS = frozenset({"users", "concurrent"})
"""Fields with an option of their own."""


@dataclass(frozen=True, slots=True)
class Asked:
    """The options, as they were given."""

    users: int
    concurrent: int | None = None
    profile: str = DEFAULT_PROFILE
    gpus: int | None = None
    book: str = "current"
    prices: Path | None = None
    """A file of prices."""
    settings: Sequence[str] = field(default=())
    """`NAME=VALUE` each."""
    bench: Path | None = None
    """A result of `dreamseed bench`, for how fast a card is."""
    power: BoxPower | None = None
    """The box's own record, if there is one."""


@dataclass(frozen=True, slots=True)
class Question:
    """All that an answer needs."""

    scenario: Scenario
    cards: CardModel
    book: PriceBook
    choices: Choices
    means: Means
    profile: Profile
    figures: Figures
    ranges: Ranges
    """Of what nobody has set."""
    known: frozenset[str]
    """What was set, by name."""
    tables: Tables
    bench: Path | None = None
    """The bench result that says how fast a card is."""
    power: BoxPower | None = None
    """The box's own record of its power."""

    @property
    def home(self) -> str:
        """The card in the box, by its name in the tables: the document's where the profile has none."""
        return self.profile.box.gpu_model or "rtx5090"


def question(asked: Asked) -> Question:
    """UsageError or ErrorGroup for whatever cannot be: an unknown name, a share above 1, a box that no
    replica fits.
    """
    profile, tables, figures = _profile(asked), shipped(), load_figures()
    book, own, said = _settings(asked, profile)
    settings = own.then(said)
    scenario = _scenario(asked, profile, tables, (own, said), figures)
    with _settings_named(profile, own, said):
        cards = replica_of(profile, scenario, tables, known=settings.fields, bench=asked.bench)
    if asked.bench is not None or STATED.isdisjoint(settings.fields):
        scenario = stated(scenario, cards, tpot_ms=profile.targets.tpot_ms)
    known = settings.names | _known(asked)
    return Question(
        scenario,
        cards,
        book,
        Choices(**settings.choices),  # type: ignore[arg-type]  # sort_settings has checked every one
        replace(Means(funds_usd=decimal(figures.number("j2-funds-usd"))), **settings.means),
        profile,
        figures,
        shipped_ranges().without(known),
        known,
        tables,
        asked.bench,
        asked.power,
    )


def _known(asked: Asked) -> frozenset[str]:
    """What options of their own say, by the scenario's names."""
    said = {"gpus"} if asked.gpus is not None else set()
    return frozenset(said if asked.bench is None else said | STATED)


def usual_concurrent(users: int, figures: Figures) -> int:
    """Of so many users, those online in the busiest minute, read off §F3's rows."""
    return concurrent_users(users, [figures.get(row) for row in ROWS]) if users > 0 else 0


def _profile(asked: Asked) -> Profile:
    profile = load_profile(asked.profile)
    return with_gpus(profile, asked.gpus) if asked.gpus else profile


def _settings(asked: Asked, profile: Profile) -> tuple[PriceBook, Settings, Settings]:
    """The book with every price that was set, and what the profile and the command line set."""
    book = own_prices(profile, load_book(asked.book, asked.prices))
    own = own_settings(profile, book)
    said = sort_settings(parse_pairs(asked.settings), book, lambda name: f"--set {name}")
    prices = own.then(said).prices
    known = Settings(prices={name: book.amount(name) for name in profile.prices})
    if prices:
        book = apply_overrides(book, prices, lambda name: f"--set {name}")
    return book, known.then(own), said


def _scenario(
    asked: Asked, profile: Profile, tables: Tables, settings: tuple[Settings, Settings], figures: Figures
) -> Scenario:
    own, said = settings
    online = usual_concurrent(asked.users, figures) if asked.concurrent is None else asked.concurrent
    fields: dict[str, Any] = {**box_fields(profile, tables), **own.fields, **said.fields}
    if asked.gpus is not None:
        fields["gpus"] = asked.gpus
    options = _OPTIONS if asked.gpus is None else _OPTIONS | {"gpus"}
    with _settings_named(profile, own, said, options):
        return Scenario(users=asked.users, concurrent=online, **fields)


@contextmanager
def _settings_named(
    profile: Profile, own: Settings, said: Settings, options: frozenset[str] = _OPTIONS
) -> Iterator[None]:
    """A UsageError of a field is one of the place where the field was set."""
    try:
        yield
    except UsageError as error:
        if error.place in options:
            raise UsageError(error.cause, place=f"--{error.place}", remedy=error.remedy) from error
        named = placed(error, said, "--set ")
        raise placed(named, own, f"{profile.name}: costs.") from error


def home_card(one: Question) -> Card:
    """The card in the box. UsageError if no table has it."""
    card = one.tables.cards.get(one.home)
    if card is None:
        known = ", ".join(one.tables.cards)
        raise UsageError(
            f"no card is called '{one.home}'", place="box.gpu_model", remedy=f"Known are: {known}."
        )
    return card
