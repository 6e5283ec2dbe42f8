"""When is the next card due, if users grow by so much a month?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from dreamseed_cli.costsim.decisions.capacity import BUSY_SHARE, cards_needed
from dreamseed_cli.costsim.scenario import Scenario, grown

HORIZON = 120
"""Months looked ahead: ten years."""


@dataclass(frozen=True, slots=True)
class Due:
    """From this month on so many cards are needed."""

    month: int
    users: int
    concurrent: int
    cards: int


def schedule(
    scenario: Scenario, growth: float, *, busy_share: float = BUSY_SHARE, months: int = HORIZON
) -> list[Due]:
    """Every month in which more cards become due than the box has and the months before needed.

    growth: a month's, 0.1 for 10 %. Month 0 is now. Empty if the box's cards are enough all the time.
    """
    growing = replace(scenario, monthly_growth=growth)
    found: list[Due] = []
    most = scenario.gpus
    for month in range(months + 1):
        later = grown(growing, month)
        cards = cards_needed(later, busy_share=busy_share)
        if cards > most:
            found.append(Due(month, later.users, later.concurrent, cards))
            most = cards
    return found


def next_card_month(
    scenario: Scenario,
    growth: float,
    holds: Callable[[Scenario], bool],
    *,
    months: int = HORIZON,
) -> int | None:
    """The first month in which this box no longer holds; None if it does to the end.

    `holds` judges one month, by the closed form or by simulation; that it fails only once, for good, is what
    growth means, so a dozen judgements find the month.
    """
    growing = replace(scenario, monthly_growth=growth)
    if not holds(growing):
        return 0
    if growth == 0 or holds(grown(growing, months)):
        return None
    good, bad = 0, months
    while bad - good > 1:
        middle = (good + bad) // 2
        good, bad = (middle, bad) if holds(grown(growing, middle)) else (good, middle)
    return bad
