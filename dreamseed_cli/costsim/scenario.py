"""What is asked: so many users who behave so, on such a box. Plain numbers, every one of them changeable.

Its fields are the names that `--set`, the uncertainty ranges and the sensitivity ranking use. Amounts of
money are not here: they stand in the price book. Fields are numbers, or of `in_columns` columns (columns.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from operator import attrgetter
from typing import Any, NamedTuple

import numpy as np

from dreamseed_cli.core.errors import UsageError
from dreamseed_cli.costsim.columns import Column, ever

PEOPLE = 1e10
"""More than there are: no service has more users."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """A month of the service. Shares are 0 to 1; the values here are the real traffic model's."""

    users: int
    """Registered users (§F3)."""
    concurrent: int
    """Of them online in the busiest minute (§F3)."""

    # ------------------------------------------------------------------ traffic
    hours: float = 730.0
    """Of the month: a twelfth of a year; §B2 has 720."""
    monthly_growth: float = 0.0
    """By how much users and concurrent grow in a month: 0.1 for 10 % (`grown`)."""
    requests_per_user_min: float = 6.0
    """API requests of a user who is online: §F3 has 10 RPS for 100 of them, that is 6 a minute."""
    peak_to_average: float = 4.0
    """The busiest hour of a normal week over the week's average."""
    surge: float = 1.0
    """How much busier an exam season is."""
    surge_days: float = 0.0
    """Days of the month that are exam season."""
    ai_share: float = 0.03
    """Of API requests that ask for an AI answer: §B1 has 4.5 % at most, 2-3 % usually."""
    static_per_request: float = 5.0
    """Static files (scripts, pictures) that come with an API request (§A2)."""
    cdn_hit: float = 0.95
    """Of static files that the CDN answers (§A2)."""
    cached_question_share: float = 0.5
    """Of API requests that are cacheable questions (§C2)."""
    question_cdn_hit: float = 0.9
    """Of those that the CDN answers."""
    answer_cache_hit: float = 0.7
    """Of AI requests that Redis answers (§I1: 90, 70 and 50 %)."""
    prompt_tokens: float = 300.0
    answer_tokens: float = 200.0
    """§B1."""
    static_kb: float = 50.0
    """Of one static file."""
    api_kb: float = 10.0
    """Of one answer of the API."""

    # ------------------------------------------------------------------ Cloud Run (§C1)
    instance_vcpus: float = 2.0
    instance_gib: float = 4.0
    container_concurrency: int = 100
    min_instances: int = 0
    max_instances: int = 10
    plain_request_s: float = 0.1
    """Seconds an ordinary API request holds its place in an instance."""
    ai_wait_s: float = 0.0
    """Seconds an AI request waits for a card, holding its place all the while; the queueing simulation's."""
    scaling_target: float = 0.8
    """Of container_concurrency at which another instance is started (§C1: 80)."""

    # ------------------------------------------------------------------ the box (§B2)
    gpus: int = 3
    card_loaded_w: float = 575.0
    """What a card draws while it generates: its board power or its power limit."""
    card_idle_w: float = 20.0
    rest_loaded_w: float = 280.0
    """Everything but the cards, at full load."""
    rest_idle_w: float = 120.0
    psu_efficiency: float = 0.89
    cooling: float = 0.0
    """Watts of cooling for each watt of the box: 0 for an open window, 0.3 for air conditioning."""
    card_tok_s: float = 500.0
    """Tokens per second of one busy card (§B1); `plan` or a bench result gives a better one."""
    card_sequences: float = 8.0
    """Answers that a busy card generates at a time and that share card_tok_s (§I2's batch)."""

    # ------------------------------------------------------------------ data (§C3)
    stored_gb_per_1000_users: float = 1.0
    stored_gb_base: float = 100.0
    """Models, system, static files: there at zero users, too."""
    backup_copies: float = 1.3
    """Stored bytes of backups for each byte of data, retention and compression included."""
    snapshot_copies: float = 1.0
    """Bytes in the archive (Glacier) for each byte of data: §A1's daily snapshots, increments included."""

    database_share: float = 0.1
    """Of the users' data, what lies in PostgreSQL and so on the Cloud SQL standby, too."""

    # ------------------------------------------------------------------ failures
    outage_hours: float = 3.65
    """A month's hours in which the box does not answer: 99.5 % of 730 (§J1)."""

    def __post_init__(self) -> None:
        _check(self)
        _check_together(self)

    @property
    def users_gb(self) -> float:
        """The users' data."""
        return self.users / 1000 * self.stored_gb_per_1000_users

    @property
    def stored_gb(self) -> float:
        """All data, without its copies."""
        return self.stored_gb_base + self.users_gb

    @property
    def answer_s(self) -> float:
        """Seconds a busy card takes for one answer, its speed shared between card_sequences."""
        return self.answer_tokens * self.card_sequences / self.card_tok_s

    @property
    def ai_request_s(self) -> float:
        """Seconds a request whose answer must be generated holds its place in an instance."""
        return self.ai_wait_s + self.answer_s


def grown(scenario: Scenario, months: float) -> Scenario:
    """The same service so many months later, with monthly_growth compounded until everybody is a user."""
    factor = min((1 + scenario.monthly_growth) ** months, PEOPLE / max(scenario.users, 1))
    return replace(
        scenario, users=round(scenario.users * factor), concurrent=round(scenario.concurrent * factor)
    )


