"""When is the next card due, if users grow by so much a month?"""

from __future__ import annotations

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
