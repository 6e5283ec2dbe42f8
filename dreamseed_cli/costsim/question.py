"""What `cost-sim` is asked, put together from options, profile and price book."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from dreamseed_cli.core.errors import UsageError
from dreamseed_cli.costsim.choices import Choices
from dreamseed_cli.costsim.decisions.ranges import Ranges, shipped_ranges
from dreamseed_cli.costsim.decisions.sweep import concurrent_users
from dreamseed_cli.costsim.document_scenario import ROWS
from dreamseed_cli.costsim.money import decimal
from dreamseed_cli.costsim.prices.load import apply_overrides, load_book
from dreamseed_cli.costsim.prices.schema import PriceBook
from dreamseed_cli.costsim.queueing.card import CardModel
from dreamseed_cli.costsim.replica import STATED, replica_of, stated
from dreamseed_cli.costsim.scenario import Scenario
from dreamseed_cli.costsim.settings import Means, Settings, parse_pairs, sort_settings
from dreamseed_cli.estimates.load import load_book as load_figures
from dreamseed_cli.estimates.schema import Book as Figures
from dreamseed_cli.plan.parts import Card
from dreamseed_cli.plan.tables import Tables, shipped
from dreamseed_cli.profile.load import load_profile, with_gpus
from dreamseed_cli.profile.schema import EmulatedEngine, Profile

DEFAULT_PROFILE = "rtx5090x3"
"""The document's box (§B2) with a model that fits it, whatever this machine is."""
_BASE = Scenario(users=0, concurrent=0)


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

    @property
    def home(self) -> str:
        """The card in the box, by its name in the tables: the document's where the profile has none."""
        return self.profile.box.gpu_model or "rtx5090"


def question(asked: Asked) -> Question:
    """UsageError or ErrorGroup for whatever cannot be: an unknown name, a share above 1, a box that no
    replica fits.
    """
    profile, tables, figures = _profile(asked), shipped(), load_figures()
    book, settings = _settings(asked, profile)
    scenario = _scenario(asked, profile, tables, settings, figures)
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


def _settings(asked: Asked, profile: Profile) -> tuple[PriceBook, Settings]:
    """The book with every price that was set, and all settings: the command line's over the profile's."""
    book = load_book(asked.book, asked.prices)
    if profile.prices:
        book = apply_overrides(book, profile.prices)
    own = sort_settings(profile.costs, book, lambda name: f"profile '{profile.name}': costs.{name}")
    said = sort_settings(parse_pairs(asked.settings), book, lambda name: f"--set {name}")
    both = own.then(said)
    if both.prices:
        book = apply_overrides(book, both.prices)
    known = Settings(prices={name: book.amount(name) for name in profile.prices})
    return book, known.then(both)


def _scenario(
    asked: Asked, profile: Profile, tables: Tables, settings: Settings, figures: Figures
) -> Scenario:
    online = usual_concurrent(asked.users, figures) if asked.concurrent is None else asked.concurrent
    own: dict[str, Any] = {**_box(profile, tables), **settings.fields}
    if asked.gpus is not None:
        own["gpus"] = asked.gpus
    return Scenario(users=asked.users, concurrent=online, **own)


def _box(profile: Profile, tables: Tables) -> dict[str, float]:
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
        found["rest_idle_w"] = min(_BASE.rest_idle_w, sum(parts))
    return found


def home_card(one: Question) -> Card:
    """The card in the box. UsageError if no table has it."""
    card = one.tables.cards.get(one.home)
    if card is None:
        known = ", ".join(one.tables.cards)
        raise UsageError(
            f"no card is called '{one.home}'", place="box.gpu_model", remedy=f"Known are: {known}."
        )
    return card