def in_columns(scenario: Scenario, changed: Mapping[str, Column], count: int) -> Scenario:
    """The scenario `count` times, every field a column, the changed ones as given.

    UsageError if one of them is impossible.
    """
    columns: dict[str, Any] = {name: np.broadcast_to(getattr(scenario, name), count) for name in _NAMES}
    return replace(scenario, **{**columns, **changed})


def draw_of(columns: Scenario, number: int) -> Scenario:
    """One draw's scenario. UsageError if it is impossible."""
    return Scenario(*(getattr(columns, name)[number].item() for name in _NAMES))


SHARES = frozenset(
    {"ai_share", "cdn_hit", "cached_question_share", "question_cdn_hit", "answer_cache_hit", "database_share"}
)
"""Fields from 0 to 1."""
POSITIVE = frozenset(
    {"hours", "container_concurrency", "max_instances", "card_tok_s", "card_sequences", "answer_tokens"}
)
"""Fields above 0; all others may be 0, but not negative."""
FROM_ONE = frozenset({"peak_to_average", "surge"})
"""Fields that are 1 or more."""
FRACTIONS = {"psu_efficiency": "an efficiency", "scaling_target": "a share of an instance"}
"""Fields above 0, up to 1."""
LARGEST = {
    "users": (PEOPLE, "more people than there are"),
    "hours": (8784.0, "more hours than a year has"),
    "monthly_growth": (10.0, "a growth of more than 1,000 % a month"),
    "gpus": (1000.0, "more cards than one house holds"),
}
"""The most that a field may be, and what more would be. Of all others, MOST."""
MOST = 1e10
LEAST = {"psu_efficiency": 0.01, "scaling_target": 0.01}
"""The least of fields that others are divided by; 1e-6 of those that must be above 0."""
STEEPEST = 100.0
"""The highest peak_to_average: a week has but 168 hours."""


class _Limit(NamedTuple):
    """A field that may not be above something that others say."""

    field: str
    most: Callable[[Scenario], float]
    cause: Callable[[Scenario], str]
    remedy: str


def _ordered(low: str, high: str) -> _Limit:
    return _Limit(
        low,
        attrgetter(high),
        lambda one: f"{getattr(one, low):g} is more than {high}, {getattr(one, high):g}",
        f"Lower it, or raise {high}.",
    )


_LIMITS = (
    _Limit(
        "concurrent",
        attrgetter("users"),
        lambda one: f"{one.concurrent:,} users at once are more than the {one.users:,} there are",
        "Lower --concurrent, or raise --users.",
    ),
    _Limit(
        "peak_to_average",
        lambda _: STEEPEST,
        lambda one: f"{one.peak_to_average:g} is steeper than a week of 168 hours can be",
        f"Write {STEEPEST:g} or less.",
    ),
    _Limit(
        "ai_share",
        lambda one: 1 - one.cached_question_share,
        lambda one: (
            f"these {one.ai_share:.1%} and the cacheable questions' "
            f"{one.cached_question_share:.1%} are more than all requests"
        ),
        "Lower it, or cached_question_share.",
    ),
    _ordered("min_instances", "max_instances"),
    _ordered("outage_hours", "hours"),
    _ordered("card_idle_w", "card_loaded_w"),
    _ordered("rest_idle_w", "rest_loaded_w"),
    _Limit(
        "surge_days",
        lambda one: one.hours / 24,
        lambda one: f"{one.surge_days:g} days are more than the month's {one.hours / 24:.4g}",
        "Lower it, or raise hours.",
    ),
)


_NAMES = tuple(field.name for field in fields(Scenario))


def _check(one: Scenario) -> None:
    """UsageError at the first field that makes no sense by itself."""
    for name in _NAMES:
        value = getattr(one, name)
        if isinstance(value, np.ndarray):
            # Whatever a field must be is from some number to another: its least and its most will do.
            _check_value(name, value.min().item())
            _check_value(name, value.max().item())
        else:
            _check_value(name, value)


def _check_value(name: str, value: float) -> None:
    if not 0 <= value < float("inf"):
        raise _unfit(name, f"{value:g} is negative or not a number", "Write 0 or more.")
    if name in SHARES and value > 1:
        raise _unfit(name, f"{value:g} is not a share", "Write 0 to 1: 0.045 for 4.5 %.")
    if name in FROM_ONE and value < 1:
        raise _unfit(name, f"{value:g} is below 1", "Write 1 for no change, or more.")
    if name in POSITIVE and value == 0:
        raise _unfit(name, "0 must be above 0", "Write a positive number.")
    if name in FRACTIONS and not 0 < value <= 1:
        raise _unfit(name, f"{value:g} is not {FRACTIONS[name]}", "Write more than 0, up to 1.")
    most, what = LARGEST.get(name, (MOST, "more than anything here can be"))
    if value > most:
        raise _unfit(name, f"{value:g} is {what}", f"Write {most:,.12g} or less.")
    least = LEAST.get(name, 1e-6 if name in POSITIVE else 0.0)
    if value < least:
        raise _unfit(name, f"{value:g} is too little to be divided by", f"Write {least:g} or more.")


def _check_together(one: Scenario) -> None:
    """UsageError at the field that does not go with another."""
    for limit in _LIMITS:
        above = getattr(one, limit.field) > limit.most(one)
        if ever(above):
            told = draw_of(one, int(np.argmax(above))) if np.ndim(above) else one
            raise _unfit(limit.field, limit.cause(told), limit.remedy)


def _unfit(field: str, cause: str, remedy: str) -> UsageError:
    return UsageError(cause, place=field, remedy=remedy)
