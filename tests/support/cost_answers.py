"""A small answer of `cost-sim` with everything in it, worked out once for all tests that look at it."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from functools import cache

from dreamseed_cli.costsim.answer import Answer, answer
from dreamseed_cli.costsim.money import Currency
from dreamseed_cli.costsim.question import Asked, Question, question
from dreamseed_cli.costsim.report.words import Money
from dreamseed_cli.costsim.study import Effort

TODAY = dt.date(2026, 11, 29)
QUICK = Effort(draws=40, hours=0.05)


@cache
def asked(users: int = 100_000, *settings: str) -> Question:
    """A question about the default box."""
    return question(Asked(users=users, settings=settings))


@cache
def whole_answer() -> Answer:
    """100,000 users with the busiest day, the cheapest box, a sweep of two rows and a budget."""
    effort = Effort(draws=40, hours=0.05, optimise=True, whole_day=True)
    return answer(
        asked(),
        effort,
        sweep="users=1e3..1e4",
        with_study=True,
        budget=Decimal(1000),
        today=TODAY,
        tell=lambda _: None,
    )


def dollars() -> Money:
    """Amounts as they are."""
    return Money(Currency.USD, Decimal(1))
