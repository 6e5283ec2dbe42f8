"""What the busiest hour needs of cards and instances, in closed form: a screen before anything is simulated.

These are averages over the busiest hour. Whoever fails them cannot hold, since a queue that gets more than
it can serve only grows; whoever passes may still miss its SLO, which only the simulation tells.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from dreamseed_cli.costsim.scenario import Scenario
from dreamseed_cli.costsim.usage.traffic import traffic
from dreamseed_cli.plan.power import PSU_CONTINUOUS

BUSY_SHARE = 0.8
"""Of a card's time that may be busy in the busiest hour if waits shall stay short. A stated rule of thumb."""


@dataclass(frozen=True, slots=True)
class Needs:
    """The busiest hour. Shares above 1 cannot be served."""

    tok_s: float
    """Tokens to generate per second."""
    card_share: float
    """Of all cards' time; infinite where there is work and no card."""
    instance_share: float
    """Of the places in all instances that may be started."""


def needs(scenario: Scenario) -> Needs:
    """What the busiest hour of the month asks of this scenario's cards and instances."""
    load = traffic(scenario)
    tok_s = load.busiest_answers_s * scenario.answer_tokens
    places = load.busiest_rps * load.plain_share * scenario.plain_request_s
    places += load.busiest_answers_s * scenario.ai_request_s
    return Needs(
        tok_s,
        _share(tok_s, scenario.gpus * scenario.card_tok_s),
        _share(places, scenario.max_instances * scenario.container_concurrency),
    )


def cards_needed(scenario: Scenario, *, busy_share: float = BUSY_SHARE) -> int:
    """Cards for the busiest hour with none busier than that share of the time."""
    return math.ceil(needs(scenario).tok_s / (scenario.card_tok_s * busy_share))


def overloaded(scenario: Scenario, *, psu_w: float | None = None) -> str | None:
    """Why this cannot hold, or None if it may.

    psu_w: the power supply's rating, of which 80 % may be drawn continuously; None if there is no limit.
    """
    found = needs(scenario)
    if found.card_share > 1:
        return f"the busiest hour needs {found.card_share:.0%} of the cards' time"
    if found.instance_share > 1:
        return f"the busiest hour needs {found.instance_share:.0%} of the instances' places"
    draw = scenario.gpus * scenario.card_loaded_w + scenario.rest_loaded_w
    if psu_w is not None and draw > psu_w * PSU_CONTINUOUS:
        return f"it draws {draw:,.0f} W, more than {PSU_CONTINUOUS:.0%} of the PSU's {psu_w:,.0f} W"
    return None


def _share(needed: float, there: float) -> float:
    return needed / there if there else math.inf if needed else 0.0
